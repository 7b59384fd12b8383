#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control/agent/options.h"

// The files of a container runtime that an agent writes: the plugin, and the network configuration.
namespace bpfnet::agent {

/// Copies the plugin to --cni-bin-dir, if that is said.
Status install_plugin(const Options& options);
/// Writes --cni-conf for this agent. Logs what it did, and when another configuration stands before it.
Status write_cni_conf(const Options& options);
/// The configuration goes first, so that the runtime asks for no more pods; then the plugin. Goes on after an
/// error, and gives all of them.
std::vector<std::string> remove_runtime_files(const Options& options);

}  // namespace bpfnet::agent
