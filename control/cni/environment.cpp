#include "control/cni/environment.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace bpfnet::cni {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(separator));
    if (!part.empty()) parts.emplace_back(part);
    text.remove_prefix(std::min(text.size(), part.size() + 1));
  }
  return parts;
}

CniResult<void> parse_args(std::string_view text, Environment& environment) {
  for (const std::string& pair : split(text, ';')) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos)
      return refuse(ErrorCode::kBadEnvironment, "CNI_ARGS: `{}` is not KEY=VALUE", pair);
    const std::string key = pair.substr(0, equals);
    const std::string value = pair.substr(equals + 1);
    if (key == "K8S_POD_NAMESPACE") environment.pod.ns = value;
    if (key == "K8S_POD_NAME") environment.pod.name = value;
    if (key == "K8S_POD_UID") environment.pod_uid = value;
    if (key == "IP") {
      for (const std::string& each : split(value, ',')) {
        auto ip = Address::parse(std::string_view(each).substr(0, each.find('/')));
        if (!ip) return refuse(ErrorCode::kBadEnvironment, "CNI_ARGS: IP={}: {}", value, ip.error().message);
        environment.ips.push_back(*ip);
      }
    }
    if (key == "MAC") {
      auto mac = Mac::parse(value);
      if (!mac) return refuse(ErrorCode::kBadEnvironment, "CNI_ARGS: MAC={}: {}", value, mac.error().message);
      environment.mac = *mac;
    }
  }
  return {};
}

bool ascii_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

Variables read_variables(char** environment) {
  Variables variables;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    const size_t equals = entry.find('=');
    if (equals == std::string_view::npos || !entry.starts_with("CNI_")) continue;
    variables.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return variables;
}

CniResult<Command> parse_command(const Variables& variables) {
  static const std::map<std::string, Command, std::less<>> commands = {
      {"ADD", Command::kAdd}, {"DEL", Command::kDel},       {"CHECK", Command::kCheck},
      {"GC", Command::kGc},   {"STATUS", Command::kStatus}, {"VERSION", Command::kVersion}};
  const auto found = variables.find("CNI_COMMAND");
  if (found == variables.end() || found->second.empty()) {
    return refuse(ErrorCode::kBadEnvironment, "required environment variable CNI_COMMAND is missing");
  }
  const auto command = commands.find(found->second);
  if (command == commands.end()) {
    return refuse(ErrorCode::kBadEnvironment, "CNI_COMMAND: unknown command `{}`", found->second);
  }
  return command->second;
}

CniResult<Environment> parse_environment(Command command, const Variables& variables) {
  Environment environment;
  environment.command = command;
  if (command == Command::kVersion) return environment;

  std::string missing;
  const auto read = [&](const char* name, bool required) -> std::string {
    const auto found = variables.find(name);
    if (found != variables.end() && !found->second.empty()) return found->second;
    if (required) missing += (missing.empty() ? "" : ", ") + std::string(name);
    return {};
  };
  const bool of_container =
      command == Command::kAdd || command == Command::kCheck || command == Command::kDel;
  environment.key.container_id = read("CNI_CONTAINERID", of_container);
  environment.netns = read("CNI_NETNS", of_container && command != Command::kDel);
  environment.key.ifname = read("CNI_IFNAME", of_container);
  environment.path = split(read("CNI_PATH", !of_container), ':');
  if (!missing.empty()) {
    return refuse(ErrorCode::kBadEnvironment, "required environment variables are missing: {}", missing);
  }
  if (!of_container) {
    environment.key = {};
    return environment;
  }
  if (!valid_name(environment.key.container_id)) {
    return refuse(
        ErrorCode::kBadEnvironment,
        "CNI_CONTAINERID `{}`: only letters, digits, `_`, `.` and `-`, beginning with a letter or digit",
        environment.key.container_id);
  }
  if (!valid_ifname(environment.key.ifname)) {
    return refuse(ErrorCode::kBadEnvironment,
                  "CNI_IFNAME `{}`: 1 to 15 characters without `/`, `:` and whitespace, not `.` or `..`",
                  environment.key.ifname);
  }
  // A DEL needs nothing from CNI_ARGS; refusing it for them would leave the container's state behind.
  if (command == Command::kAdd) {
    if (auto parsed = parse_args(read("CNI_ARGS", false), environment); !parsed) return forward_error(parsed);
  }
  return environment;
}

bool valid_name(std::string_view name) {
  return !name.empty() && ascii_alphanumeric(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return ascii_alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

bool valid_ifname(std::string_view name) {
  return !name.empty() && name.size() <= 15 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == ':' || std::isspace(static_cast<unsigned char>(c)) != 0;
         });
}

}  // namespace bpfnet::cni
