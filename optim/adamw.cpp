#include "optim/adamw.hpp"

#include "kernels/adamw_update.hpp"

namespace tael {

AdamwState plan_adamw(Arena& arena, int64_t elements) {
  return {.moment1 = arena.vec<float>(elements), .moment2 = arena.vec<float>(elements)};
}

void adamw_step(const Stream& stream, const AdamwOptions& options, const std::vector<ParamSpan>& spans,
                const AdamwStep& args) {
  const int64_t elements = args.weights.size();
  CHECK(args.grads.size() == elements && args.state.moment1.size() == elements && args.state.moment2.size() == elements,
        "{} weights, {} gradients, {} and {} moments", elements, args.grads.size(), args.state.moment1.size(),
        args.state.moment2.size());
  for (size_t first = 0; first < spans.size();) {
    // Neighbours with the same decay go in one pass: a model has many small tensors.
    size_t last = first + 1;
    while (last < spans.size() && spans[last].offset == spans[last - 1].end() &&
           spans[last].decay == spans[first].decay)
      ++last;
    const int64_t begin = spans[first].offset, size = spans[last - 1].end() - begin;
    CHECK(begin >= 0 && begin + size <= elements && (first == 0 || begin >= spans[first - 1].end()),
          "a span of {} at {}, of {}", size, begin, elements);
    adamw_update(stream, {.weight = vec(args.weights.data + begin, size),
                          .moment1 = vec(args.state.moment1.data + begin, size),
                          .moment2 = vec(args.state.moment2.data + begin, size),
                          .grad = vec(args.grads.data + begin, size),
                          .lr = args.lr,
                          .beta1 = options.beta1,
                          .beta2 = options.beta2,
                          .eps = options.eps,
                          .weight_decay = spans[first].decay ? options.weight_decay : 0.0,
                          .clip = args.clip,
                          .step = args.step});
    first = last;
  }
}

}  // namespace tael
