#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/runtimes/recorder.h"

namespace bpfnet::e2e {

/// A containerd of a node: in its namespace, with directories and a socket of its own. Called by CRI, as
/// kubelet calls it.
class Containerd {
 public:
  /// Starts it, waits until it answers, imports the image. Throws with the end of its log.
  Containerd(const Node& node, const std::string& plugins, const std::string& configurations);
  /// Stops and removes every sandbox made here, then containerd.
  ~Containerd();
  Containerd(const Containerd&) = delete;

  /// One CRI call. Throws std::runtime_error with the runtime's words.
  nlohmann::json call(const std::string& method, const nlohmann::json& request) const;
  /// Whether NetworkReady holds.
  [[nodiscard]] bool network_ready() const;
  /// Gives the id. Forgotten by remove().
  std::string run_sandbox(const nlohmann::json& config);
  /// As kubelet: once.
  void stop(const std::string& sandbox);
  void remove(const std::string& sandbox);
  /// Imports an archive; with `name` its image is called so too.
  void import(const std::string& archive, const std::string& name = "") const;

 private:
  [[nodiscard]] std::string socket() const { return dir_ + "/containerd.sock"; }
  std::string ctr(const std::vector<std::string>& args) const;
  void write_config(const std::string& plugins, const std::string& configurations) const;

  const Node& node_;
  std::string dir_;
  Child process_;
  std::vector<std::string> sandboxes_;
  std::set<std::string> stopped_;
};

/// A pod made by containerd, with one container that serves and can be asked to do things.
class CriPod {
 public:
  static constexpr uint16_t kPort = 8080;

  /// `more` is merged into the PodSandboxConfig.
  CriPod(Containerd& runtime, const std::string& ns, const std::string& name,
         const nlohmann::json& more = nlohmann::json::object());
  ~CriPod();
  CriPod(const CriPod&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& sandbox() const { return sandbox_; }
  [[nodiscard]] const std::vector<Address>& ips() const { return ips_; }
  [[nodiscard]] Address ip(Family family) const;
  /// Runs a command in the container.
  [[nodiscard]] Output exec(const std::vector<std::string>& command) const;
  /// What the server at `to` answers to this pod: `NAME saw ADDRESS`; or why it does not.
  [[nodiscard]] std::string ask(const HostPort& to) const;

 private:
  Containerd& runtime_;
  std::string name_;
  std::string sandbox_;
  std::string container_;
  std::vector<Address> ips_;
};

}  // namespace bpfnet::e2e
