#include "control/cni/delegate.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "control/cni/result.h"

namespace bpfnet::cni {
namespace {

using nlohmann::json;

bool incompatible(std::string_view output) {
  const json answer = json::parse(output, nullptr, false);
  const json* code = find_any_case(answer, "code");
  return code != nullptr && code->is_number_integer() && code->get<int64_t>() == 1;
}

std::string with_version(const std::string& text, Version version) {
  json conf = json::parse(text, nullptr, false);
  conf["cniVersion"] = version.to_string();
  return conf.dump();
}

}  // namespace

CniResult<IpamPlugin> IpamPlugin::find(const NetConf& conf, const Environment& environment,
                                       const Variables& variables) {
  for (const std::string& directory : environment.path) {
    std::string program = directory + "/" + conf.ipam_plugin;
    if (::access(program.c_str(), X_OK) == 0) return IpamPlugin(std::move(program), conf, variables);
  }
  std::string where;
  for (const std::string& directory : environment.path) where += (where.empty() ? "" : ", ") + directory;
  return refuse(ErrorCode::kIpamPlugin, "IPAM plugin {} is in no directory of CNI_PATH ({})",
                conf.ipam_plugin, where);
}

CniResult<std::optional<Version>> IpamPlugin::common_version() const {
  Variables variables = variables_;
  variables["CNI_COMMAND"] = "VERSION";
  auto run = run_program(program_, variables, R"({"cniVersion":"1.0.0"})");
  if (!run) return forward_error(run);
  const json answer = json::parse(run->output, nullptr, false);
  std::optional<Version> best;
  if (const json* list = find_any_case(answer, "supportedVersions"); list != nullptr && list->is_array()) {
    for (const json& each : *list) {
      if (!each.is_string() || each.get_ref<const std::string&>().empty()) continue;
      const auto version = parse_version(each.get_ref<const std::string&>());
      if (version && *version <= conf_.version && (!best || *best < *version)) best = version;
    }
  }
  return best;
}

CniResult<IpamPlugin::Answer> IpamPlugin::ask(const char* command) const {
  Variables variables = variables_;
  variables["CNI_COMMAND"] = command;
  auto run = run_program(program_, variables, conf_.text);
  if (!run) return forward_error(run);
  if (run->exit_code == 0 || !incompatible(run->output))
    return Answer{run->exit_code == 0, run->output, conf_.version};
  auto version = common_version();
  if (!version) return forward_error(version);
  if (!*version || **version == conf_.version) return Answer{false, run->output, conf_.version};
  run = run_program(program_, variables, with_version(conf_.text, **version));
  if (!run) return forward_error(run);
  return Answer{run->exit_code == 0, run->output, **version};
}

tl::unexpected<CniError> IpamPlugin::failure(const char* command, const Answer& answer) const {
  const json output = json::parse(answer.output, nullptr, false);
  const json* code = find_any_case(output, "code");
  const json* message = find_any_case(output, "msg");
  const bool told =
      code != nullptr && code->is_number_integer() && message != nullptr && message->is_string();
  if (!told)
    return refuse(ErrorCode::kIpamPlugin, "IPAM plugin {} {} failed: {}", conf_.ipam_plugin, command,
                  answer.output);
  const json* details = find_any_case(output, "details");
  return tl::unexpected<CniError>(
      CniError{code->get<int>(),
               fmt::format("IPAM plugin {} {}: {}", conf_.ipam_plugin, command, message->get<std::string>()),
               details != nullptr && details->is_string() ? details->get<std::string>() : ""});
}

CniResult<AddResult> IpamPlugin::add() const {
  auto answer = ask("ADD");
  if (!answer) return forward_error(answer);
  if (!answer->success) return failure("ADD", *answer);
  auto result = parse_result(json::parse(answer->output, nullptr, false), answer->version);
  if (!result)
    return refuse(ErrorCode::kIpamPlugin, "IPAM plugin {}: {}", conf_.ipam_plugin, result.error().message);
  if (result->ips.empty())
    return refuse(ErrorCode::kIpamPlugin, "IPAM plugin {} gave no address", conf_.ipam_plugin);
  return result;
}

CniResult<void> IpamPlugin::run_without_result(const char* command) const {
  auto answer = ask(command);
  if (!answer) return forward_error(answer);
  if (!answer->success) return failure(command, *answer);
  return {};
}

CniResult<void> IpamPlugin::run_if_new(const char* command) const {
  auto version = common_version();
  if (!version) return forward_error(version);
  if (!*version || **version < kNewestVersion) return {};
  return run_without_result(command);
}

}  // namespace bpfnet::cni
