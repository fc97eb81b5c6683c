#include "trainer/commands/eval.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "base/print.hpp"
#include "checkpoint/hf_import.hpp"
#include "cost/machine.hpp"
#include "cost/memory_plan.hpp"
#include "data/order1.hpp"
#include "data/tokenizer.hpp"
#include "parallel/agree.hpp"
#include "trainer/console.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/execution.hpp"
#include "trainer/trained_model.hpp"

namespace tael {

namespace {

// The yardstick for a model of bytes, where the very text that it was trained on is still there and whole.
std::optional<double> order1_bits_per_byte(const TrainedModel& trained, const std::vector<TokenShard>& shards) {
  const auto of_bytes = [](const TokenShard& shard) { return shard.info().tokenizer == ByteTokenizer::kName; };
  if (trained.train_shards.empty() || trained.digests.size() != trained.train_shards.size() ||
      !std::ranges::all_of(shards, of_bytes))
    return std::nullopt;
  Order1Model model;
  try {
    const std::vector<TokenShard> train = open_shards(trained.train_shards, ShardVerify::all);
    for (size_t i = 0; i < train.size(); ++i) {
      if (to_hex(train[i].info().digest) != trained.digests[i]) return std::nullopt;
      model.fit(train[i]);
    }
    if (!std::ranges::all_of(train, of_bytes)) return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // gone, or damaged: nothing that the evaluation needs
  }
  Order1Score total;
  for (const TokenShard& shard : shards) {
    const Order1Score score = model.score(shard);
    total.nats += score.nats;
    total.targets += score.targets;
    total.text_bytes += score.text_bytes;
  }
  return total.bits_per_byte();
}

void print(const EvalResult& result, std::optional<double> order1, bool masked, bool as_json, std::FILE* out) {
  const std::optional<double> bits = result.bits_per_byte();
  if (as_json) {
    JsonWriter json;
    json.begin_object().field("loss", result.loss()).field("ppl", result.ppl());
    json.key("bits_per_byte");
    bits ? json.value(*bits) : json.null();
    json.field("tokens", result.targets);
    if (order1) json.field("order1_bits_per_byte", *order1);
    json.end_object();
    print_to(out, "{}\n", json.text());
    return;
  }
  print_to(out, "loss           {:.5f} nats a token\nperplexity     {:.4f}\n", result.loss(), result.ppl());
  if (bits) print_to(out, "bits per byte  {:.4f}", *bits);
  if (bits && order1)
    print_to(out, "   (an order-1 byte model fitted on the same training text: {:.4f}; ratio {:.3f})", *order1,
             *bits / *order1);
  print_to(out, "{}tokens         {}\n", bits ? "\n" : "", grouped(result.targets));
  if (masked) print_to(out, "attention      inside documents only, as in its training\n");
}

}  // namespace

int run_eval(const EvalOptions& options, Comm& comm, std::FILE* out) {
  const Execution execution = choose_execution(comm, std::nullopt, "auto");
  ThreadPool pool(execution.threads);
  const Stream stream(pool, execution.isa);
  const LocalTokenExchange exchange;

  struct Input {
    ModelSource source;
    ModelShape shape;
    TrainedModel trained;
    std::vector<TokenShard> shards;
    int64_t seq_length = 0;
    int32_t separator = -1;
  };
  Input in = agreed(comm, [&] {
    if (options.compute != "fp32") {
      const bool known = options.compute == "bf16" || options.compute == "fp8";
      fail(known ? Exit::bad_config : Exit::usage, "--compute {}: {}", options.compute,
           known ? "not built yet; fp32" : "expected fp32, bf16 or fp8");
    }
    ModelSource source = open_model(options.model);
    const ModelShape shape = read_hf_shape(*source.files);
    TrainedModel trained = training_of(source, options.search);
    std::vector<TokenShard> shards = open_shards(options.data, ShardVerify::all);
    for (const TokenShard& shard : shards) require_vocab(shard.info(), shape.vocab_size);
    const int64_t length = options.seq_length.value_or(trained.seq_length.value_or(shape.max_position_embeddings));
    if (length > shape.max_position_embeddings)
      fail(Exit::bad_config, "--seq-length {}: the model has {} positions (max_position_embeddings)", length,
           shape.max_position_embeddings);
    require_targets(shards);
    const int32_t separator = trained.document_mask ? document_separator(shards) : -1;
    return Input{std::move(source), shape, std::move(trained), std::move(shards), length, separator};
  });
  // A training that goes on may have published another checkpoint meanwhile.
  const std::string& files = in.source.files->path();
  agree_equal(comm, "the model's files", xxh3_64(files.data(), files.size()), Exit::bad_data);
  if (comm.rank() == 0) print_warnings(in.source, stderr);
  // No window is longer than its shard, and a few thousand tokens keep the GEMMs busy.
  int64_t longest = 1;
  for (const TokenShard& shard : in.shards) longest = std::max(longest, shard.tokens() - 1);
  const int64_t positions = std::min(in.seq_length, longest);
  constexpr int64_t kTokens = 4096;
  const int64_t batch = std::clamp<int64_t>(kTokens / positions, 1, 64);

  Network network(in.shape, MtpHidden::after_final_norm, exchange, positions);
  const ParamTable& table = network.table();
  const MemoryPlan plan = plan_evaluation_memory(network, pool, {{batch, positions}}, 1);
  agreed(comm, [&] {
    require_memory(plan.total(), comm.local_size(), options.model,
                   "a shorter --seq-length needs less, fewer ranks need less together");
  });
  Arena weights_arena("weights", plan.weights), saved("activations", plan.activations),
      scratch("scratch", plan.scratch);
  const Vec<float> params = weights_arena.vec<float>(table.size()),
                   biases = weights_arena.vec<float>(table.bias_size());
  agreed(comm, [&] { import_parameters(*in.source.files, table, params, biases); });
  const EvalResult result = *evaluate(comm, {.network = network,
                                             .stream = stream,
                                             .saved = saved,
                                             .scratch = scratch,
                                             .segments = 1,
                                             .weights = {params.data, biases.data},
                                             .shards = in.shards,
                                             .seq_length = in.seq_length,
                                             .batch = batch,
                                             .separator = in.separator});
  if (!std::isfinite(result.nats))
    throw AgreedError(Exit::run_failed, fmt::format("{}: the loss is not finite", options.model));
  agreed_by(comm, comm.rank() == 0,
            [&] { print(result, order1_bits_per_byte(in.trained, in.shards), in.separator >= 0, options.json, out); });
  return 0;
}

Verb eval_verb() {
  const auto o = std::make_shared<EvalOptions>();
  const auto at_least_one = [](const std::string& text) {
    return text.starts_with('-') || text == "0" ? "a whole number of at least 1 is needed" : "";
  };
  const auto work = [o](const VerbContext& context, Comm& comm) {
    o->search = context.search;
    return run_eval(*o, comm, stdout);
  };
  return {.name = "eval",
          .does = "how well a model predicts held-out data",
          .options =
              {{"model", &o->model, "a run, a checkpoint or a Hugging Face directory", {.required = true}},
               {"--data", &o->data, "token shards (tael data prepare)", {.required = true}},
               {"--seq-length",
                &o->seq_length,
                "tokens of a window (default: what the run was trained with, else max_position_embeddings)",
                {.check = at_least_one}},
               {"--compute", &o->compute, "fp32; bf16 and fp8 are not built yet", {.words = {"fp32", "bf16", "fp8"}}},
               {"--json", &o->json, "loss, ppl, bits_per_byte and tokens as one JSON object"}},
          .work = work,
          .examples =
              "  tael eval runs/first --data valid.h5\n"
              "  tael eval ~/models/deepseek-v2-lite --data valid.h5 --seq-length 4096 --json"};
}

}  // namespace tael
