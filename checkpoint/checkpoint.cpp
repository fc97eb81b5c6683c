#include "checkpoint/checkpoint.hpp"

#include <algorithm>

#include "base/hash.hpp"
#include "checkpoint/store.hpp"

namespace tael {

namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;

// Whether numbers [first, first + count) of `from` lie in rows that `to` has.
bool shares_rows(const Box& from, uint64_t first, uint64_t count, const Box& to) {
  const int64_t cols = from.shape.size() == 2 ? from.extent[1] : 1;
  const int64_t begin = from.offset[0] + static_cast<int64_t>(first) / cols;
  const int64_t last = from.offset[0] + static_cast<int64_t>(first + count - 1) / cols;
  return begin < to.offset[0] + to.extent[0] && last >= to.offset[0];
}

// Of a directory that has the name of a step: whoever renamed or copied it to another's would set its run back.
void require_own_name(const std::string& path, const RunState& state) {
  const size_t end = path.find_last_not_of('/') + 1, begin = path.find_last_of('/', end - 1) + 1;
  const std::string name = path.substr(begin, end - begin);
  if (!state.training || name == CheckpointStore::name(state.step) || !CheckpointStore::is_name(name)) return;
  fail(Exit::bad_data, "{}: holds step {}; its name was {}", path, state.step, CheckpointStore::name(state.step));
}

}  // namespace

bool Checkpoint::is_at(const std::string& path) { return path_exists(path + "/" + std::string(kManifestName)); }

RunState Checkpoint::read_state(const std::string& path) {
  if (!is_directory(path)) fail(Exit::bad_data, "{}: no such checkpoint", path);
  const std::string manifest = path + "/" + std::string(kManifestName);
  const RunState state = Manifest::parse_state(read_file(manifest, kMaxManifestBytes, Exit::bad_data), manifest);
  require_own_name(path, state);
  return state;
}

Checkpoint Checkpoint::open(const std::string& path) {
  if (!is_directory(path)) fail(Exit::bad_data, "{}: no such checkpoint", path);
  Checkpoint c;
  c.path_ = path;
  const std::string manifest = path + "/" + std::string(kManifestName);
  c.manifest_ = Manifest::parse(read_file(manifest, kMaxManifestBytes, Exit::bad_data), manifest);
  require_own_name(path, c.state());
  for (size_t f = 0; f < c.manifest_.files.size(); ++f) c.files_.push_back(c.open_shard(f));
  for (size_t i = 0; i < c.manifest_.boxes.size(); ++i) {
    const Box& box = c.manifest_.boxes[i].box;
    const auto [at, is_new] = c.by_path_.try_emplace(box.path(), c.tensors_.size());
    if (is_new) {
      c.tensors_.push_back(Box::whole(box.kind, box.name, box.dtype, box.shape));
      c.parts_.emplace_back();
    }
    c.parts_[at->second].push_back(i);
  }
  return c;
}

File Checkpoint::open_shard(size_t f) const {
  const StoredFile& stored = manifest_.files[f];
  const std::string path = path_ + "/" + stored.name;
  if (!path_exists(path)) {
    const auto in_it = [&](const StoredBox& box) { return box.file == f; };
    const auto first = std::ranges::find_if(manifest_.boxes, in_it);
    if (first == manifest_.boxes.end()) fail(Exit::bad_data, "{}: no such file", path);
    fail(Exit::bad_data, "{}: no such file; with it {} and {} more are gone", path, in_words(first->box),
         std::ranges::count_if(manifest_.boxes, in_it) - 1);
  }
  File file = File::open(path, Exit::bad_data);
  const uint64_t bytes = file.size();
  if (bytes < stored.bytes)
    fail(Exit::bad_data, "{}: is cut in {}: it has {} bytes, {} were written", path, place_in_words(f, bytes), bytes,
         stored.bytes);
  if (bytes > stored.bytes)
    fail(Exit::bad_data, "{}: has {} bytes, {} were written: somebody added some behind {}", path, bytes, stored.bytes,
         place_in_words(f, stored.bytes - 1));
  return file;
}

std::string Checkpoint::place_in_words(size_t f, uint64_t at) const {
  for (const StoredBox& stored : manifest_.boxes)
    if (stored.file == f && at >= stored.offset && at - stored.offset < stored.box.bytes()) return in_words(stored.box);
  return "its HDF5 structure";
}

const Box* Checkpoint::find(StateKind kind, const std::string& name) const {
  const auto found = by_path_.find(Box::whole(kind, name, DType::f32, {1}).path());
  return found == by_path_.end() ? nullptr : &tensors_[found->second];
}

void Checkpoint::read_block(const StoredBox& stored, uint64_t block, std::byte* out) const {
  const uint64_t begin = block * kBlockBytes;
  const size_t bytes = static_cast<size_t>(std::min(kBlockBytes, stored.box.bytes() - begin));
  const File& file = files_[stored.file];
  file.read_at(stored.offset + begin, out, bytes);
  if (crc32c(out, bytes) != stored.crc32c[block])
    fail(Exit::bad_data, "{}: {} is damaged between bytes {} and {} of the file", file.path(), in_words(stored.box),
         stored.offset + begin, stored.offset + begin + bytes);
}

void Checkpoint::read(const Box& box, void* out) const {
  const auto found = by_path_.find(box.path());
  CHECK(found != by_path_.end() && tensors_[found->second].shape == box.shape &&
            tensors_[found->second].dtype == box.dtype,
        "{}: {}", path_, in_words(box));
  auto* to = static_cast<std::byte*>(out);
  std::vector<std::byte> scratch;
  const uint64_t width = size_of(box.dtype);
  for (const size_t part : parts_[found->second]) {
    const StoredBox& stored = manifest_.boxes[part];
    const bool direct = stored.box.offset == box.offset && stored.box.extent == box.extent;
    if (!direct) scratch.resize(static_cast<size_t>(std::min(kBlockBytes, stored.box.bytes())));
    for (uint64_t block = 0; block < stored.crc32c.size(); ++block) {
      const uint64_t begin = block * kBlockBytes, bytes = std::min(kBlockBytes, stored.box.bytes() - begin);
      if (!direct && !shares_rows(stored.box, begin / width, bytes / width, box)) continue;
      if (direct) {
        read_block(stored, block, to + begin);
      } else {
        read_block(stored, block, scratch.data());
        copy_shared(stored.box, static_cast<int64_t>(begin / width), static_cast<int64_t>(bytes / width),
                    scratch.data(), box, to);
      }
    }
  }
}

void Checkpoint::read_range(const Box& tensor, int64_t first, int64_t count, void* out) const {
  CHECK(tensor.is_whole() && first >= 0 && count >= 0 && count <= tensor.elements() - first, "{}", in_words(tensor));
  const int64_t cols = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
  auto* to = static_cast<std::byte*>(out);
  while (count > 0) {  // the rest of a row, whole rows, the start of a row
    const int64_t row = first / cols, col = first % cols;
    const int64_t wide = std::min(cols - col, count), tall = wide == cols ? count / cols : 1;
    Box box = tensor;
    box.offset[0] = row;
    box.extent[0] = tall;
    if (tensor.shape.size() == 2) {
      box.offset[1] = col;
      box.extent[1] = wide;
    }
    read(box, to);
    to += box.bytes();
    first += box.elements();
    count -= box.elements();
  }
}

std::string Checkpoint::read_text(const std::string& name) const {
  const Box* box = find(StateKind::text, name);
  if (box == nullptr) fail(Exit::bad_data, "{}: holds no file '{}'", path_, name);
  std::string text(box->bytes(), '\0');
  read(*box, text.data());
  return text;
}

uint64_t Checkpoint::bytes() const {
  uint64_t sum = 0;
  for (const StoredFile& file : manifest_.files) sum += file.bytes;
  return sum;
}

void Checkpoint::verify_box(const StoredBox& stored, std::vector<std::byte>& scratch) const {
  scratch.resize(kBlockBytes);
  for (uint64_t block = 0; block < stored.crc32c.size(); ++block) read_block(stored, block, scratch.data());
}

void Checkpoint::verify_gap(size_t f, const Gap& gap, std::vector<std::byte>& scratch) const {
  scratch.resize(kBlockBytes);
  uint32_t sum = 0;
  for (uint64_t at = 0; at < gap.bytes; at += kBlockBytes) {
    const size_t bytes = static_cast<size_t>(std::min(kBlockBytes, gap.bytes - at));
    files_[f].read_at(gap.offset + at, scratch.data(), bytes);
    sum = crc32c(scratch.data(), bytes, sum);
  }
  if (sum != gap.crc32c)
    fail(Exit::bad_data, "{}: its HDF5 structure is damaged between bytes {} and {}, no tensor's numbers are",
         files_[f].path(), gap.offset, gap.offset + gap.bytes);
}

void Checkpoint::verify(const std::function<void(uint64_t)>& progress) const {
  std::vector<std::byte> scratch;
  uint64_t done = 0;
  const auto passed = [&](uint64_t bytes) {
    done += bytes;
    if (progress) progress(done);
  };
  for (const StoredBox& stored : manifest_.boxes) {
    verify_box(stored, scratch);
    passed(stored.box.bytes());
  }
  for (size_t f = 0; f < files_.size(); ++f) {
    for (const Gap& gap : manifest_.files[f].gaps) {
      verify_gap(f, gap, scratch);
      passed(gap.bytes);
    }
  }
}

void Checkpoint::verify_beside_tensors() const {
  std::vector<std::byte> scratch;
  for (const StoredBox& stored : manifest_.boxes)
    if (stored.box.kind == StateKind::text) verify_box(stored, scratch);
  for (size_t f = 0; f < files_.size(); ++f)
    for (const Gap& gap : manifest_.files[f].gaps) verify_gap(f, gap, scratch);
}

}  // namespace tael
