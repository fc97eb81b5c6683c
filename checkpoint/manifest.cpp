#include "checkpoint/manifest.hpp"

#include <algorithm>
#include <limits>

#include "base/hash.hpp"
#include "base/json.hpp"
#include "checkpoint/safetensors.hpp"

namespace tael {

namespace {

constexpr std::string_view kFormat = "tael-checkpoint";
constexpr int64_t kVersion = 1;
constexpr std::string_view kOpening = "{\"digest\":\"";
constexpr std::string_view kSeparator = "\",";
constexpr size_t kDigestDigits = 32;
constexpr size_t kBody = kOpening.size() + kDigestDigits + kSeparator.size();

std::string digest_of(std::string_view body) { return to_hex(xxh3_128(body.data(), body.size())); }

template <class Numbers>
void array(JsonWriter& json, std::string_view key, const Numbers& numbers) {
  json.key(key).begin_array();
  for (const auto& n : numbers) json.value(n);
  json.end_array();
}

void write_state(JsonWriter& json, const RunState& s) {
  json.key("state").begin_object().field("training", s.training);
  if (s.training) {
    json.field("step", s.step).field("samples", s.samples).field("tokens", s.tokens).field("attempt", s.attempt);
    if (s.milestone) json.field("milestone", true);
    json.field("seed", s.seed).field("reduction_lanes", s.reduction_lanes);
    json.field("reduction_segments", s.reduction_segments).field("sample_order", s.sample_order);
    json.field("tokenizer", s.tokenizer);
    array(json, "data", s.data);
    json.key("ledger").begin_object();
    for (const auto& [kind, seconds] : s.ledger) json.field(kind, seconds);
    json.end_object();
  }
  json.field("software", s.software).end_object();
}

RunState read_state(const Json& json) {
  RunState s;
  s.training = json.at("training").as_bool();
  if (s.training) {
    for (const auto& [key, value] : {std::pair{"step", &s.step},
                                     {"samples", &s.samples},
                                     {"tokens", &s.tokens},
                                     {"attempt", &s.attempt},
                                     {"reduction_lanes", &s.reduction_lanes},
                                     {"reduction_segments", &s.reduction_segments},
                                     {"sample_order", &s.sample_order}}) {
      *value = json.at(key).as_int();
      if (*value < 0) json.at(key).fail_here("{} is negative", key);
    }
    if (const Json* milestone = json.find("milestone")) s.milestone = milestone->as_bool();
    s.seed = json.at("seed").as_int();
    s.tokenizer = json.at("tokenizer").as_string();
    for (const Json& digest : json.at("data").items()) s.data.push_back(digest.as_string());
    for (const JsonMember& entry : json.at("ledger").members()) s.ledger[entry.key] = entry.value.as_double();
  }
  s.software = json.at("software").as_string();
  return s;
}

RunState read_head(const Json& root) {
  if (root.at("format").as_string() != kFormat) root.at("format").fail_here("is no {}", kFormat);
  if (root.at("version").as_int() != kVersion)
    root.at("version").fail_here("version {}; this program reads {}", root.at("version").as_int(), kVersion);
  return read_state(root.at("state"));
}

void require_digest(std::string_view text, const std::string& path) {
  if (text.size() < kBody || !text.starts_with(kOpening) ||
      text.substr(kBody - kSeparator.size(), kSeparator.size()) != kSeparator)
    fail(Exit::bad_data, "{}: is no manifest of a checkpoint", path);
  if (text.substr(kOpening.size(), kDigestDigits) != digest_of(text.substr(kBody)))
    fail(Exit::bad_data, "{}: is damaged: it does not agree with its own digest", path);
}

uint64_t natural(const Json& json) {
  const int64_t n = json.as_int();
  if (n < 0) json.fail_here("{} is negative", n);
  return static_cast<uint64_t>(n);
}

uint32_t crc(const Json& json) {
  const uint64_t n = natural(json);
  if (n > std::numeric_limits<uint32_t>::max()) json.fail_here("{} is no CRC32C", n);
  return static_cast<uint32_t>(n);
}

std::vector<int64_t> extents(const Json& json) {
  std::vector<int64_t> out;
  for (const Json& n : json.items()) out.push_back(static_cast<int64_t>(natural(n)));
  if (out.empty() || out.size() > 2) json.fail_here("{} dimensions, 1 or 2 are known", out.size());
  return out;
}

Box read_box(const Json& json) {
  Box box;
  const Json &kind = json.at("kind"), &dtype = json.at("dtype");
  if (!state_kind_from_name(kind.as_string(), box.kind)) kind.fail_here("{} is no kind of state", kind.as_string());
  if (!dtype_from_safetensors_name(dtype.as_string(), box.dtype)) dtype.fail_here("{} is no format", dtype.as_string());
  box.name = json.at("name").as_string();
  box.shape = extents(json.at("shape"));
  box.offset.assign(box.shape.size(), 0);
  box.extent = box.shape;
  if (const Json* offset = json.find("offset")) {
    box.offset = extents(*offset);
    box.extent = extents(json.at("extent"));
    if (box.offset.size() != box.shape.size() || box.extent.size() != box.shape.size())
      offset->fail_here("a box of another number of dimensions than its tensor");
  }
  for (const std::vector<int64_t>* dims : {&box.shape, &box.extent}) {
    int64_t bytes = static_cast<int64_t>(size_of(box.dtype));
    for (const int64_t n : *dims)
      if (__builtin_mul_overflow(bytes, n, &bytes)) json.fail_here("{} is too large", in_words(box));
  }
  return box;
}

// That boxes and gaps follow each other from the first byte of every file to its last.
void require_whole_files(const Manifest& manifest, const std::string& path) {
  struct Piece {
    uint64_t offset, bytes;
  };
  std::vector<std::vector<Piece>> pieces(manifest.files.size());
  for (size_t f = 0; f < manifest.files.size(); ++f)
    for (const Gap& gap : manifest.files[f].gaps) pieces[f].push_back({gap.offset, gap.bytes});
  for (const StoredBox& stored : manifest.boxes)
    if (stored.box.bytes() > 0) pieces[stored.file].push_back({stored.offset, stored.box.bytes()});
  for (size_t f = 0; f < pieces.size(); ++f) {
    std::ranges::sort(pieces[f], {}, &Piece::offset);
    uint64_t end = 0;
    for (const Piece& piece : pieces[f]) {
      if (piece.offset != end || piece.bytes > manifest.files[f].bytes - end)
        fail(Exit::bad_data, "{}: its parts do not make up {}", path, manifest.files[f].name);
      end += piece.bytes;
    }
    if (end != manifest.files[f].bytes)
      fail(Exit::bad_data, "{}: its parts do not make up {}", path, manifest.files[f].name);
  }
}

void require_file_name(const Json& json) {
  const std::string& name = json.as_string();
  const bool plain = std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
  if (!plain || !name.ends_with(".h5") || name.starts_with('.')) json.fail_here("{} is no name of a shard", name);
}

}  // namespace

std::string Manifest::text() const {
  JsonWriter json;
  json.begin_object().field("format", kFormat).field("version", kVersion);
  write_state(json, state);
  json.key("files").begin_array();
  for (const StoredFile& file : files) {
    json.begin_object().field("name", file.name).field("bytes", file.bytes).key("gaps").begin_array();
    for (const Gap& gap : file.gaps)
      json.begin_array().value(gap.offset).value(gap.bytes).value(gap.crc32c).end_array();
    json.end_array().end_object();
  }
  json.end_array().key("boxes").begin_array();
  for (const StoredBox& stored : boxes) {
    const Box& box = stored.box;
    json.begin_object().field("kind", name_of(box.kind)).field("name", box.name);
    json.field("dtype", safetensors_name(box.dtype));
    array(json, "shape", box.shape);
    if (!box.is_whole()) {
      array(json, "offset", box.offset);
      array(json, "extent", box.extent);
    }
    json.field("file", static_cast<uint64_t>(stored.file)).field("at", stored.offset);
    array(json, "crc32c", stored.crc32c);
    json.end_object();
  }
  json.end_array().end_object();
  const std::string body = json.text().substr(1) + "\n";  // behind the brace that opens the object
  return std::string(kOpening) + digest_of(body) + std::string(kSeparator) + body;
}

void Manifest::append(Manifest shard) {
  for (StoredBox& stored : shard.boxes) {
    stored.file += files.size();
    boxes.push_back(std::move(stored));
  }
  for (StoredFile& file : shard.files) files.push_back(std::move(file));
}

RunState Manifest::parse_state(const std::string& text, const std::string& path) {
  require_digest(text, path);
  // In no string: quotes are escaped there.
  const size_t lists = text.find(",\"files\":[");
  const std::string head = text.substr(0, lists) + (lists == std::string::npos ? "" : "}");
  const auto document = JsonDocument::parse(head, path, {.max_bytes = head.size(), .max_depth = 8});
  return read_head(document.root());
}

Manifest Manifest::parse(const std::string& text, const std::string& path, Extent extent) {
  require_digest(text, path);
  const auto document = JsonDocument::parse(text, path, {.max_bytes = text.size(), .max_depth = 8});
  const Json& root = document.root();
  Manifest manifest;
  manifest.state = read_head(root);
  for (const Json& entry : root.at("files").items()) {
    require_file_name(entry.at("name"));
    StoredFile file{entry.at("name").as_string(), natural(entry.at("bytes")), {}};
    for (const Json& gap : entry.at("gaps").items()) {
      if (gap.items().size() != 3) gap.fail_here("expected [offset, bytes, crc32c]");
      file.gaps.push_back({natural(gap.items()[0]), natural(gap.items()[1]), crc(gap.items()[2])});
    }
    manifest.files.push_back(std::move(file));
  }
  for (const Json& entry : root.at("boxes").items()) {
    StoredBox stored{read_box(entry), natural(entry.at("file")), natural(entry.at("at")), {}};
    if (stored.file >= manifest.files.size()) entry.at("file").fail_here("there is no file {}", stored.file);
    for (const Json& sum : entry.at("crc32c").items()) stored.crc32c.push_back(crc(sum));
    const uint64_t blocks = stored.box.bytes() / kBlockBytes + (stored.box.bytes() % kBlockBytes != 0 ? 1 : 0);
    if (stored.crc32c.size() != blocks)
      entry.at("crc32c").fail_here("{} checksums for {} blocks", stored.crc32c.size(), blocks);
    manifest.boxes.push_back(std::move(stored));
  }
  require_whole_files(manifest, path);
  if (extent == Extent::shard) return manifest;
  std::vector<const Box*> boxes;
  for (const StoredBox& stored : manifest.boxes) boxes.push_back(&stored.box);
  require_tiling(boxes, path);
  return manifest;
}

}  // namespace tael
