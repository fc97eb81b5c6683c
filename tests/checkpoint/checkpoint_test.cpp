#include "checkpoint/checkpoint.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/h5_file.hpp"
#include "checkpoint/shard_file.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::Random;
using testing::ScratchDirectory;

Box part(const Box& whole, std::vector<int64_t> offset, std::vector<int64_t> extent) {
  Box box = whole;
  box.offset = std::move(offset);
  box.extent = std::move(extent);
  return box;
}

std::vector<float> cut(const std::vector<float>& all, const Box& box) {
  std::vector<float> out(static_cast<size_t>(box.elements()));
  copy_shared(Box::whole(box.kind, box.name, box.dtype, box.shape), 0, static_cast<int64_t>(all.size()),
              reinterpret_cast<const std::byte*>(all.data()), box, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

// A small checkpoint of two shards: a matrix in four quarters, moments, a vector, a file, an empty tensor.
class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(path_);
    matrix_ = random_.normals(7 * 5);
    moment_ = random_.normals(7 * 5);
    large_ = random_.normals(600'001);  // more than two blocks
    const auto quarter = [&](int64_t row, int64_t col, int64_t rows, int64_t cols) {
      const Box box = part(matrix_box_, {row, col}, {rows, cols});
      kept_.push_back(cut(matrix_, box));
      return BoxData{box, kept_.back().data()};
    };
    kept_.reserve(8);
    const std::vector<BoxData> first = {quarter(0, 0, 3, 2), {large_box_, large_.data()}, {text_box_, text_.data()}};
    Manifest manifest = write_shard(path_, {.step = 3, .tokens = 768, .samples = 3, .shard = 0, .shards = 2}, first);
    // One box of a tensor in a shard: the other quarters go to further shards.
    manifest.append(write_shard(path_, {.step = 3, .shard = 1, .shards = 4},
                                {quarter(3, 0, 4, 2), {moment_box_, moment_.data()}, {empty_box_, nullptr}}));
    manifest.append(write_shard(path_, {.step = 3, .shard = 2, .shards = 4}, {quarter(0, 2, 3, 3)}));
    manifest.append(write_shard(path_, {.step = 3, .shard = 3, .shards = 4}, {quarter(3, 2, 4, 3)}));
    manifest.state = {.training = true,
                      .step = 3,
                      .samples = 3,
                      .tokens = 768,
                      .attempt = 2,
                      .seed = -5,
                      .reduction_lanes = 4,
                      .reduction_segments = 2,
                      .sample_order = 1,
                      .tokenizer = "bytes",
                      .data = {"ab", "cd"},
                      .ledger = {{"compute", 1.25}, {"startup", 0.5}},
                      .software = "test"};
    manifest_text_ = manifest.text();
    directory_.write("c/manifest.json", manifest_text_);
  }

  ScratchDirectory directory_;
  const std::string path_ = directory_.at("c");
  Random random_{3};
  const Box matrix_box_ = Box::whole(StateKind::weight, "model.norm.weight", DType::f32, {7, 5});
  const Box moment_box_ = Box::whole(StateKind::exp_avg, "model.norm.weight", DType::f32, {7, 5});
  const Box large_box_ = Box::whole(StateKind::weight, "lm_head.weight", DType::f32, {600'001});
  const Box text_box_ = Box::whole(StateKind::text, "config.yaml", DType::u8, {9});
  const Box empty_box_ = Box::whole(StateKind::weight, "empty", DType::bf16, {0, 4});
  const std::string text_ = "seed: 12\n";
  std::vector<float> matrix_, moment_, large_;
  std::vector<std::vector<float>> kept_;
  std::string manifest_text_;
};

TEST_F(CheckpointTest, AnyRangeOfATensorIsReadByItself) {
  const Checkpoint checkpoint = Checkpoint::open(path_);
  for (int64_t first = 0; first < 35; ++first) {  // of a matrix in four quarters
    for (int64_t count = 0; first + count <= 35; ++count) {
      std::vector<float> out(static_cast<size_t>(count + 1), -7.0f);
      checkpoint.read_range(matrix_box_, first, count, out.data());
      for (int64_t i = 0; i < count; ++i)
        ASSERT_EQ(out[static_cast<size_t>(i)], matrix_[static_cast<size_t>(first + i)]);
      ASSERT_EQ(out.back(), -7.0f);
    }
  }
  std::vector<float> out(300'000);  // across the borders of blocks
  for (const int64_t first : {0, 1, 262'143, 262'144, 300'001}) {
    checkpoint.read_range(large_box_, first, 300'000, out.data());
    EXPECT_TRUE(std::equal(out.begin(), out.end(), large_.begin() + first));
  }
  checkpoint.read_range(empty_box_, 0, 0, nullptr);
}

TEST_F(CheckpointTest, ReadsWhatWasWritten) {
  const Checkpoint c = Checkpoint::open(path_);
  EXPECT_EQ(c.state().seed, -5);
  EXPECT_EQ(c.state(), Manifest::parse(manifest_text_, "m").state);
  EXPECT_EQ(c.tensors().size(), 5u);
  EXPECT_EQ(c.read_text("config.yaml"), text_);
  std::vector<float> out(35);
  c.read(matrix_box_, out.data());
  EXPECT_EQ(out, matrix_);
  c.read(moment_box_, out.data());
  EXPECT_EQ(out, moment_);
  std::vector<float> large(large_.size());
  c.read(large_box_, large.data());
  EXPECT_EQ(large, large_);
  c.verify();
  EXPECT_EQ(c.find(StateKind::exp_avg_sq, "model.norm.weight"), nullptr);
  EXPECT_EQ(error_of(Exit::bad_data, [&] { c.read_text("x"); }), path_ + ": holds no file 'x'");
}

TEST_F(CheckpointTest, ReadsAnyOtherCut) {
  const Checkpoint c = Checkpoint::open(path_);
  for (int64_t row = 0; row < 7; ++row)
    for (int64_t rows = 1; row + rows <= 7; ++rows)
      for (int64_t col = 0; col < 5; ++col)
        for (int64_t cols = 1; col + cols <= 5; ++cols) {
          const Box box = part(matrix_box_, {row, col}, {rows, cols});
          std::vector<float> out(static_cast<size_t>(box.elements()));
          c.read(box, out.data());
          ASSERT_EQ(out, cut(matrix_, box)) << row << " " << col << " " << rows << " " << cols;
        }
  const Box middle = part(large_box_, {262'143}, {262'146});  // three blocks
  std::vector<float> out(static_cast<size_t>(middle.elements()));
  c.read(middle, out.data());
  EXPECT_EQ(out, cut(large_, middle));
}

TEST_F(CheckpointTest, AnyHdf5ToolFindsTheNumbersWhereTheManifestSays) {
  const Checkpoint c = Checkpoint::open(path_);
  const Manifest& m = c.manifest();
  for (const StoredBox& stored : m.boxes) {
    if (stored.box.elements() == 0) continue;
    const H5Reader reader(path_ + "/" + m.files[stored.file].name, Exit::bad_data);
    const H5Reader::Dataset dataset = reader.dataset(stored.box.path());
    EXPECT_EQ(dataset.region.offset, stored.offset);
    EXPECT_EQ(dataset.region.bytes, stored.box.bytes());
    EXPECT_EQ(reader.text_attribute(stored.box.path(), "dtype"), safetensors_name(stored.box.dtype));
    EXPECT_EQ(reader.has_attribute(stored.box.path(), "box_offset"), !stored.box.is_whole());
  }
  const H5Reader reader(path_ + "/shard-00000.h5", Exit::bad_data);
  EXPECT_EQ(reader.int_attribute("/", "tokens"), 768);
  EXPECT_EQ(reader.text_attribute("/", "format"), "tael-checkpoint");
}

// Interleaved as the trainer names them, one kind after the other as they lie: the names of one group at a time are
// what HDF5 must keep at hand (with 450,000 boxes it wrote and read 50 MB for every further name).
TEST_F(CheckpointTest, AShardIsLaidOutKindByKind) {
  std::vector<BoxData> boxes;
  for (const char* name : {"b", "a", "c"})
    for (const StateKind kind : {StateKind::weight, StateKind::exp_avg, StateKind::exp_avg_sq})
      boxes.push_back({Box::whole(kind, name, DType::f32, {7, 5}), matrix_.data()});
  std::filesystem::create_directory(directory_.at("kinds"));
  const Manifest manifest = write_shard(directory_.at("kinds"), {.shard = 0, .shards = 1}, boxes);  // by their place
  ASSERT_EQ(manifest.boxes.size(), 9u);
  for (size_t i = 0; i < 9; ++i) {
    EXPECT_EQ(manifest.boxes[i].box.kind, boxes[i / 3].box.kind) << i;
    EXPECT_EQ(manifest.boxes[i].box.name, boxes[3 * (i % 3)].box.name) << i;
  }
}

TEST_F(CheckpointTest, EqualStateGivesEqualBytes) {
  std::filesystem::create_directory(directory_.at("again"));
  write_shard(directory_.at("again"), {.step = 3, .shard = 2, .shards = 4},
              {{kept_.size() > 2 ? BoxData{part(matrix_box_, {0, 2}, {3, 3}), kept_[2].data()} : BoxData{}}});
  EXPECT_EQ(read_file(directory_.at("again/shard-00002.h5")), read_file(path_ + "/shard-00002.h5"));
}

TEST_F(CheckpointTest, AMissingShardAndAForeignOne) {
  std::filesystem::rename(path_ + "/shard-00001.h5", path_ + "/gone");
  EXPECT_EQ(error_of(Exit::bad_data, [&] { Checkpoint::open(path_); }),
            path_ + "/shard-00001.h5: no such file; with it tensor \"empty\" and 2 more are gone");
  // Of the same length, but another step's.
  std::filesystem::create_directory(directory_.at("other"));
  std::vector<float> other = moment_;
  other[4] += 1;
  write_shard(
      directory_.at("other"), {.step = 3, .shard = 1, .shards = 4},
      {{part(matrix_box_, {3, 0}, {4, 2}), kept_[1].data()}, {moment_box_, other.data()}, {empty_box_, nullptr}});
  std::filesystem::rename(directory_.at("other/shard-00001.h5"), path_ + "/shard-00001.h5");
  const std::string message = error_of(Exit::bad_data, [&] { Checkpoint::open(path_).verify(); });
  EXPECT_NE(message.find("exp_avg of tensor \"model.norm.weight\" is damaged"), std::string::npos) << message;
}

// A manifest that is consistent with itself but not with its tensors: somebody wrote it so.
TEST_F(CheckpointTest, BoxesMustTileTheirTensors) {
  const auto refused = [&](const auto& change) {
    Manifest m = Manifest::parse(manifest_text_, "m");
    change(m);
    return error_of(Exit::bad_data, [&] { Manifest::parse(m.text(), "m"); });
  };
  const auto box_of = [](Manifest& m, const std::vector<int64_t>& offset) -> Box& {
    for (StoredBox& stored : m.boxes)
      if (stored.box.offset == offset && stored.box.kind == StateKind::weight) return stored.box;
    throw std::logic_error("no such box");
  };
  EXPECT_EQ(refused([&](Manifest& m) {
              box_of(m, {3, 0}).offset = {2, 0};
            }),
            "m: tensor \"model.norm.weight\": two boxes overlap");
  EXPECT_EQ(refused([&](Manifest& m) {
              box_of(m, {3, 0}).offset = {4, 0};
            }),
            "m: tensor \"model.norm.weight\": a box lies outside its shape [7, 5]");
  EXPECT_EQ(refused([&](Manifest& m) {
              for (StoredBox& stored : m.boxes)
                if (stored.box.name == "model.norm.weight" && stored.box.kind == StateKind::weight)
                  stored.box.shape = {8, 5};
            }),
            "m: tensor \"model.norm.weight\": its boxes do not fill it");
  EXPECT_EQ(refused([&](Manifest& m) {
              box_of(m, {3, 0}).dtype = DType::i32;
            }),
            "m: tensor \"model.norm.weight\": its boxes differ in format or shape");
  EXPECT_EQ(refused([&](Manifest& m) { m.files[2].bytes += 1; }), "m: its parts do not make up shard-00002.h5");
  EXPECT_NE(refused([&](Manifest& m) { m.files[2].name = "../x.h5"; }).find("is no name of a shard"),
            std::string::npos);
  EXPECT_EQ(refused([](Manifest&) {}), "no error");
}

}  // namespace
}  // namespace tael
