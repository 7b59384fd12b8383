#pragma once

#include <map>
#include <string>
#include <vector>

#include "control/cni/error.h"
#include "control/cni/types.h"

namespace bpfnet::cni {

enum class Command : uint8_t { kAdd, kDel, kCheck, kGc, kStatus, kVersion };

/// What a runtime says by environment variables (C3).
struct Environment {
  Command command = Command::kVersion;
  AttachmentKey key;              ///< CNI_CONTAINERID and CNI_IFNAME; empty for GC and STATUS
  std::string netns;              ///< CNI_NETNS; may be empty for DEL
  std::vector<std::string> path;  ///< CNI_PATH, taken apart
  // From CNI_ARGS (C4); keys we do not know are ignored.
  model::ObjectName pod;
  std::string pod_uid;
  std::vector<Address> ips;
  std::optional<Mac> mac;
};

using Variables = std::map<std::string, std::string>;

/// Every CNI_* variable and PATH of this process.
Variables read_variables(char** environment);

/// CNI_COMMAND alone, which decides what else must be there.
CniResult<Command> parse_command(const Variables& variables);

/// The rest, checked as `command` demands: missing or bad ones are code 4 and named (C3, C6, C7).
CniResult<Environment> parse_environment(Command command, const Variables& variables);

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`: container IDs and network names (C6).
bool valid_name(std::string_view name);
/// 1-15 characters, not `.` or `..`, no `/`, `:` or whitespace (C6).
bool valid_ifname(std::string_view name);

}  // namespace bpfnet::cni
