#include "checkpoint/shard_file.hpp"

#include <algorithm>
#include <numeric>

#include "base/file.hpp"
#include "base/h5_file.hpp"
#include "base/hash.hpp"
#include "checkpoint/safetensors.hpp"

namespace tael {

namespace {

// Large datasets start on a page; small ones would only leave holes.
constexpr uint64_t kAlignment = 4096, kAlignedFrom = 65536;

H5Type stored_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return H5Type::f32;
    case DType::f64: return H5Type::f64;
    case DType::i64: return H5Type::i64;
    case DType::i32: return H5Type::i32;
    case DType::bf16:
    case DType::f16:
    case DType::u16: return H5Type::u16;
    case DType::u8:
    case DType::f8_e4m3:
    case DType::f8_e5m2: return H5Type::u8;
  }
  CHECK(false, "a format without a type");
}

void write_label(H5Writer& writer, const ShardLabel& label) {
  writer.attribute("/", "format", "tael-checkpoint");
  writer.attribute("/", "format_version", uint64_t{1});
  for (const auto& [name, value] : {std::pair{"step", label.step},
                                    {"tokens", label.tokens},
                                    {"samples", label.samples},
                                    {"shard", label.shard},
                                    {"shards", label.shards}})
    writer.attribute("/", name, value);
}

// Layout alone: where the numbers of each box will lie. One group after the other: HDF5 holds the names of a group in
// one piece, which must stay in its cache while the group grows.
std::vector<uint64_t> lay_out(const std::string& path, const ShardLabel& label, const std::vector<const Box*>& boxes) {
  H5Writer writer(path, {.alignment = kAlignment, .align_from = kAlignedFrom});
  write_label(writer, label);
  std::vector<size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return boxes[i]->kind; });
  std::vector<uint64_t> offsets(boxes.size());  // 0 of an empty one: HDF5 has no place for it; the manifest names it
  for (const size_t i : order) {
    const Box& box = *boxes[i];
    if (box.elements() == 0) continue;
    const std::vector<uint64_t> dims(box.extent.begin(), box.extent.end());
    offsets[i] = writer.reserve(box.path(), stored_type(box.dtype), dims).offset;
    writer.attribute(box.path(), "dtype", safetensors_name(box.dtype));
    writer.attribute(box.path(), "logical_shape", shape_text(box.shape));
    if (!box.is_whole()) writer.attribute(box.path(), "box_offset", shape_text(box.offset));
  }
  writer.close();
  return offsets;
}

// bytes_at(index, begin, n): where n bytes of a box lie, until the next call.
template <class BytesAt>
void write_numbers(const File& file, StoredBox& stored, size_t index, const BytesAt& bytes_at) {
  const uint64_t bytes = stored.box.bytes();
  for (uint64_t done = 0; done < bytes; done += kBlockBytes) {
    const size_t n = static_cast<size_t>(std::min(kBlockBytes, bytes - done));
    const std::byte* from = bytes_at(index, done, n);
    stored.crc32c.push_back(crc32c(from, n));  // of the source: what was meant, not what arrived
    file.write_at(stored.offset + done, from, n);
  }
}

Gap read_gap(const File& file, uint64_t begin, uint64_t end) {
  std::vector<std::byte> bytes(end - begin);
  file.read_at(begin, bytes.data(), bytes.size());
  return {begin, end - begin, crc32c(bytes.data(), bytes.size())};
}

template <class BytesAt>
Manifest write_boxes(const std::string& directory, const ShardLabel& label, const std::vector<const Box*>& boxes,
                     const BytesAt& bytes_at) {
  const std::string name = shard_name(label.shard), path = directory + "/" + name;
  if (path_exists(path)) fail(Exit::io, "{}: exists already", path);
  const std::vector<uint64_t> offsets = lay_out(path, label, boxes);

  File file = File::update(path);
  Manifest report;
  report.files.push_back({name, file.size(), {}});
  file.allocate(report.files[0].bytes);
  for (size_t i = 0; i < boxes.size(); ++i) {
    StoredBox stored{*boxes[i], 0, offsets[i], {}};
    write_numbers(file, stored, i, bytes_at);
    report.boxes.push_back(std::move(stored));
  }
  file.sync();

  std::ranges::stable_sort(report.boxes, {}, &StoredBox::offset);
  uint64_t end = 0;
  for (const StoredBox& stored : report.boxes) {
    if (stored.box.bytes() == 0) continue;
    CHECK(stored.offset >= end, "{}: {} overlaps another", path, in_words(stored.box));
    if (stored.offset > end) report.files[0].gaps.push_back(read_gap(file, end, stored.offset));
    end = stored.offset + stored.box.bytes();
  }
  if (end < report.files[0].bytes) report.files[0].gaps.push_back(read_gap(file, end, report.files[0].bytes));
  file.close();
  return report;
}

}  // namespace

std::string shard_name(int64_t shard) { return fmt::format("shard-{:05}.h5", shard); }

Manifest write_shard(const std::string& directory, const ShardLabel& label, const std::vector<BoxData>& boxes) {
  std::vector<const Box*> all;
  for (const BoxData& box : boxes) all.push_back(&box.box);
  return write_boxes(directory, label, all, [&](size_t index, uint64_t begin, size_t) {
    return static_cast<const std::byte*>(boxes[index].data) + begin;
  });
}

Manifest write_shard(const std::string& directory, const ShardLabel& label, const std::vector<Box>& boxes,
                     const BoxSource& source) {
  std::vector<const Box*> all;
  for (const Box& box : boxes) all.push_back(&box);
  std::vector<std::byte> block(kBlockBytes);
  return write_boxes(directory, label, all, [&](size_t index, uint64_t begin, size_t bytes) {
    source(index, begin, block.data(), bytes);
    return std::as_const(block).data();
  });
}

}  // namespace tael
