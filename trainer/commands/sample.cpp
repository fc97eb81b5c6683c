#include "trainer/commands/sample.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <memory>

#include "base/print.hpp"
#include "checkpoint/hf_import.hpp"
#include "cost/machine.hpp"
#include "data/tokenizer.hpp"
#include "data/utf8.hpp"
#include "model/decoder.hpp"
#include "model/sampling.hpp"
#include "parallel/agree.hpp"
#include "trainer/console.hpp"
#include "trainer/execution.hpp"
#include "trainer/trained_model.hpp"

namespace tael {

namespace {

constexpr int64_t kChunk = 128;  // tokens of a prompt that are read at a time

using Steady = std::chrono::steady_clock;
double seconds_since(Steady::time_point begin) { return std::chrono::duration<double>(Steady::now() - begin).count(); }

void check_options(const SampleOptions& o) {
  if (o.prompt && o.prompt_ids) fail(Exit::usage, "--prompt and --prompt-ids: give one of them");
  if (!o.prompt && !o.prompt_ids) fail(Exit::usage, "--prompt or --prompt-ids is required");
  if (o.prompt && o.prompt->empty()) fail(Exit::usage, "--prompt: is empty; a model continues a text");
  if (o.tokens && *o.tokens < 1) fail(Exit::usage, "--tokens {}: at least 1 is needed", *o.tokens);
  if (!std::isfinite(o.temperature) || o.temperature < 0)
    fail(Exit::usage, "--temperature {}: a number from 0 (greedy) on is needed", o.temperature);
  if (o.top_p && !(*o.top_p > 0 && *o.top_p <= 1))
    fail(Exit::usage, "--top-p {}: a number above 0, at most 1, is needed", *o.top_p);
  if (o.temperature == 0 && o.top_p)
    fail(Exit::usage, "--top-p and --temperature 0: greedy text draws nothing; leave one of them out");
  if (o.print_ids && o.no_echo) fail(Exit::usage, "--no-echo and --print-ids: the prompt's numbers are never printed");
  if (o.compute != "fp32") {
    const bool known = o.compute == "bf16" || o.compute == "fp8";
    fail(known ? Exit::bad_config : Exit::usage, "--compute {}: {}", o.compute,
         known ? "not built yet; fp32" : "expected fp32, bf16 or fp8");
  }
}

std::vector<int32_t> parse_ids(const std::string& text) {
  std::vector<int32_t> ids;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    int32_t id = -1;
    const char *first = text.data() + begin, *end = text.data() + comma;
    const auto [at, error] = std::from_chars(first, end, id);
    if (error != std::errc() || at != end || id < 0)
      fail(Exit::usage, "--prompt-ids: '{}' is no token number; numbers are separated by commas: 1,2,3",
           std::string(first, end));
    ids.push_back(id);
    begin = comma + 1;
  }
  return ids;
}

struct Input {
  ModelSource source;
  ModelShape shape;
  bool bytes = false;  // the tokenizer
  std::vector<int32_t> prompt;
  int64_t tokens = 0;
};

Input read_input(const SampleOptions& o) {
  check_options(o);
  Input in;
  if (o.prompt_ids) in.prompt = parse_ids(*o.prompt_ids);
  in.source = open_model(o.model);
  in.shape = read_hf_shape(*in.source.files);
  const std::string tokenizer = training_of(in.source, o.search).tokenizer;
  in.bytes = tokenizer == ByteTokenizer::kName;
  if (!in.bytes && (o.prompt || !o.print_ids))
    fail(Exit::bad_config, "{}: {}; {}", o.model,
         tokenizer.empty() ? "nothing says what its tokens stand for"
                           : "its tokenizer, " + tokenizer + ", is not built yet",
         o.prompt ? "give the prompt as numbers: --prompt-ids 1,2,3 --print-ids" : "--print-ids prints numbers");
  if (o.prompt) {
    in.prompt.resize(o.prompt->size());
    ByteTokenizer::encode(*o.prompt, in.prompt.data());
  }
  for (const int32_t id : in.prompt)
    if (id >= in.shape.vocab_size)
      fail(Exit::bad_config, "{} {}: the model's vocabulary has {} tokens",
           o.prompt ? "--prompt: token" : "--prompt-ids:", id, in.shape.vocab_size);
  const int64_t length = static_cast<int64_t>(in.prompt.size()), room = in.shape.max_position_embeddings - length;
  if (room < o.tokens.value_or(1))
    fail(Exit::bad_config, "a prompt of {} and {} more do not fit the model's {} positions (max_position_embeddings)",
         count_of(length, "token"), o.tokens.value_or(1), in.shape.max_position_embeddings);
  in.tokens = o.tokens.value_or(std::min(kSampleTokens, room));
  return in;
}

// Where the continuation goes, and the form it takes there.
class Printer {
 public:
  Printer(const SampleOptions& options, std::FILE* out) : ids_(options.print_ids), out_(out) {
    if (!ids_ && !options.no_echo && options.prompt) {
      for (const char byte : *options.prompt) utf8_.feed(byte, text_);
      flush();
    }
  }

  void token(int32_t token) {
    if (ids_) {
      fmt::format_to(std::back_inserter(text_), "{}{}", std::exchange(first_, false) ? "" : ",", token);
    } else if (ByteTokenizer::text_bytes(token) == 1) {
      utf8_.feed(static_cast<char>(token), text_);
    } else {
      utf8_.finish(text_);
      text_ += ByteTokenizer::decode({&token, 1});
    }
    flush();
  }
  void finish() {
    utf8_.finish(text_);
    text_ += '\n';
    flush();
  }

 private:
  void flush() {
    if (std::fwrite(text_.data(), 1, text_.size(), out_) != text_.size() || std::fflush(out_) != 0)
      fail(Exit::io, "the output could not be written");
    text_.clear();
  }

  bool ids_, first_ = true;
  std::FILE* out_;
  Utf8Stream utf8_;
  std::string text_;
};

struct DecodingMemory {
  size_t weights = 0, cache = 0, scratch = 0;
  size_t total() const { return weights + cache + scratch; }
};

// The same calls as below on arenas that only measure.
DecodingMemory plan_decoding(const ParamTable& table, const TokenExchange& exchange, ThreadPool& pool,
                             int64_t positions) {
  Arena weights = Arena::measuring(), cache = Arena::measuring(), scratch = Arena::measuring();
  const Weights w{weights.vec<float>(table.size()).data, weights.vec<float>(table.bias_size()).data};
  Decoder decoder(cache, table, exchange, positions);
  cache.vec<float>(table.shape.vocab_size);
  const auto extend = [&](int64_t tokens) {
    Context context{Stream::dry(pool), scratch};
    Arena other = Arena::measuring();
    decoder.extend(context, w, other.vec<int32_t>(tokens), other.mat<float>(1, table.shape.vocab_size));
  };
  while (decoder.length() < positions - 1) extend(std::min(kChunk, positions - 1 - decoder.length()));
  extend(1);
  return {weights.peak(), cache.peak(), scratch.peak()};
}

}  // namespace

int run_sample(const SampleOptions& options, Comm& comm, std::FILE* out, std::FILE* err) {
  if (comm.size() > 1)
    throw AgreedError(Exit::usage, fmt::format("sample runs on one rank; {} were started", comm.size()));
  const Execution execution = choose_execution(comm, std::nullopt, "auto");
  ThreadPool pool(execution.threads);
  const Stream stream(pool, execution.isa);
  const LocalTokenExchange exchange;
  const Input in = read_input(options);
  print_warnings(in.source, err);

  const ParamTable table = make_param_table(in.shape);
  const int64_t length = static_cast<int64_t>(in.prompt.size()), positions = length + in.tokens;
  const DecodingMemory memory = plan_decoding(table, exchange, pool, positions);
  require_memory(memory.total(), 1, options.model, "a shorter prompt and fewer --tokens need less");
  Arena weights_arena("weights", memory.weights), cache("cache", memory.cache), scratch("scratch", memory.scratch);
  const Vec<float> params = weights_arena.vec<float>(table.size()),
                   biases = weights_arena.vec<float>(table.bias_size());
  import_parameters(*in.source.files, table, params, biases);
  const Weights weights{params.data, biases.data};
  Decoder decoder(cache, table, exchange, positions);
  const Vec<float> logits = cache.vec<float>(in.shape.vocab_size);
  TokenSampler sampler({.temperature = options.temperature,
                        .top_p = options.top_p.value_or(1.0),
                        .seed = static_cast<uint64_t>(options.seed.value_or(0))},
                       in.shape.vocab_size);
  Context context{stream, scratch};
  const auto read = [&](const int32_t* tokens, int64_t count, bool scored) {
    decoder.extend(context, weights, vec(tokens, count),
                   scored ? mat(logits.data, 1, in.shape.vocab_size) : Mat<float>{});
    stream.synchronize();
  };

  Printer printer(options, out);
  const Steady::time_point began = Steady::now();
  for (int64_t begin = 0; begin < length; begin += kChunk) {
    const int64_t count = std::min(kChunk, length - begin);
    read(in.prompt.data() + begin, count, begin + count == length);
  }
  const double prompt_seconds = seconds_since(began);
  const int64_t end_of_text = in.bytes ? ByteTokenizer::kEndOfSentence : in.shape.eos_token_id;
  const Steady::time_point continued = Steady::now();
  int64_t generated = 0;
  bool ended = false;
  while (generated < in.tokens && !ended) {
    const int32_t token = sampler.choose(logits, length + generated);
    if (token < 0)
      fail(Exit::run_failed, "{}: the logits after {} are not finite", options.model,
           count_of(length + generated, "token"));
    ++generated;
    ended = token == end_of_text && !options.ignore_eos;
    if (!ended || options.print_ids) printer.token(token);
    if (generated < in.tokens && !ended) read(&token, 1, true);
  }
  printer.finish();
  const double seconds = seconds_since(continued);
  print_to(err, "prompt of {} in {:.2f} s; {} in {:.2f} s, {:.1f} tokens/s{}\n", count_of(length, "token"),
           prompt_seconds, count_of(generated, "token"), seconds, static_cast<double>(generated) / seconds,
           ended ? "; the text ends here" : "");
  return 0;
}

Verb sample_verb() {
  const auto o = std::make_shared<SampleOptions>();
  const auto work = [o](const VerbContext& context, Comm& comm) {
    o->search = context.search;
    return run_sample(*o, comm, stdout, stderr);
  };
  return {
      .name = "sample",
      .does = "continue a text, token by token",
      .options =
          {{"model", &o->model, "a run, a checkpoint or a Hugging Face directory", {.required = true}},
           {"--prompt",
            &o->prompt,
            "the text to continue, read as training reads it: nothing is put in front",
            {.kind = ValueKind::none}},
           {"--prompt-ids", &o->prompt_ids, "or its tokens: 1,2,3", {.kind = ValueKind::none}},
           {"--tokens", &o->tokens, fmt::format("generate at most so many (default: {}, or what fits)", kSampleTokens)},
           {"--temperature", &o->temperature, "0 takes the likeliest token each time (default: 1)"},
           {"--top-p", &o->top_p, "draw from the likeliest tokens that reach this probability (default: 1)"},
           {"--seed", &o->seed, "another number gives another text (default: 0)"},
           {"--print-ids", &o->print_ids, "print the generated tokens as numbers"},
           {"--no-echo", &o->no_echo, "print the continuation without the prompt"},
           {"--ignore-eos", &o->ignore_eos, "go on behind the token that ends a text"},
           {"--compute", &o->compute, "fp32; bf16 and fp8 are not built yet", {.words = {"fp32", "bf16", "fp8"}}}},
      .work = work,
      .examples =
          "  tael sample runs/first --prompt 'The command' --temperature 0.7 --top-p 0.9\n"
          "  tael sample ~/models/deepseek-v2-lite --prompt-ids 100000,549 --print-ids --temperature 0"};
}

}  // namespace tael
