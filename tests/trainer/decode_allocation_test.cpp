// A token costs no allocation: neither the decoder nor the choice.
#include <gtest/gtest.h>

#include "model/decoder.hpp"
#include "model/init.hpp"
#include "model/sampling.hpp"
#include "tests/harness/allocation_count.hpp"
#include "tests/harness/tiny_hf.hpp"

namespace tael::testing {
namespace {

TEST(DecodeAllocation, NothingAfterTheFirstToken) {
  ModelShape shape = tiny_shape();
  shape.max_position_embeddings = 600;
  const ParamTable table = make_param_table(shape);
  ThreadPool pool(2);
  const Stream stream(pool, best_isa());
  const LocalTokenExchange exchange;
  Arena memory("memory", size_t{1} << 20), scratch("scratch", size_t{1} << 20);
  std::vector<float> params(static_cast<size_t>(table.size())), biases(static_cast<size_t>(table.bias_size()));
  init_params(stream, table, 3, params.data(), biases.data());
  Decoder decoder(memory, table, exchange, 600);
  const Mat<float> logits = memory.mat<float>(1, shape.vocab_size);
  TokenSampler sampler({.top_p = 0.9}, shape.vocab_size);
  Context context{stream, scratch};
  int64_t before = 0;
  int32_t token = 1;
  for (int64_t i = 0; i < 600; ++i) {
    decoder.extend(context, {params.data(), biases.data()}, vec<const int32_t>(&token, 1), logits);
    token = sampler.choose(vec<const float>(logits.data, shape.vocab_size), i);
    if (i == 0) before = allocation_count();
  }
  EXPECT_GT(before, 0);
  EXPECT_EQ(allocation_count() - before, 0);
  EXPECT_EQ(decoder.length(), 600);
}

}  // namespace
}  // namespace tael::testing
