#include "loader/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "loader/bpffs.h"
#include "loader/clsact.h"
#include "loader/tcx.h"
#include "maps/libbpf_options.h"

namespace bpfnet::loader {
namespace {

/// What a pin holds, and where it acts.
struct Pin {
  enum class Kind { kLink, kFilter };
  Kind kind = Kind::kLink;
  Fd fd;
  LinkPinName name;
  int ifindex = 0;  // 0: the device is gone
  uint32_t type = 0;
  uint32_t program = 0;
  uint32_t attach_type = 0;
};

bool is_link(int fd) {
  char target[64];
  const ssize_t size = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target,
                                sizeof(target));  // no info call tells them apart
  return size > 0 &&
         std::string_view(target, static_cast<size_t>(size)).find("link") != std::string_view::npos;
}

/// nullopt: the pin went away meanwhile, or is none of ours.
Result<std::optional<Pin>> open_pin(const std::string& dir, const std::string& file) {
  auto name = parse_link_pin_name(file);
  if (!name) return std::optional<Pin>{};
  const std::string path = dir + "/" + file;
  Pin pin;
  pin.fd = Fd(bpf_obj_get(path.c_str()));
  if (pin.fd.get() == -ENOENT) return std::optional<Pin>{};
  if (!pin.fd) return fail_errno(pin.fd.get(), "pin {}: open", path);
  pin.name = std::move(*name);
  if (is_link(pin.fd.get())) {
    bpf_link_info info{};
    uint32_t size = sizeof(info);
    if (const int rc = bpf_obj_get_info_by_fd(pin.fd.get(), &info, &size); rc != 0)
      return fail_errno(rc, "pin {}: read link info", path);
    pin.type = info.type;
    pin.program = info.prog_id;
    pin.ifindex = link_ifindex(info);
    pin.attach_type = info.netns.attach_type;  // second field of a TCX link too
  } else {
    pin.kind = Pin::Kind::kFilter;
    bpf_prog_info info{};
    uint32_t size = sizeof(info);
    if (const int rc = bpf_obj_get_info_by_fd(pin.fd.get(), &info, &size); rc != 0)
      return fail_errno(rc, "pin {}: read program info", path);
    pin.program = info.id;
    pin.ifindex = static_cast<int>(if_nametoindex(pin.name.ifname.c_str()));
    pin.attach_type =
        clsact_direction(pin.name.hook, pin.name.ifname) == Direction::kIngress ? kTcxIngress : kTcxEgress;
  }
  return std::optional<Pin>{std::move(pin)};
}

Direction direction_of(uint32_t attach_type) {
  return attach_type == static_cast<uint32_t>(kTcxIngress) ? Direction::kIngress : Direction::kEgress;
}

std::string mechanism_of(const Pin& pin) {
  if (pin.kind == Pin::Kind::kFilter) return "clsact";
  if (pin.type == kLinkTypeTcx) return "tcx";
  if (pin.type != kLinkTypeXdp) return fmt::format("link-{}", pin.type);
  auto opts = maps::libbpf_options<bpf_xdp_query_opts>();
  if (pin.ifindex != 0 && bpf_xdp_query(pin.ifindex, 0, &opts) == 0 && opts.attach_mode == XDP_ATTACHED_SKB)
    return "xdp-generic";
  return "xdp-native";
}

/// Takes the program off the device and the pin out of the directory.
Status drop_pin(const std::string& dir, const std::string& file, const Pin& pin) {
  if (pin.kind == Pin::Kind::kFilter) {
    if (pin.ifindex != 0) BPFNET_TRY(clsact_detach(pin.ifindex, direction_of(pin.attach_type)));
  } else if (const int rc = bpf_link_detach(pin.fd.get()); rc != 0 && pin.ifindex != 0) {
    // Detaching is at once; without it the last reference would go some time after the pin.
    return fail_errno(rc, "pin {}/{}: detach", dir, file);
  }
  return remove_pin(dir + "/" + file);
}

/// Puts a pin of the program in the place of what is pinned there, at once.
Status replace_pin(int program, const std::string& path) {
  const std::string fresh = path + "%new";  // no link pin's name: passed over if we end here
  BPFNET_TRY(remove_pin(fresh));
  if (const int rc = bpf_obj_pin(program, fresh.c_str()); rc != 0)
    return fail_errno(rc, "pin {}: create", fresh);
  if (std::rename(fresh.c_str(), path.c_str()) != 0) return fail_errno(errno, "pin {}: replace", path);
  return ok();
}

Result<Fd> create_link(int program, int ifindex, const std::string& hook, AttachPoint point) {
  auto opts = maps::libbpf_options<bpf_link_create_opts>();
  auto type = point == AttachPoint::kIngress ? kTcxIngress : kTcxEgress;
  if (point == AttachPoint::kXdpGeneric || point == AttachPoint::kXdpNative) {
    type = BPF_XDP;
    opts.flags = point == AttachPoint::kXdpNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  }
  const int fd = bpf_link_create(program, ifindex, type, &opts);
  if (fd >= 0) return Fd(fd);
  if (fd == -EBUSY && type == BPF_XDP)
    return fail_errno(fd, "program {}: attach at link {} (another XDP program holds the device)", hook,
                      ifindex);
  return fail_errno(fd, "program {}: attach at link {}", hook, ifindex);
}

}  // namespace

Result<std::vector<std::string>> AttachmentTable::adopt() {
  std::vector<std::string> notes;
  pins_.clear();
  auto files = list_directory(link_dir_);
  if (!files) return pass(files);
  for (const std::string& file : *files) {
    auto pin = open_pin(link_dir_, file);
    if (!pin) return pass(pin);
    if (!*pin) continue;
    const int program = program_of_((*pin)->name.hook);
    if ((*pin)->ifindex == 0 || program < 0) {
      notes.push_back(fmt::format("{} is removed: {}", file,
                                  program < 0 ? "no such hook any more" : "the device is gone"));
      BPFNET_TRY(drop_pin(link_dir_, file, **pin));
      continue;
    }
    const int ifindex = (*pin)->ifindex;
    if ((*pin)->kind == Pin::Kind::kLink) {
      const int rc = bpf_link_update((*pin)->fd.get(), program, nullptr);
      if (rc == -ENOLINK) {  // the device went between the look and the update
        BPFNET_TRY(remove_pin(link_dir_ + "/" + file));
        continue;
      }
      if (rc != 0) return fail_errno(rc, "pin {}/{}: update its program", link_dir_, file);
    } else {
      BPFNET_TRY(clsact_attach(ifindex, direction_of((*pin)->attach_type), program));
      BPFNET_TRY(replace_pin(program, link_dir_ + "/" + file));  // the note must hold the program that runs
    }
    pins_[{ifindex, (*pin)->name.hook}] = file;
  }
  return notes;
}

Result<bool> AttachmentTable::attach(int ifindex, const std::string& hook, AttachPoint point,
                                     TcMechanism mechanism) {
  const int program = program_of_(hook);
  if (program < 0) return fail_errno(ENOENT, "program {}: not in this build", hook);
  char ifname[IF_NAMESIZE];
  if (if_indextoname(static_cast<unsigned>(ifindex), ifname) == nullptr)
    return fail_errno(ENODEV, "program {}: attach at link {}", hook, ifindex);
  const std::string file = link_pin_name(ifname, hook);
  const bool xdp = point == AttachPoint::kXdpGeneric || point == AttachPoint::kXdpNative;

  if (const auto known = pins_.find({ifindex, hook}); known != pins_.end()) {
    auto pin = open_pin(link_dir_, known->second);
    if (!pin) return pass(pin);
    const bool same = *pin && (*pin)->ifindex == ifindex &&
                      (!xdp || (mechanism_of(**pin) == "xdp-native") == (point == AttachPoint::kXdpNative));
    if (same && (*pin)->kind == Pin::Kind::kLink) {
      if (const int rc = bpf_link_update((*pin)->fd.get(), program, nullptr); rc == 0) return false;
    } else if (same) {
      BPFNET_TRY(clsact_attach(ifindex, direction_of((*pin)->attach_type), program));
      return false;
    }
    if (*pin) BPFNET_TRY(drop_pin(link_dir_, known->second, **pin));
    pins_.erase(known);
  }
  // A pin of that name belongs to a device that was here before, under the same name.
  if (auto old = open_pin(link_dir_, file); old && *old) {
    std::erase_if(pins_, [&](const auto& entry) { return entry.second == file; });
    BPFNET_TRY(drop_pin(link_dir_, file, **old));
  }

  const std::string path = link_dir_ + "/" + file;
  if (xdp || mechanism == TcMechanism::kTcx) {
    auto link = create_link(program, ifindex, hook, point);
    if (!link) return pass(link);
    // On failure the link goes with its descriptor, and the program with it.
    if (const int rc = bpf_obj_pin(link->get(), path.c_str()); rc != 0)
      return fail_errno(rc, "pin {}: create", path);
  } else {
    const Direction direction = point == AttachPoint::kIngress ? Direction::kIngress : Direction::kEgress;
    BPFNET_TRY(clsact_attach(ifindex, direction, program));
    if (const int rc = bpf_obj_pin(program, path.c_str()); rc != 0) {
      const auto undone = clsact_detach(ifindex, direction);
      return fail_errno(rc, "pin {}: create{}", path, undone ? "" : ", and the filter stays");
    }
  }
  pins_[{ifindex, hook}] = file;
  return true;
}

Status AttachmentTable::detach(int ifindex, const std::string& hook) {
  const auto known = pins_.find({ifindex, hook});
  if (known == pins_.end()) return ok();
  auto pin = open_pin(link_dir_, known->second);
  if (!pin) return pass(pin);
  if (*pin) BPFNET_TRY(drop_pin(link_dir_, known->second, **pin));
  pins_.erase(known);
  return ok();
}

Status AttachmentTable::detach_all(int ifindex) {
  std::vector<std::string> hooks;
  for (const auto& [key, file] : pins_)
    if (key.first == ifindex) hooks.push_back(key.second);
  for (const std::string& hook : hooks) BPFNET_TRY(detach(ifindex, hook));
  return ok();
}

Result<std::vector<std::string>> AttachmentTable::remove_stale() {
  std::vector<std::string> removed;
  for (auto it = pins_.begin(); it != pins_.end();) {
    auto pin = open_pin(link_dir_, it->second);
    if (!pin) return pass(pin);
    if (*pin && (*pin)->ifindex != 0) {
      ++it;
      continue;
    }
    if (*pin) BPFNET_TRY(drop_pin(link_dir_, it->second, **pin));
    removed.push_back(it->second);
    it = pins_.erase(it);
  }
  return removed;
}

Result<std::vector<Attachment>> AttachmentTable::list(const std::string& link_dir) {
  std::vector<Attachment> result;
  auto files = list_directory(link_dir);
  if (!files) return pass(files);
  for (const std::string& file : *files) {
    auto pin = open_pin(link_dir, file);
    if (!pin) return pass(pin);
    if (!*pin) continue;
    // Unlike a link a filter can be taken away under its note.
    if ((*pin)->kind == Pin::Kind::kFilter && (*pin)->ifindex != 0) {
      auto program = clsact_program((*pin)->ifindex, direction_of((*pin)->attach_type));
      if (!program) return pass(program);
      if (*program == 0) continue;
      (*pin)->program = *program;
    }
    result.push_back({.hook = (*pin)->name.hook,
                      .ifname = (*pin)->name.ifname,
                      .ifindex = (*pin)->ifindex,
                      .mechanism = mechanism_of(**pin),
                      .program = (*pin)->program});
  }
  return result;
}

Status AttachmentTable::remove_all(const std::string& link_dir) {
  auto files = list_directory(link_dir);
  if (!files) return pass(files);
  for (const std::string& file : *files) {
    auto pin = open_pin(link_dir, file);
    if (!pin) return pass(pin);
    if (*pin) BPFNET_TRY(drop_pin(link_dir, file, **pin));
  }
  return ok();
}

}  // namespace bpfnet::loader
