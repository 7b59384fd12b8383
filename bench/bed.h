#pragma once

#include <functional>
#include <string>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::bench {

/// Namespaces bn-bench-NAME-*, files below /run/bpfnet-test-bench-NAME; the binaries of this build.
e2e::ClusterOptions bed_options(const std::string& name);

/// Runs `work` in a child process and gives its exit status; whichever way it ends (an error, Ctrl-C, a
/// signal), removes all that `options` name. Call it before any thread is started.
int guarded(const e2e::ClusterOptions& options, const std::function<int()>& work);

/// An uplink for a node that needs no network: eth0 with the node's IPv4 address, its peer in the same
/// namespace.
void add_idle_uplink(e2e::Node& node);

/// Of the last minute; -1: unknown.
double load_average();

/// `kernel, processor, CPUs, load average now`: stands above every table.
std::string machine_line();

}  // namespace bpfnet::bench
