#include "trainer/config_rules.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace tael {

namespace {

using Keys = std::initializer_list<std::string_view>;

[[noreturn]] void refuse_key(const LoadedConfig& loaded, std::string_view key, Keys others,
                             const std::string& message) {
  std::vector<std::string> keys{std::string(key)};
  keys.insert(keys.end(), others.begin(), others.end());
  loaded.reading.refuse_clash(keys, loaded.files.front(), message);
}

struct RuleScope {
  const LoadedConfig& loaded;
  const Config& config;
  std::string_view rule;
  std::optional<int64_t> data_ranks = {};  // nothing: not known yet

  template <class... Args>
  [[noreturn]] void refuse_clash(std::string_view key, Keys others, fmt::format_string<Args...> format,
                                 Args&&... args) const {
    refuse_key(loaded, key, others, fmt::format("{} [{}]", fmt::format(format, std::forward<Args>(args)...), rule));
  }
  template <class... Args>
  [[noreturn]] void refuse(std::string_view key, fmt::format_string<Args...> format, Args&&... args) const {
    refuse_clash(key, {}, format, std::forward<Args>(args)...);
  }
  bool given(std::string_view key) const { return loaded.reading.given(key); }
};

int64_t nearest_multiple(int64_t value, int64_t of) { return std::max(of, (value + of / 2) / of * of); }

// The divisor of `number` nearest to `wanted`, the smaller of two equally near ones.
int64_t nearest_divisor(int64_t number, int64_t wanted) {
  const auto fits = [&](int64_t d) { return d >= 1 && number % d == 0; };
  wanted = std::min(wanted, number);
  constexpr int64_t kFarthest = 1'000'000;
  for (int64_t distance = 0; distance < std::min(wanted, kFarthest); ++distance) {
    if (fits(wanted - distance)) return wanted - distance;
    if (fits(wanted + distance)) return wanted + distance;
  }
  return 1;
}

void required(const RuleScope& r) {
  if (r.config.run.dir.empty()) r.refuse("run.dir", "must be given");
  if (r.config.data.train.empty()) r.refuse("data.train", "must be given");
  if (!r.given("model.hidden_size")) r.refuse("model", "must be given");
}

void one_length(const RuleScope& r) {
  const TrainingOptions& t = r.config.training;
  if (!t.train_tokens && !t.train_steps) r.refuse("training.train_tokens", "must be given, or training.train_steps");
}

void sizes_fit(const RuleScope& r) {
  const TrainingOptions& t = r.config.training;
  int64_t largest = 0, tokens = 0;
  for (const Schedule::Point& point : t.global_batch_size.steps.points) {
    if (!t.global_batch_size.ramp) largest = std::max(largest, static_cast<int64_t>(point.value));
  }
  if (const auto& ramp = t.global_batch_size.ramp) {
    constexpr int64_t kMostParts = 1'000'000;
    largest = ramp->end;
    if ((ramp->end - ramp->start) / ramp->increment > kMostParts) {
      r.refuse("training.global_batch_size", "a ramp of more than {} increments", kMostParts);
    }
    int64_t product = 0;
    if (__builtin_mul_overflow(ramp->over_tokens, (ramp->end - ramp->start) / ramp->increment + 1, &product)) {
      r.refuse("training.global_batch_size", "the ramp is too large for 64 bits");
    }
  }
  bool overflow = __builtin_mul_overflow(largest, t.seq_length, &tokens);
  if (overflow || tokens > (int64_t{1} << 50)) {
    r.refuse_clash("training.global_batch_size", {"training.seq_length"},
                   "{} sequences of training.seq_length {} are more tokens a step than 2^50", largest, t.seq_length);
  }
  int64_t total = 0;
  if (t.train_steps && __builtin_mul_overflow(tokens, *t.train_steps, &total)) {
    r.refuse_clash("training.train_steps", {"training.global_batch_size"},
                   "{} steps of {} tokens are more tokens than 64 bits count", *t.train_steps, tokens);
  }
  if (t.train_tokens && *t.train_tokens > (int64_t{1} << 62)) {
    r.refuse("training.train_tokens", "{} tokens are more than 2^62", *t.train_tokens);
  }
}

void length_fits_model(const RuleScope& r) {
  const ModelShape& shape = r.config.model.shape;
  const int64_t length = r.config.training.seq_length;
  if (length > shape.max_position_embeddings) {
    r.refuse_clash("training.seq_length", {"model.max_position_embeddings"},
                   "{} is longer than model.max_position_embeddings {}; at most that{}", length,
                   shape.max_position_embeddings, shape.rope_scaling ? " (YaRN included)" : "");
  }
  if (length <= shape.num_nextn_predict_layers) {
    r.refuse_clash("training.seq_length", {"model.num_nextn_predict_layers"},
                   "{} leaves no target at model.num_nextn_predict_layers {}; at least {}", length,
                   shape.num_nextn_predict_layers, shape.num_nextn_predict_layers + 1);
  }
}

void cosine_goes_down(const RuleScope& r) {
  const LrSchedulerOptions& o = r.config.lr_scheduler;
  if (!o.decay.phases.empty() || o.decay.shape != LrShape::cosine) return;
  if (o.min_lr > r.config.optimizer.lr) {
    r.refuse_clash("lr_scheduler.min_lr", {"optimizer.lr"}, "{} is above optimizer.lr {}; at most that",
                   shortest(o.min_lr), shortest(r.config.optimizer.lr));
  }
}

void phases_cover(const RuleScope& r) {
  const std::vector<LrPhase>& phases = r.config.lr_scheduler.decay.phases;
  if (phases.empty()) return;
  const TrainingOptions& t = r.config.training;
  // Where the last step begins: there its rate is read.
  const int64_t tokens = tokens_after_steps(t.global_batch_size, t.seq_length, t.steps() - 1);
  if (phases.back().until_tokens < tokens) {
    r.refuse_clash(
        r.given("lr_scheduler.phases") ? "lr_scheduler.phases" : "lr_scheduler.decay",
        {"training.train_steps", "training.train_tokens", "training.global_batch_size", "training.seq_length"},
        "the phases end at {} tokens, the last step begins at {}; the last phase must reach that far",
        phases.back().until_tokens, tokens);
  }
}

// To be copied into a configuration: without a mark between thousands.
std::string plural(int64_t n, std::string_view noun) { return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s"); }

// How the sequences of a step are divided, and what would fit: over all batch sizes together, as a value that suits the
// first and not the next is no advice.
struct Division {
  explicit Division(const RuleScope& r)
      : canonical(r.config.canonical()),
        ranks(r.data_ranks.value_or(1)),
        lanes(r.config.parallelism.reduction_lanes),
        micro(r.config.training.micro_batch_size),
        sizes(r.config.training.global_batch_size.all()) {
    for (const int64_t size : sizes) common = std::gcd(common, size);
  }

  bool canonical = false;
  int64_t ranks = 1, lanes = 1, micro = 1;
  std::vector<int64_t> sizes;
  int64_t common = 0;  // what divides it divides every size

  bool lanes_divide() const { return std::has_single_bit(static_cast<uint64_t>(lanes)) && common % lanes == 0; }
  bool ranks_divide() const { return canonical ? lanes % ranks == 0 : common % ranks == 0; }
  bool micro_divides() const { return common % ranks == 0 && common / ranks % micro == 0; }
  bool fits() const { return (!canonical || lanes_divide()) && ranks_divide() && micro_divides(); }

  // The value of `part` nearest to its own with which the condition holds, the smaller of two equally near ones.
  template <class Condition>
  std::optional<int64_t> nearest(int64_t Division::*part, int64_t most, const Condition& holds) const {
    Division d = *this;
    constexpr int64_t kFarthest = 1'000'000;
    const int64_t wanted = std::min(this->*part, most);
    for (int64_t distance = 0; distance < std::min(most, kFarthest); ++distance) {
      for (const int64_t value : {wanted - distance, wanted + distance}) {
        if (value < 1 || value > most) continue;
        d.*part = value;
        if (holds(d)) return value;
      }
    }
    d.*part = 1;  // far away
    if (holds(d)) return 1;
    return std::nullopt;
  }

  // " with training.micro_batch_size 2" where what fits otherwise needs it too; REQUIRES ranks that divide the sizes.
  std::string with_micro() const {
    if (micro_divides()) return {};
    const auto fitting = nearest(&Division::micro, common / ranks, [](const Division& d) { return d.micro_divides(); });
    return fmt::format(" with training.micro_batch_size {}", fitting.value_or(1));
  }

  // "8 lanes", "2 lanes on 2 data ranks with training.micro_batch_size 1".
  std::string nearest_lanes() const {
    Division d = *this;
    const int64_t most = std::min<int64_t>(common, 4096);  // what the key takes
    const auto fitting = [](const Division& one) { return one.lanes_divide() && one.ranks_divide(); };
    std::optional<int64_t> found = d.nearest(&Division::lanes, most, fitting);
    if (!found) {  // no number of lanes suits these ranks
      found = d.nearest(&Division::lanes, most, [](const Division& one) { return one.lanes_divide(); });
      d.lanes = found.value_or(1);
      return fmt::format("{} on {}", plural(d.lanes, "lane"), d.nearest_ranks());
    }
    d.lanes = *found;
    return plural(d.lanes, "lane") + d.with_micro();
  }

  // "2 data ranks"; if there are any, such with which nothing else must change.
  std::string nearest_ranks() const {
    Division d = *this;
    const int64_t most = canonical ? lanes : common;
    std::optional<int64_t> found = d.nearest(&Division::ranks, most, [](const Division& one) { return one.fits(); });
    if (!found)
      found = d.nearest(&Division::ranks, most,
                        [](const Division& one) { return one.ranks_divide() && one.common % one.ranks == 0; });
    d.ranks = found.value_or(1);
    return plural(d.ranks, "data rank") + d.with_micro();
  }

  // The batch nearest to the only one with which all else fits as it is.
  std::optional<int64_t> nearest_batch() const {
    if (sizes.size() != 1 || (canonical && lanes % ranks != 0)) return std::nullopt;
    int64_t unit = 0;
    if (__builtin_mul_overflow(ranks, micro, &unit)) return std::nullopt;
    const int64_t further = canonical ? lanes / std::gcd(lanes, unit) : 1;
    if (__builtin_mul_overflow(unit, further, &unit) || unit > (int64_t{1} << 40)) return std::nullopt;
    return nearest_multiple(common, unit);
  }

  std::string or_a_batch() const {
    const std::optional<int64_t> batch = nearest_batch();
    return batch ? fmt::format(" or a batch of {}", *batch) : std::string();
  }

  // What is said of the other order of sums where it takes the configuration as it is.
  std::string or_fast() const {
    Division fast = *this;
    fast.canonical = false;
    return fast.fits() ? ", and reduction fast takes any" : "";
  }
};

void lanes_fit(const RuleScope& r) {
  if (!r.config.canonical()) return;
  const Division d(r);
  if (!std::has_single_bit(static_cast<uint64_t>(d.lanes))) {
    r.refuse("parallelism.reduction_lanes", "{} is not a power of two; the nearest that fits is {}", d.lanes,
             d.nearest_lanes());
  }
  for (const int64_t size : d.sizes) {
    if (size % d.lanes == 0) continue;
    r.refuse_clash(
        r.given("parallelism.reduction_lanes") ? "parallelism.reduction_lanes" : "training.global_batch_size",
        {"training.global_batch_size"},
        "{} lanes (parallelism.reduction_lanes) do not divide a global batch of {}; the nearest that fits is {}{}{}",
        d.lanes, size, d.nearest_lanes(), d.or_a_batch(), d.or_fast());
  }
  if (d.lanes % d.ranks != 0) {
    r.refuse_clash(
        "parallelism.reduction_lanes", {"parallelism.data_parallel"},
        "{} data ranks do not divide the {} lanes (parallelism.reduction_lanes); the nearest that fits is {}{}",
        d.ranks, d.lanes, d.nearest_ranks(), d.or_fast());
  }
}

void micro_batch_divides(const RuleScope& r) {
  const Division d(r);
  for (const int64_t size : d.sizes) {
    if (size % d.ranks == 0) continue;
    const std::optional<int64_t> batch = d.nearest_batch();
    r.refuse_clash("training.global_batch_size", {"parallelism.data_parallel"},
                   "{} sequences do not divide among {} data ranks; the nearest that fits is {}{}", size, d.ranks,
                   batch ? fmt::format("{} or ", *batch) : std::string(), d.nearest_ranks());
  }
  for (const int64_t size : d.sizes) {
    if (size / d.ranks % d.micro == 0) continue;
    const auto fitting =
        d.nearest(&Division::micro, d.common / d.ranks, [](const Division& one) { return one.micro_divides(); });
    r.refuse_clash("training.micro_batch_size", {"training.global_batch_size", "parallelism.data_parallel"},
                   "{}{} does not divide a global batch of {}; the nearest that fits is {}", d.micro,
                   r.data_ranks ? " x " + plural(*r.data_ranks, "data rank") : std::string(), size,
                   fitting.value_or(1));
  }
}

void segments_fit(const RuleScope& r) {
  const ParallelismOptions& p = r.config.parallelism;
  const int64_t segments = p.segments(), heads = r.config.model.shape.num_attention_heads;
  if (segments % p.tensor_parallel != 0) {
    r.refuse_clash("parallelism.reduction_segments", {"parallelism.tensor_parallel"},
                   "parallelism.tensor_parallel {} does not divide {} segments; the nearest that fits is {}",
                   p.tensor_parallel, segments, nearest_multiple(segments, p.tensor_parallel));
  }
  if (heads % segments != 0) {
    r.refuse_clash(p.reduction_segments ? "parallelism.reduction_segments" : "parallelism.tensor_parallel",
                   {"model.num_attention_heads"},
                   "{} segments do not divide model.num_attention_heads {}; the nearest that fits is {}", segments,
                   heads, nearest_divisor(heads, segments));
  }
}

void expert_ranks_divide(const RuleScope& r) {
  const ParallelismOptions& p = r.config.parallelism;
  if (p.data_parallel && *p.data_parallel % p.expert_parallel != 0) {
    r.refuse_clash("parallelism.expert_parallel", {"parallelism.data_parallel"},
                   "{} does not divide parallelism.data_parallel {}; the nearest that fits is {}", p.expert_parallel,
                   *p.data_parallel, nearest_divisor(*p.data_parallel, p.expert_parallel));
  }
}

void weights_for_all_or_none(const RuleScope& r) {
  const std::vector<DataSource>& train = r.config.data.train;
  const auto weighted =
      std::count_if(train.begin(), train.end(), [](const DataSource& s) { return s.weight.has_value(); });
  if (weighted != 0 && static_cast<size_t>(weighted) != train.size()) {
    r.refuse("data.train", "{} of {} sources have a weight; give one to all or to none", weighted, train.size());
  }
}

void one_currency(const RuleScope& r) {
  const auto& money = r.config.budget.money;
  const auto& price = r.config.cluster.price_per_device_hour;
  if (!money) return;
  if (!price) r.refuse("budget.money", "needs cluster.price_per_device_hour");
  if (money->currency != price->currency) {
    r.refuse_clash("budget.money", {"cluster.price_per_device_hour"}, "is in {}, cluster.price_per_device_hour in {}",
                   money->currency, price->currency);
  }
}

void canonical_is_for_the_cpu(const RuleScope& r) {
  if (r.config.parallelism.reduction == Reduction::canonical && r.config.cluster.device == "cuda") {
    r.refuse_clash("parallelism.reduction", {"cluster.device"},
                   "canonical is not offered with cluster.device cuda; the nearest that fits is fast");
  }
}

// What the configuration says of the machines against what the launcher gave.
void check_nodes(const RuleScope& r, int64_t ranks) {
  const std::optional<int64_t> nodes = r.config.cluster.nodes, devices = r.config.cluster.devices_per_node;
  if (nodes && devices && *nodes * *devices != ranks) {
    r.refuse_clash("cluster.nodes", {"cluster.devices_per_node"},
                   "{} nodes x {} devices_per_node are {} ranks, but {} were started", *nodes, *devices,
                   *nodes * *devices, ranks);
  }
  if (nodes && ranks % *nodes != 0) r.refuse("cluster.nodes", "{} do not divide the {} ranks", *nodes, ranks);
  if (devices && ranks % *devices != 0)
    r.refuse("cluster.devices_per_node", "{} does not divide the {} ranks", *devices, ranks);
}

struct CheckedRule {
  ConfigRule rule;
  void (*check)(const RuleScope&);
};

constexpr std::array<CheckedRule, 14> kRules = {{
    {{"required", "A run needs run.dir, a model and data.train."}, required},
    {{"one-length", "A run is as long as exactly one of train_tokens and train_steps says."}, one_length},
    {{"sizes", "Products of sizes fit 64 bits."}, sizes_fit},
    {{"length-fits-model", "A sequence is no longer than the model's positions and longer than its MTP depth."},
     length_fits_model},
    {{"cosine-goes-down", "Under cosine min_lr is at most lr."}, cosine_goes_down},
    {{"phases-cover", "The phases of the learning rate reach to the end of the run."}, phases_cover},
    {{"lanes", "Under canonical the lanes are a power of two that divides every global batch; data ranks divide them."},
     lanes_fit},
    {{"micro-batch-divides", "micro_batch_size x data ranks divides every global batch."}, micro_batch_divides},
    {{"segments", "tensor_parallel divides the segments, the segments divide the heads."}, segments_fit},
    {{"expert-ranks", "Expert ranks divide data ranks."}, expert_ranks_divide},
    {{"weights", "Either all training sources have a weight or none has."}, weights_for_all_or_none},
    {{"currency", "A budget in money needs a price in the same currency."}, one_currency},
    {{"canonical-cpu", "canonical is one set of numbers of the CPU."}, canonical_is_for_the_cpu},
    {{"world", "World size = pipeline x data x tensor = nodes x devices_per_node."}, nullptr},  // check_world
}};

constexpr auto kRuleNames = [] {
  std::array<ConfigRule, kRules.size()> names{};
  for (size_t i = 0; i < kRules.size(); ++i) names[i] = kRules[i].rule;
  return names;
}();

}  // namespace

std::span<const ConfigRule> config_rules() { return kRuleNames; }

void check_config(const LoadedConfig& loaded, std::optional<int64_t> ranks) {
  const ParallelismOptions& p = loaded.config.parallelism;
  const int64_t others = p.tensor_parallel * p.pipeline_parallel;  // each at most a million
  std::optional<int64_t> data_ranks = p.data_parallel;
  if (!data_ranks && ranks && *ranks % others == 0) data_ranks = *ranks / others;
  for (const CheckedRule& checked : kRules) {
    if (checked.check != nullptr) checked.check({loaded, loaded.config, checked.rule.name, data_ranks});
  }
}

void check_built(const LoadedConfig& loaded) {
  const Config& c = loaded.config;
  const auto refuse = [&](std::string_view key, const std::string& value, std::string_view nearest) {
    refuse_key(loaded, key, {}, fmt::format("{} is not built yet; the nearest that is built is {}", value, nearest));
  };
  const std::vector<WrittenField> written = write_fields(c);
  // Keys of which nothing but the given value, in its written form, is built.
  struct Built {
    std::string_view key;
    std::array<std::string_view, 2> values;  // the first is named in the refusal
  };
  static constexpr std::array<Built, 18> kBuilt = {{
      {"precision.compute", {"fp32", "auto"}},
      {"precision.moments", {"fp32"}},
      {"precision.dispatch", {"fp32", "auto"}},
      {"precision.combine", {"fp32", "auto"}},
      {"precision.fp8_gemm", {"fast"}},
      {"precision.fp8_scales", {"default"}},
      {"precision.overrides", {"{}"}},
      {"precision.shadow_interval", {"0"}},
      {"data.fim_rate", {"0"}},
      {"data.tokenizer", {"bytes", "auto"}},
      {"parallelism.tensor_parallel", {"1"}},
      {"parallelism.expert_parallel", {"1"}},
      {"parallelism.pipeline_parallel", {"1"}},
      {"parallelism.zero_stage", {"0"}},
      {"parallelism.timeout", {"600s"}},
      {"activation_checkpoint.mode", {"none"}},
      {"cluster.device", {"cpu", "auto"}},
      {"cluster.hosts", {"auto"}},
  }};
  for (const WrittenField& field : written) {
    const auto row = std::find_if(kBuilt.begin(), kBuilt.end(), [&](const Built& b) { return b.key == field.path; });
    if (row == kBuilt.end() || field.section) continue;
    const std::string value = to_flow(field.value);
    if (value == row->values[0] || value == row->values[1]) continue;
    if (field.path == "cluster.device" && value == "cuda") {
      refuse_key(loaded, field.path, {}, "cuda: this program was built without CUDA; the nearest that fits is cpu");
    }
    refuse(field.path, value, row->values[0]);
  }
}

void check_world(const LoadedConfig& loaded, int64_t ranks) {
  const ParallelismOptions& p = loaded.config.parallelism;
  const RuleScope r{loaded, loaded.config, "world"};
  const int64_t others = p.tensor_parallel * p.pipeline_parallel;  // each at most a million
  if (ranks % others != 0 || (p.data_parallel && *p.data_parallel * others != ranks)) {
    if (p.data_parallel) {
      r.refuse("parallelism.data_parallel", "pipeline {} x data {} x tensor {} are {} ranks, but {} were started",
               p.pipeline_parallel, *p.data_parallel, p.tensor_parallel, *p.data_parallel * others, ranks);
    }
    r.refuse("parallelism.data_parallel", "{} ranks were started, no multiple of pipeline {} x tensor {}", ranks,
             p.pipeline_parallel, p.tensor_parallel);
  }
  check_nodes(r, ranks);
  const int64_t data_ranks = ranks / others;
  lanes_fit({loaded, loaded.config, "lanes", data_ranks});
  micro_batch_divides({loaded, loaded.config, "micro-batch-divides", data_ranks});
}

void check_vocabulary(const LoadedConfig& loaded, std::string_view tokenizer, int64_t needed) {
  if (loaded.config.model.shape.vocab_size >= needed) return;
  const RuleScope r{loaded, loaded.config, "vocabulary"};
  r.refuse("model.vocab_size", "{} is too small for the tokenizer {}; at least {}",
           loaded.config.model.shape.vocab_size, tokenizer, needed);
}

LoadedConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                             const ConfigSearch& search, int64_t ranks) {
  LoadedConfig loaded = load_config(path, overrides, search);
  check_config(loaded, ranks);
  check_built(loaded);
  check_world(loaded, ranks);
  return loaded;
}

}  // namespace tael
