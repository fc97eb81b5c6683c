#include "model/param_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/harness/shapes.hpp"

namespace tael {
namespace {

using tael::testing::deepseek_v3;

// DeepSeek-V3 report 4.2 and the released checkpoint's element counts.
TEST(ParamTable, CountsOfDeepSeekV3) {
  ModelShape shape = deepseek_v3();
  shape.num_nextn_predict_layers = 1;
  const ParamCounts counts = count_parameters(shape);
  EXPECT_EQ(counts.total, 671'026'419'200);
  EXPECT_EQ(counts.gate_biases, 58 * 256);
  EXPECT_EQ(counts.active_without_input_table, 36'625'618'432);
  EXPECT_EQ(counts.active, 37'552'297'472);
  EXPECT_EQ(counts.mtp, 11'610'068'224);
}

TEST(ParamTable, IsDenseAndNamesAreUnique) {
  ModelShape shape = deepseek_v3();
  shape.num_hidden_layers = 5;
  shape.num_nextn_predict_layers = 2;
  for (bool tied : {false, true}) {
    shape.tie_word_embeddings = tied;
    const ParamTable table = make_param_table(shape);
    int64_t end = 0;
    std::vector<std::string> names;
    for (const ParamSpec& param : table.params) {
      EXPECT_EQ(param.offset, end) << param.name;
      end += param.size();
      names.push_back(param.name);
    }
    EXPECT_EQ(end, table.size());
    std::sort(names.begin(), names.end());
    EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
    EXPECT_EQ(table.moe_layers, 4);  // layers 3 and 4, and two MTP modules
    EXPECT_EQ(table.extra_uses.size(), tied ? 5u : 4u);
    EXPECT_EQ(table.gradient_size(), table.size() + static_cast<int64_t>(table.extra_uses.size()) * 129280 * 7168);
    const LayerLayout& moe = table.layers[3];
    EXPECT_EQ(moe.expert_stride, 3 * 7168 * 2048);
    EXPECT_EQ(moe.experts.down, moe.experts.gate_up + 2 * 7168 * 2048);
  }
}

TEST(ParamTable, RefusesSizesThatOverflow) {
  ModelShape shape = deepseek_v3();
  shape.hidden_size = int64_t{1} << 40;
  try {
    make_param_table(shape);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_config);
  }
}

}  // namespace
}  // namespace tael
