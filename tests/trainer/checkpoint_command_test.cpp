#include <gtest/gtest.h>

#include <memory>

#include "base/file.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/tiny_hf.hpp"
#include "trainer/commands/checkpoint.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;
using testing::Tiny;

// What the command printed; it must succeed.
std::string printed(const ExportHfOptions& options) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::tmpfile(), std::fclose);
  EXPECT_EQ(run_checkpoint_export_hf(options, out.get()), 0);
  std::string text(1000, '\0');
  std::rewind(out.get());
  text.resize(std::fread(text.data(), 1, text.size(), out.get()));
  return text;
}

TEST(CheckpointCommand, ExportsARunAndSaysWhatItWrote) {
  const ScratchDirectory scratch;
  Tiny().write(scratch.at("run/model"));
  EXPECT_EQ(scratch.relative(printed({scratch.at("run"), scratch.at("out"), {}, true})),
            "would write DIR/out: 55 tensors, 0.008 MB\n");
  EXPECT_FALSE(path_exists(scratch.at("out")));
  EXPECT_EQ(scratch.relative(printed({scratch.at("run"), scratch.at("out"), {}, false})),
            "wrote DIR/out: 55 tensors, 0.008 MB\n");
  EXPECT_TRUE(read_file(scratch.at("out/model.safetensors")) == read_file(scratch.at("run/model/model.safetensors")));
  printed({scratch.at("out"), scratch.at("narrow"), DType::bf16, false});
  EXPECT_LT(read_file(scratch.at("narrow/model.safetensors")).size(),
            read_file(scratch.at("out/model.safetensors")).size());
}

TEST(CheckpointCommand, RefusesBeforeItWrites) {
  const ScratchDirectory scratch;
  const auto refusal = [&](Exit code, const ExportHfOptions& options) {
    return scratch.relative(error_of(code, [&] { run_checkpoint_export_hf(options, stdout); }));
  };
  EXPECT_EQ(refusal(Exit::bad_data, {scratch.at("m"), scratch.at("out"), {}, false}), "DIR/m: no such directory");
  Tiny tiny;
  tiny.write(scratch.at("m"));
  create_directory(scratch.at("out"));
  for (const bool dry : {false, true})
    EXPECT_EQ(refusal(Exit::bad_config, {scratch.at("m"), scratch.at("out"), {}, dry}),
              "DIR/out: exists already; nothing is overwritten");
  tiny.drop("model.norm.weight");
  tiny.write(scratch.at("bad"));
  EXPECT_EQ(refusal(Exit::bad_data, {scratch.at("bad"), scratch.at("new"), {}, false}),
            "DIR/bad: tensor \"model.norm.weight\" [4] is missing");
  EXPECT_FALSE(path_exists(scratch.at("new")));
}

TEST(CheckpointCommand, FormatsByName) {
  EXPECT_EQ(dtype_from_option("fp32"), DType::f32);
  EXPECT_EQ(dtype_from_option("bf16"), DType::bf16);
  EXPECT_EQ(error_of(Exit::bad_config, [] { dtype_from_option("fp8"); }),
            "--dtype fp8: FP8 checkpoints are not built yet");
  EXPECT_EQ(error_of(Exit::usage, [] { dtype_from_option("float"); }), "--dtype float: expected fp32, bf16 or fp8");
}

}  // namespace
}  // namespace tael
