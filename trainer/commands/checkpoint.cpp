#include "trainer/commands/checkpoint.hpp"

#include "checkpoint/hf_copy.hpp"
#include "checkpoint/hf_import.hpp"
#include "checkpoint/model_source.hpp"

namespace tael {

DType dtype_from_option(const std::string& word) {
  if (word == "fp32") return DType::f32;
  if (word == "bf16") return DType::bf16;
  if (word == "fp8") fail(Exit::bad_config, "--dtype fp8: FP8 checkpoints are not built yet");
  fail(Exit::usage, "--dtype {}: expected fp32, bf16 or fp8", word);
}

int run_checkpoint_export_hf(const ExportHfOptions& options, std::FILE* out) {
  const ModelSource source = open_model(options.model);
  const ParamTable table = make_param_table(read_hf_shape(*source.files));
  check_hf_tensors(*source.files, table);
  const HfContent content = plan_model_copy(*source.files, table, options.dtype);
  const uint64_t bytes = check_hf_target(options.out, content);
  if (!options.dry_run) copy_model(*source.files, table, options.out, options.dtype);
  const bool large = bytes >= 1'000'000'000;
  fmt::print(out, "{} {}: {} tensors, {:.3f} {}\n", options.dry_run ? "would write" : "wrote", options.out,
             content.tensors.size(), static_cast<double>(bytes) * (large ? 1e-9 : 1e-6), large ? "GB" : "MB");
  return static_cast<int>(Exit::done);
}

}  // namespace tael
