#include "control/cni/plugin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <optional>

#include "base/fd.h"
#include "control/cni/delegate.h"
#include "control/cni/pending_deletes.h"
#include "control/cni/result.h"
#include "control/cni/wire.h"
#include "loader/netlink.h"

namespace bpfnet::cni {
namespace {

constexpr Version kFirstWithCheck{0, 4, 0};
constexpr Version kFirstWithGcAndStatus{1, 1, 0};

CniError as_cni_error(const Error& error) {
  const ErrorCode code = api::agent_is_down(error) ? ErrorCode::kTryAgain : ErrorCode::kIo;
  const char* hint = api::agent_is_down(error) ? "; is bpfnetd running?" : "";
  return {static_cast<int>(code), error.message + hint, {}};
}

CniResult<std::string> body_of(const Result<api::UnixResponse>& response) {
  if (!response) return tl::unexpected<CniError>(as_cni_error(response.error()));
  if (response->status == 200) return response->body;
  return tl::unexpected<CniError>(decode_error(response->status, response->body));
}

CniResult<void> without_body(const CniResult<std::string>& body) {
  if (!body) return forward_error(body);
  return {};
}

// C7, code 8: a runtime that hands us our own netns would have us configure the node itself.
CniResult<void> refuse_own_netns(const std::string& path) {
  struct stat theirs {};
  struct stat ours {};
  if (::stat(path.c_str(), &theirs) != 0) return {};  // the agent tells what is wrong with it
  if (::stat("/proc/thread-self/ns/net", &ours) != 0) return {};
  if (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino) return {};
  return refuse(ErrorCode::kOwnNetns, "CNI_NETNS {} is the plugin's own network namespace", path);
}

/// One invocation with everything it was given.
class Invocation {
 public:
  Invocation(const NetConf& conf, const Environment& environment, const Variables& variables,
             AgentLink& agent)
      : conf_(conf), environment_(environment), variables_(variables), agent_(agent) {}

  /// The text for stdout; most commands have none.
  CniResult<std::string> run() {
    switch (environment_.command) {
      case Command::kAdd:
        return add();
      case Command::kDel:
        return silent(del());
      case Command::kCheck:
        return silent(check());
      case Command::kGc:
        return silent(gc());
      case Command::kStatus:
        return silent(status());
      case Command::kVersion:
        break;
    }
    return refuse(ErrorCode::kBadEnvironment, "unknown command");
  }

 private:
  static CniResult<std::string> silent(const CniResult<void>& done) {
    if (!done) return forward_error(done);
    return std::string{};
  }

  CniResult<std::optional<IpamPlugin>> ipam_plugin() const {
    if (conf_.ipam_plugin.empty()) return std::optional<IpamPlugin>{};
    auto plugin = IpamPlugin::find(conf_, environment_, variables_);
    if (!plugin) return forward_error(plugin);
    return std::optional<IpamPlugin>(std::move(*plugin));
  }

  AddRequest add_request() const {
    AddRequest request;
    request.key = environment_.key;
    request.netns = environment_.netns;
    request.network = conf_.name;
    request.pod = environment_.pod;
    request.pod_uid = environment_.pod_uid;
    // runtimeConfig is the newer way to say the same as CNI_ARGS.
    request.ips = conf_.ips.empty() ? environment_.ips : conf_.ips;
    request.mac = conf_.mac ? conf_.mac : environment_.mac;
    request.ranges = conf_.ranges;
    request.mtu = conf_.mtu;
    request.host_ports = conf_.host_ports;
    return request;
  }

  CniResult<std::string> add() {
    if (auto other = refuse_own_netns(environment_.netns); !other) return forward_error(other);
    auto ipam = ipam_plugin();
    if (!ipam) return forward_error(ipam);
    AddRequest request = add_request();
    ResultDns ipam_dns;
    if (*ipam) {
      auto given = (*ipam)->add();
      if (!given) {
        // host-local and others may have leased before they failed.
        (void)(*ipam)->del();
        return forward_error(given);
      }
      request.delegated.emplace();
      for (const ResultIp& ip : given->ips) request.delegated->ips.push_back(ip.address);
      for (const ResultRoute& route : given->routes) request.delegated->routes.push_back(route.dst);
      ipam_dns = given->dns;
    }
    auto reply = add_by_agent(request);
    if (!reply) {
      if (*ipam) (void)(*ipam)->del();
      return forward_error(reply);
    }
    AddResult result = std::move(reply->result);
    result.dns = conf_.dns.empty() ? ipam_dns : conf_.dns;
    if (conf_.prev_result) result = merge(*conf_.prev_result, result);
    return result_json(result, conf_.version);
  }

  CniResult<AddReply> add_by_agent(const AddRequest& request) {
    const auto response = agent_.post("add", encode(request));
    auto body = body_of(response);
    if (body) {
      auto reply = decode_reply(*body);
      if (reply) return reply;
      body = forward_error(reply);
    }
    // Without a clear answer the endpoint may exist: take it back.
    const bool clear_answer = response ? response->status != 200 : api::agent_is_down(response.error());
    if (!clear_answer) (void)agent_.post("del", encode(DeleteRequest{request.key, request.netns}));
    return forward_error(body);
  }

  CniResult<void> del() {
    const DeleteRequest request{environment_.key, environment_.netns};
    const std::string message = encode(request);
    const auto response = agent_.post("del", message);
    CniResult<void> done = response ? without_body(body_of(response)) : leave_for_agent(request, message);
    // The addresses go back even if the agent failed: the runtime may never ask again.
    auto ipam = ipam_plugin();
    if (!ipam) return forward_error(done ? CniResult<void>(forward_error(ipam)) : done);
    if (*ipam) {
      if (auto released = (*ipam)->del(); !released && done) done = forward_error(released);
    }
    return done;
  }

  /// No agent: cut the pod off and note the rest for the next agent (C11).
  CniResult<void> leave_for_agent(const DeleteRequest& request, const std::string& message) {
    const std::string directory = conf_.state_dir + "/deletes";
    if (auto written = write_pending_delete(directory, request); !written) {
      return refuse(ErrorCode::kTryAgain, "{}", written.error().message);
    }
    // An agent that began to listen in between may have looked through the directory before our file was
    // there; one that begins later will find it.
    if (const auto response = agent_.post("del", message); response && response->status == 200) {
      ::unlink(pending_delete_file(directory, request.key).c_str());
      return {};
    }
    if (auto netlink = loader::Netlink::open()) (void)netlink->delete_link(host_ifname(request.key));
    return {};
  }

  CniResult<void> check() {
    if (!conf_.prev_result)
      return refuse(ErrorCode::kInvalidConfig, "prevResult is missing; CHECK compares with it");
    if (auto other = refuse_own_netns(environment_.netns); !other) return other;
    auto ipam = ipam_plugin();
    if (!ipam) return forward_error(ipam);
    if (*ipam) {
      if (auto checked = (*ipam)->check(); !checked) return checked;
    }
    return without_body(body_of(agent_.post(
        "check", encode(CheckRequest{environment_.key, environment_.netns, *conf_.prev_result}))));
  }

  CniResult<void> gc() {
    if (!conf_.valid_attachments) {
      return refuse(ErrorCode::kInvalidConfig,
                    "cni.dev/valid-attachments is missing; GC would free everything");
    }
    CniResult<void> done =
        without_body(body_of(agent_.post("gc", encode(GcRequest{conf_.name, *conf_.valid_attachments}))));
    auto ipam = ipam_plugin();
    CniResult<void> delegated;
    if (!ipam) {
      delegated = forward_error(ipam);
    } else if (*ipam) {
      delegated = (*ipam)->gc();
    }
    if (done || delegated) return done ? delegated : done;
    done.error().message += "; " + delegated.error().message;
    return done;
  }

  CniResult<void> status() {
    auto answer =
        without_body(body_of(agent_.get(conf_.ipam_plugin.empty() ? "status" : "status?ipam=delegated")));
    // STATUS has codes of its own for "not now".
    if (!answer && answer.error().code != static_cast<int>(ErrorCode::kLimited)) {
      answer.error().code = static_cast<int>(ErrorCode::kUnavailable);
    }
    if (!answer) return answer;
    auto ipam = ipam_plugin();
    if (!ipam) return refuse(ErrorCode::kUnavailable, "{}", ipam.error().message);
    if (*ipam) return (*ipam)->status();
    return {};
  }

  const NetConf& conf_;
  const Environment& environment_;
  const Variables& variables_;
  AgentLink& agent_;
};

CniResult<void> refuse_old_version(Command command, Version version) {
  const bool too_old =
      (command == Command::kCheck && version < kFirstWithCheck) ||
      ((command == Command::kGc || command == Command::kStatus) && version < kFirstWithGcAndStatus);
  if (!too_old) return {};
  return refuse(ErrorCode::kIncompatibleVersion, "cniVersion {} has no {}", version.to_string(),
                command == Command::kCheck ? "CHECK"
                : command == Command::kGc  ? "GC"
                                           : "STATUS");
}

/// One line for each invocation, in a file that many processes append to.
void log_invocation(const NetConf& conf, const Variables& variables, const CniResult<std::string>& outcome,
                    std::chrono::microseconds took) {
  if (conf.log_file.empty()) return;
  const Fd file(::open(conf.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!file) return;
  const auto value = [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string("-") : found->second;
  };
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string line = fmt::format(
      "{} {} {} {} {} us {}\n", std::chrono::duration_cast<std::chrono::milliseconds>(now).count(),
      value("CNI_COMMAND"), value("CNI_CONTAINERID"), value("CNI_IFNAME"), took.count(),
      outcome ? "ok" : fmt::format("error {}: {}", outcome.error().code, outcome.error().message));
  // A log that cannot be written must not fail the pod.
  if (::write(file.get(), line.data(), line.size()) < 0) return;
}

CniResult<std::string> invoke(Command command, const Variables& variables, std::string_view input,
                              const OpenAgent& open_agent) {
  const auto begin = std::chrono::steady_clock::now();
  auto environment = parse_environment(command, variables);
  if (!environment) return forward_error(environment);
  const bool lenient = command == Command::kDel || command == Command::kGc;
  auto conf = parse_conf(input, lenient);
  if (!conf) return forward_error(conf);
  if (auto known = refuse_old_version(command, conf->version); !known) return forward_error(known);
  const auto agent = open_agent(*conf);
  auto outcome = Invocation(*conf, *environment, variables, *agent).run();
  log_invocation(
      *conf, variables, outcome,
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin));
  return outcome;
}

}  // namespace

UnixAgentLink::UnixAgentLink(const NetConf& conf) : client_({.socket = conf.socket}) {}

Result<api::UnixResponse> UnixAgentLink::post(std::string_view call, std::string_view body) {
  return client_.post(fmt::format("/v1/cni/{}", call), body);
}

Result<api::UnixResponse> UnixAgentLink::get(std::string_view call) {
  return client_.get(fmt::format("/v1/cni/{}", call));
}

PluginOutcome run_plugin(const Variables& variables, std::string_view input, const OpenAgent& open_agent) {
  const auto command = parse_command(variables);
  if (command && *command == Command::kVersion) return {0, version_answer(version_of(input))};
  const auto outcome = command ? invoke(*command, variables, input, open_agent)
                               : CniResult<std::string>(forward_error(command));
  if (outcome) return {0, *outcome};
  return {1, error_json(outcome.error(), version_of(input))};
}

}  // namespace bpfnet::cni
