#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/api/unix_client.h"
#include "control/cni/config.h"
#include "control/cni/environment.h"

namespace bpfnet::cni {

/// How the plugin reaches the agent.
class AgentLink {
 public:
  virtual ~AgentLink() = default;
  /// `call` is the part after /v1/cni/. Errors as of api::UnixClient.
  virtual Result<api::UnixResponse> post(std::string_view call, std::string_view body) = 0;
  virtual Result<api::UnixResponse> get(std::string_view call) = 0;
};

/// By the socket the configuration names.
class UnixAgentLink final : public AgentLink {
 public:
  explicit UnixAgentLink(const NetConf& conf);
  Result<api::UnixResponse> post(std::string_view call, std::string_view body) override;
  Result<api::UnixResponse> get(std::string_view call) override;

 private:
  api::UnixClient client_;
};

/// What the process ends with.
struct PluginOutcome {
  int exit_code = 0;
  std::string output;  ///< for stdout: the result, or the error (C7)
};

/// Opens the link to the agent that a configuration names.
using OpenAgent = std::function<std::unique_ptr<AgentLink>(const NetConf&)>;

/// The whole plugin but for reading stdin and writing stdout: one invocation, as a runtime makes it.
PluginOutcome run_plugin(const Variables& variables, std::string_view input, const OpenAgent& open_agent);

}  // namespace bpfnet::cni
