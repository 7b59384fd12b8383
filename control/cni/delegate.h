#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/cni/config.h"
#include "control/cni/environment.h"
#include "control/cni/error.h"

namespace bpfnet::cni {

/// An IPAM plugin that the configuration names, such as host-local. It is run as a runtime would run it:
/// found by CNI_PATH, with our environment but for CNI_COMMAND, and our stdin. Where it does not speak the
/// configuration's version it is asked in the newest one it does.
class IpamPlugin {
 public:
  /// Fails with kIpamPlugin when CNI_PATH has no such program.
  static CniResult<IpamPlugin> find(const NetConf& conf, const Environment& environment,
                                    const Variables& variables);

  CniResult<AddResult> add() const;
  CniResult<void> del() const { return run_without_result("DEL"); }
  CniResult<void> check() const { return run_without_result("CHECK"); }
  /// GC and STATUS came with 1.1.0: success where the plugin does not know them.
  CniResult<void> gc() const { return run_if_new("GC"); }
  CniResult<void> status() const { return run_if_new("STATUS"); }

 private:
  struct Answer {
    bool success = false;
    std::string output;
    Version version;  ///< the one it was asked in
  };

  IpamPlugin(std::string program, const NetConf& conf, const Variables& variables)
      : program_(std::move(program)), conf_(conf), variables_(variables) {}

  [[nodiscard]] CniResult<Answer> ask(const char* command) const;
  [[nodiscard]] CniResult<std::optional<Version>> common_version() const;
  [[nodiscard]] CniResult<void> run_without_result(const char* command) const;
  [[nodiscard]] CniResult<void> run_if_new(const char* command) const;
  [[nodiscard]] tl::unexpected<CniError> failure(const char* command, const Answer& answer) const;

  std::string program_;
  const NetConf& conf_;
  const Variables& variables_;
};

/// The end of a program that was run.
struct ProgramOutput {
  int exit_code = 0;  ///< 128 + signal if it was killed
  std::string output;
};

/// Runs `program` with `input` as stdin and the given CNI variables on top of this process's environment;
/// stderr is shared. Waits for its end. A busy text file is tried again (C18).
CniResult<ProgramOutput> run_program(const std::string& program, const Variables& variables,
                                     std::string_view input);

}  // namespace bpfnet::cni
