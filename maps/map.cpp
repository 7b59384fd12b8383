#include "maps/map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "maps/libbpf_options.h"

namespace bpfnet::maps {
namespace {

/// Entries of the first batch read; a hash bucket that does not fit makes it grow.
constexpr uint32_t kFirstBatch = 1024;

size_t padded_key(const MapInfo& info) {
  // Hash maps hand out a 32-bit bucket number as the resume token, others the last key.
  return std::max<size_t>(info.key_size, sizeof(uint32_t));
}

}  // namespace

std::string hex_text(const void* bytes, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i)
    text += fmt::format("{}{:02x}", i == 0 ? "" : " ", static_cast<const uint8_t*>(bytes)[i]);
  return text;
}

uint32_t possible_cpus() {
  static const int count = libbpf_num_possible_cpus();
  return count > 0 ? static_cast<uint32_t>(count) : 1;
}

Result<MapInfo> MapInfo::of(int fd) {
  bpf_map_info raw{};
  uint32_t size = sizeof(raw);
  if (const int rc = bpf_obj_get_info_by_fd(fd, &raw, &size); rc < 0) return fail_errno(rc, "read map info");
  return MapInfo{.name = raw.name,
                 .id = raw.id,
                 .type = raw.type,
                 .key_size = raw.key_size,
                 .value_size = raw.value_size,
                 .max_entries = raw.max_entries,
                 .flags = raw.map_flags};
}

Result<MapBase> MapBase::adopt(Fd fd, std::string name, size_t key_size, size_t value_size) {
  auto info = MapInfo::of(fd.get());
  if (!info) return pass(info, "map " + name);
  if ((key_size != 0 && info->key_size != key_size) || (value_size != 0 && info->value_size != value_size))
    return fail("map {}: the kernel's records are {}/{} bytes (key/value), this build's {}/{}", name,
                info->key_size, info->value_size, key_size, value_size);
  MapBase map;
  map.fd_ = std::move(fd);
  map.name_ = std::move(name);
  map.info_ = std::move(*info);
  return map;
}

tl::unexpected<Error> MapBase::error(int code, std::string_view operation, const std::string& text) const {
  code = code < 0 ? -code : code;
  const std::string what = text.empty() ? std::string() : fmt::format(" {{{}}}", text);
  if (code == E2BIG)
    return fail_errno(code, "map {}: {}{}: full, it has room for {} entries", name_, operation, what,
                      info_.max_entries);
  return fail_errno(code, "map {}: {}{}", name_, operation, what);
}

Result<bool> MapBase::raw_get(const void* key, void* value, const std::string& text) const {
  const int rc = bpf_map_lookup_elem(fd(), key, value);
  if (rc == 0) return true;
  if (rc == -ENOENT) return false;
  return error(rc, "lookup", text);
}

Status MapBase::raw_put(const void* key, const void* value, Put flags, const std::string& text) const {
  const int rc = bpf_map_update_elem(fd(), key, value, static_cast<uint64_t>(flags));
  if (rc == 0) return ok();
  return error(rc, "update", text);
}

Result<bool> MapBase::raw_erase(const void* key, const std::string& text) const {
  const int rc = bpf_map_delete_elem(fd(), key);
  if (rc == 0) return true;
  if (rc == -ENOENT) return false;
  return error(rc, "delete", text);
}

Status MapBase::raw_entries(std::vector<uint8_t>& keys, std::vector<uint8_t>& values,
                            size_t value_stride) const {
  const size_t key_size = info_.key_size;
  std::vector<uint8_t> token(padded_key(info_));
  std::vector<uint8_t> next(padded_key(info_));
  bool resumed = false;
  uint32_t batch = std::min(kFirstBatch, std::max(1U, info_.max_entries));
  size_t read = 0;
  for (;;) {
    keys.resize((read + batch) * key_size);
    values.resize((read + batch) * value_stride);
    uint32_t count = batch;
    const int rc = bpf_map_lookup_batch(fd(), resumed ? token.data() : nullptr, next.data(),
                                        keys.data() + read * key_size, values.data() + read * value_stride,
                                        &count, nullptr);
    if (rc == -ENOSPC && count == 0) {
      batch *= 2;  // one bucket alone is larger than the batch
      continue;
    }
    // EINTR: keys vanished while an LPM map was read; what was read so far counts, the walk goes on.
    if (rc != 0 && rc != -ENOENT && rc != -ENOSPC && rc != -EINTR) {
      keys.resize(read * key_size);
      values.resize(read * value_stride);
      return error(rc, "read", "");
    }
    read += count;
    if (rc == -ENOENT) break;
    if (count > 0) {
      token.swap(next);
      resumed = true;
    }
  }
  keys.resize(read * key_size);
  values.resize(read * value_stride);
  return ok();
}

Status MapBase::raw_put_batch(const void* keys, const void* values, size_t count, Put flags,
                              size_t& done) const {
  const auto* key = static_cast<const uint8_t*>(keys);
  const auto* value = static_cast<const uint8_t*>(values);
  done = 0;
  auto opts = libbpf_options<bpf_map_batch_opts>();
  opts.elem_flags = static_cast<uint64_t>(flags);
  while (done < count) {
    auto n = static_cast<uint32_t>(count - done);
    const int rc =
        bpf_map_update_batch(fd(), key + done * info_.key_size, value + done * info_.value_size, &n, &opts);
    // EFAULT and EPERM come before the count is written; it then still says "all".
    if (rc != 0 && n >= count - done) n = 0;
    done += n;
    if (rc == -EINTR || rc == -EAGAIN) continue;
    if (rc == -EINVAL && n == 0 && flags == Put::kNew) {
      // Kernels whose batches take no BPF_NOEXIST: one by one.
      for (; done < count; ++done) {
        const int single = bpf_map_update_elem(fd(), key + done * info_.key_size,
                                               value + done * info_.value_size, static_cast<uint64_t>(flags));
        if (single != 0) return error(single, "update", fmt::format("entry {} of {}", done + 1, count));
      }
      return ok();
    }
    if (rc != 0) return error(rc, "update", fmt::format("entry {} of {}", done + 1, count));
  }
  return ok();
}

Result<size_t> MapBase::raw_erase_batch(const void* keys, size_t count) const {
  const auto* key = static_cast<const uint8_t*>(keys);
  size_t seen = 0;
  size_t erased = 0;
  while (seen < count) {
    auto n = static_cast<uint32_t>(count - seen);
    const int rc = bpf_map_delete_batch(fd(), key + seen * info_.key_size, &n, nullptr);
    if (rc != 0 && n >= count - seen) n = 0;
    seen += n;
    erased += n;
    if (rc == -EINTR || rc == -EAGAIN) continue;
    if (rc == -ENOENT) {
      ++seen;  // the kernel stops at a key that is gone: pass over it
      continue;
    }
    if (rc != 0) return error(rc, "delete", fmt::format("entry {} of {}", seen + 1, count));
  }
  return erased;
}

Result<bool> queue_pop(int fd, const std::string& name, void* value) {
  const int rc = bpf_map_lookup_and_delete_elem(fd, nullptr, value);
  if (rc == 0) return true;
  if (rc == -ENOENT) return false;
  return fail_errno(rc, "map {}: pop", name);
}

}  // namespace bpfnet::maps
