#include "base/h5_file.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/file.hpp"

#ifdef H5_HAVE_PARALLEL
#error "tael needs the serial HDF5: the parallel library is not thread-safe and its collective writes fail in silence"
#endif

namespace tael {

namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 10;  // of an attribute, or of one string in a dataset
constexpr int kMaxRank = 8;
constexpr hsize_t kMaxLinks = 100'000;

// Closes any kind of HDF5 object.
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  ~Handle() {
    if (id_ >= 0) H5Idec_ref(id_);
  }
  Handle(Handle&& other) noexcept : id_(other.abandon()) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  hid_t get() const { return id_; }
  hid_t abandon() { return std::exchange(id_, hid_t{-1}); }

 private:
  hid_t id_ = -1;
};

// Before the first file and on every thread that opens one: the error stack belongs to the thread.
void harden() {
  static const bool thread_safe = [] {
    H5dont_atexit();  // after a failed close the clean-up at exit crashes
    hbool_t safe = 0;
    return H5open() >= 0 && H5PLset_loading_state(0) >= 0 && H5is_library_threadsafe(&safe) >= 0 && safe > 0;
  }();
  if (!thread_safe) fail(Exit::missing_resource, "this HDF5 library is not the thread-safe build");
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

// The innermost description on the library's error stack.
std::string library_error() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
        if (n == 0 && error->desc != nullptr) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &text);
  H5Eclear2(H5E_DEFAULT);
  // Of the system's refusals the library tells time, file and offset over several lines, and in them the reason.
  constexpr std::string_view kReason = "error message = '";
  if (const size_t at = text.find(kReason); at != std::string::npos) {
    const size_t begin = at + kReason.size();
    return text.substr(begin, text.find('\'', begin) - begin);
  }
  std::ranges::replace(text, '\n', ' ');
  return text.empty() ? "unknown error" : text;
}

hid_t file_type(H5Type type) {
  switch (type) {
    case H5Type::u8: return H5T_STD_U8LE;
    case H5Type::u16: return H5T_STD_U16LE;
    case H5Type::u32: return H5T_STD_U32LE;
    case H5Type::u64: return H5T_STD_U64LE;
    case H5Type::i32: return H5T_STD_I32LE;
    case H5Type::i64: return H5T_STD_I64LE;
    case H5Type::f32: return H5T_IEEE_F32LE;
    case H5Type::f64: return H5T_IEEE_F64LE;
  }
  CHECK(false, "a type without an HDF5 type");
}

Handle text_type(size_t bytes) {
  Handle type(H5Tcopy(H5T_C_S1));
  CHECK(H5Tset_size(type.get(), std::max<size_t>(bytes, 1)) >= 0 && H5Tset_strpad(type.get(), H5T_STR_NULLPAD) >= 0 &&
        H5Tset_cset(type.get(), H5T_CSET_UTF8) >= 0);
  return type;
}

}  // namespace

size_t size_of(H5Type type) {
  switch (type) {
    case H5Type::u8: return 1;
    case H5Type::u16: return 2;
    case H5Type::u32:
    case H5Type::i32:
    case H5Type::f32: return 4;
    case H5Type::u64:
    case H5Type::i64:
    case H5Type::f64: return 8;
  }
  CHECK(false, "a type without a size");
}

struct H5Writer::Impl {
  std::string path;
  Handle file;
  bool failed = false;

  ~Impl() {
    if (failed) file.abandon();
  }
  [[noreturn]] void fail_write(std::string_view what) {
    failed = true;
    fail(Exit::io, "{}: cannot write {}: {}", path, what, library_error());
  }
  Handle checked(hid_t id, std::string_view what) {
    if (id < 0) fail_write(what);
    return Handle(id);
  }
  void checked_call(herr_t result, std::string_view what) {
    if (result < 0) fail_write(what);
  }
  Handle create_dataset(const std::string& name, hid_t type, std::span<const uint64_t> dims) {
    CHECK(!dims.empty() && dims.size() <= kMaxRank && std::ranges::count(dims, uint64_t{0}) == 0, "dataset {}", name);
    Handle creation = checked(H5Pcreate(H5P_DATASET_CREATE), name);
    checked_call(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), name);
    checked_call(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), name);
    checked_call(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), name);
    checked_call(H5Pset_obj_track_times(creation.get(), false), name);
    const std::vector<hsize_t> extent(dims.begin(), dims.end());
    Handle space = checked(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), name);
    Handle link = checked(H5Pcreate(H5P_LINK_CREATE), name);
    checked_call(H5Pset_create_intermediate_group(link.get(), 1), name);
    return checked(H5Dcreate2(file.get(), name.c_str(), type, space.get(), link.get(), creation.get(), H5P_DEFAULT),
                   name);
  }
  void write_attribute(const std::string& object, const std::string& name, hid_t stored, hid_t given,
                       const void* value) {
    Handle space = checked(H5Screate(H5S_SCALAR), name);
    Handle attribute = checked(H5Acreate_by_name(file.get(), object.c_str(), name.c_str(), stored, space.get(),
                                                 H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                               name);
    checked_call(H5Awrite(attribute.get(), given, value), name);
  }
};

H5Writer::H5Writer(std::string path, const Options& options) : impl_(std::make_unique<Impl>()) {
  harden();
  Impl& m = *impl_;
  m.path = std::move(path);
  Handle creation = m.checked(H5Pcreate(H5P_FILE_CREATE), "the file");
  m.checked_call(H5Pset_userblock(creation.get(), options.user_block), "the user block");
  m.checked_call(H5Pset_file_space_strategy(creation.get(), H5F_FSPACE_STRATEGY_NONE, false, 1), "the file");
  m.checked_call(H5Pset_obj_track_times(creation.get(), false), "the file");
  Handle access = m.checked(H5Pcreate(H5P_FILE_ACCESS), "the file");
  // The oldest format that holds the content: equal calls then give equal bytes. In the formats since 1.8 the root
  // group carries the time of its making, whatever H5Pset_obj_track_times says (seen with 1.10.8). Their checksums are
  // not missed: whoever seals a file covers all of it.
  m.checked_call(H5Pset_libver_bounds(access.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_V110), "the file");
  H5AC_cache_config_t cache{};
  cache.version = H5AC__CURR_CACHE_CONFIG_VERSION;
  m.checked_call(H5Pget_mdc_config(access.get(), &cache), "the file");
  cache.max_size = kMostCacheBytes;
  m.checked_call(H5Pset_mdc_config(access.get(), &cache), "the file");
  m.checked_call(H5Pset_alignment(access.get(), options.align_from, options.alignment), "the file");
  m.checked_call(H5Pset_file_locking(access.get(), false, true), "the file");
  if (options.in_memory) m.checked_call(H5Pset_fapl_core(access.get(), size_t{64} << 10, false), "the file");
  m.file = m.checked(H5Fcreate(m.path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), "the file");
}

H5Writer::~H5Writer() = default;

H5Region H5Writer::reserve(const std::string& name, H5Type type, std::span<const uint64_t> dims) {
  Handle dataset = impl_->create_dataset(name, file_type(type), dims);
  const haddr_t offset = H5Dget_offset(dataset.get());
  if (offset == HADDR_UNDEF) impl_->fail_write(name);
  uint64_t bytes = size_of(type);
  for (uint64_t n : dims) CHECK(!__builtin_mul_overflow(bytes, n, &bytes), "dataset {} overflows", name);
  return {offset, bytes};
}

void H5Writer::write_text(const std::string& name, std::span<const std::string> values) {
  CHECK(!values.empty());
  size_t width = 1;
  for (const std::string& value : values) width = std::max(width, value.size());
  CHECK(width <= kMaxTextBytes, "{}: a string of {} bytes", name, width);
  std::string padded(width * values.size(), '\0');
  for (size_t i = 0; i < values.size(); ++i) std::memcpy(padded.data() + i * width, values[i].data(), values[i].size());
  const uint64_t count = values.size();
  Handle type = text_type(width);
  Handle dataset = impl_->create_dataset(name, type.get(), {&count, 1});
  impl_->checked_call(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, padded.data()), name);
}

void H5Writer::attribute(const std::string& object, const std::string& name, std::string_view text) {
  CHECK(text.size() <= kMaxTextBytes, "attribute {}: {} bytes", name, text.size());
  const std::string value(text.empty() ? std::string_view("\0", 1) : text);
  Handle type = text_type(value.size());
  impl_->write_attribute(object, name, type.get(), type.get(), value.data());
}
void H5Writer::attribute(const std::string& object, const std::string& name, uint64_t value) {
  impl_->write_attribute(object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &value);
}
void H5Writer::attribute(const std::string& object, const std::string& name, int64_t value) {
  impl_->write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}
void H5Writer::attribute(const std::string& object, const std::string& name, double value) {
  impl_->write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

void H5Writer::close() {
  const hid_t file = impl_->file.abandon();
  CHECK(file >= 0, "{} is closed already", impl_->path);
  if (H5Fclose(file) < 0) impl_->fail_write("the file");
}

struct H5Reader::Impl {
  std::string path;
  Exit code;
  Handle file;
  uint64_t file_bytes = 0;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(code, path + ": " + fmt::format(format, std::forward<Args>(args)...));
  }
  Handle checked(hid_t id, std::string_view what) const {
    if (id < 0) refuse("cannot read {}: {}", what, library_error());
    return Handle(id);
  }
  void checked_call(herr_t result, std::string_view what) const {
    if (result < 0) refuse("cannot read {}: {}", what, library_error());
  }

  void open(const Handle& access) {
    checked_call(H5Pset_file_locking(access.get(), false, true), "the file");
    file = checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), "it as HDF5");
    H5F_info2_t info;
    checked_call(H5Fget_info2(file.get(), &info), "the superblock");
    if (info.super.version < 2) refuse("HDF5 superblock version {}, at least 2 is required", info.super.version);
  }

  // The dataset `name`, reached by hard links from the root.
  Handle open_dataset(const std::string& name) const {
    if (name.empty() || name.starts_with('/') || name.ends_with('/') || name.find("//") != std::string::npos)
      refuse("no dataset is called '{}'", name);
    for (size_t end = 0; end != std::string::npos;) {
      end = name.find('/', end + 1);
      const std::string part = name.substr(0, end);
      const htri_t exists = H5Lexists(file.get(), part.c_str(), H5P_DEFAULT);
      checked_call(static_cast<herr_t>(exists), name);
      if (exists == 0) refuse("dataset '{}' is missing", name);
      H5L_info_t link;
      checked_call(H5Lget_info(file.get(), part.c_str(), &link, H5P_DEFAULT), name);
      if (link.type != H5L_TYPE_HARD) refuse("'{}' is a soft or external link", part);
    }
    Handle object = checked(H5Oopen(file.get(), name.c_str(), H5P_DEFAULT), name);
    if (H5Iget_type(object.get()) != H5I_DATASET) refuse("'{}' is not a dataset", name);
    Handle creation = checked(H5Dget_create_plist(object.get()), name);
    if (H5Pget_layout(creation.get()) != H5D_CONTIGUOUS) refuse("dataset '{}' is not contiguous", name);
    if (H5Pget_external_count(creation.get()) != 0) refuse("dataset '{}' is stored outside the file", name);
    if (H5Pget_nfilters(creation.get()) != 0) refuse("dataset '{}' is filtered", name);
    return object;
  }

  Dataset describe(const Handle& dataset, const std::string& name, size_t element_bytes) const {
    Dataset d{};
    Handle space = checked(H5Dget_space(dataset.get()), name);
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (rank < 1 || rank > kMaxRank) refuse("dataset '{}' has rank {}", name, rank);
    hsize_t dims[H5S_MAX_RANK];
    checked_call(H5Sget_simple_extent_dims(space.get(), dims, nullptr), name);
    d.dims.assign(dims, dims + rank);
    d.elements = 1;
    bool overflow = false;
    for (uint64_t n : d.dims) overflow |= __builtin_mul_overflow(d.elements, n, &d.elements);
    overflow |= __builtin_mul_overflow(d.elements, uint64_t{element_bytes}, &d.region.bytes);
    d.region.offset = H5Dget_offset(dataset.get());
    uint64_t end = 0;
    overflow |= __builtin_add_overflow(d.region.offset, d.region.bytes, &end);
    if (overflow || d.region.offset == HADDR_UNDEF || end > file_bytes)
      refuse("dataset '{}' does not lie inside the file", name);
    return d;
  }

  Handle open_attribute(const std::string& object, const std::string& name) const {
    if (object != "/") open_dataset(object);  // refuses links and strange objects
    const htri_t exists = H5Aexists_by_name(file.get(), object.c_str(), name.c_str(), H5P_DEFAULT);
    checked_call(static_cast<herr_t>(exists), name);
    if (exists == 0) refuse("attribute '{}' of '{}' is missing", name, object);
    return checked(H5Aopen_by_name(file.get(), object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), name);
  }

  // Reads a scalar attribute whose stored type is exactly `stored`.
  template <class T>
  T scalar(const std::string& object, const std::string& name, hid_t stored, hid_t native, const char* kind) const {
    Handle attribute = open_attribute(object, name);
    Handle type = checked(H5Aget_type(attribute.get()), name);
    Handle space = checked(H5Aget_space(attribute.get()), name);
    if (H5Tequal(type.get(), stored) <= 0 || H5Sget_simple_extent_npoints(space.get()) != 1)
      refuse("attribute '{}' of '{}' is not {}", name, object, kind);
    T value{};
    checked_call(H5Aread(attribute.get(), native, &value), name);
    return value;
  }

  // Bytes of the fixed-length text type, or a refusal.
  size_t text_bytes(const Handle& type, const std::string& name) const {
    const size_t bytes = H5Tget_size(type.get());
    if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 || bytes == 0 ||
        bytes > kMaxTextBytes)
      refuse("'{}' is not text of a fixed length up to {} bytes", name, kMaxTextBytes);
    return bytes;
  }
};

H5Reader::H5Reader(std::string path, Exit code) : impl_(std::make_unique<Impl>()) {
  harden();
  impl_->path = std::move(path);
  impl_->code = code;
  impl_->file_bytes = File::open(impl_->path, code).size();
  impl_->open(impl_->checked(H5Pcreate(H5P_FILE_ACCESS), "the file"));
}

H5Reader::H5Reader(std::string name, std::span<const std::byte> image, Exit code) : impl_(std::make_unique<Impl>()) {
  harden();
  impl_->path = std::move(name);
  impl_->code = code;
  impl_->file_bytes = image.size();
  if (image.empty()) impl_->refuse("empty");
  Handle access = impl_->checked(H5Pcreate(H5P_FILE_ACCESS), "the file");
  impl_->checked_call(H5Pset_fapl_core(access.get(), size_t{64} << 10, false), "the file");
  // The library copies the image and never writes to ours; its parameter merely lacks the const.
  impl_->checked_call(H5Pset_file_image(access.get(), const_cast<std::byte*>(image.data()), image.size()), "the file");
  impl_->open(access);
}

H5Reader::~H5Reader() = default;

std::vector<std::string> H5Reader::datasets() const {
  H5G_info_t root;
  impl_->checked_call(H5Gget_info(impl_->file.get(), &root), "the root");
  if (root.nlinks > kMaxLinks) impl_->refuse("{} links in the root, at most {} are read", root.nlinks, kMaxLinks);
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  impl_->checked_call(H5Literate(impl_->file.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names), "the root");
  std::ranges::sort(names);
  for (const std::string& name : names) impl_->open_dataset(name);
  return names;
}

bool H5Reader::has_attribute(const std::string& object, const std::string& name) const {
  if (object != "/") impl_->open_dataset(object);
  return H5Aexists_by_name(impl_->file.get(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

H5Reader::Dataset H5Reader::dataset(const std::string& name) const {
  Handle dataset = impl_->open_dataset(name);
  Handle type = impl_->checked(H5Dget_type(dataset.get()), name);
  for (H5Type candidate :
       {H5Type::u8, H5Type::u16, H5Type::u32, H5Type::u64, H5Type::i32, H5Type::i64, H5Type::f32, H5Type::f64}) {
    if (H5Tequal(type.get(), file_type(candidate)) <= 0) continue;
    Dataset d = impl_->describe(dataset, name, size_of(candidate));
    d.type = candidate;
    return d;
  }
  impl_->refuse("dataset '{}' holds no plain little-endian numbers", name);
}

std::vector<std::string> H5Reader::read_text(const std::string& name, uint64_t max_bytes) const {
  Handle dataset = impl_->open_dataset(name);
  Handle type = impl_->checked(H5Dget_type(dataset.get()), name);
  const size_t width = impl_->text_bytes(type, name);
  const Dataset d = impl_->describe(dataset, name, width);
  if (d.region.bytes > max_bytes)
    impl_->refuse("'{}' has {} bytes, at most {} are read", name, d.region.bytes, max_bytes);
  std::string padded(d.region.bytes, '\0');
  impl_->checked_call(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, padded.data()), name);
  std::vector<std::string> values;
  for (uint64_t i = 0; i < d.elements; ++i) {
    const char* value = padded.data() + i * width;
    values.emplace_back(value, strnlen(value, width));
  }
  return values;
}

std::string H5Reader::text_attribute(const std::string& object, const std::string& name) const {
  Handle attribute = impl_->open_attribute(object, name);
  Handle type = impl_->checked(H5Aget_type(attribute.get()), name);
  Handle space = impl_->checked(H5Aget_space(attribute.get()), name);
  if (H5Sget_simple_extent_npoints(space.get()) != 1)
    impl_->refuse("attribute '{}' of '{}' is not one value", name, object);
  std::string value(impl_->text_bytes(type, name), '\0');
  impl_->checked_call(H5Aread(attribute.get(), type.get(), value.data()), name);
  value.resize(strnlen(value.data(), value.size()));
  return value;
}
uint64_t H5Reader::uint_attribute(const std::string& object, const std::string& name) const {
  return impl_->scalar<uint64_t>(object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, "a 64-bit count");
}
int64_t H5Reader::int_attribute(const std::string& object, const std::string& name) const {
  return impl_->scalar<int64_t>(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, "a 64-bit integer");
}
double H5Reader::real_attribute(const std::string& object, const std::string& name) const {
  return impl_->scalar<double>(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, "a 64-bit float");
}

}  // namespace tael
