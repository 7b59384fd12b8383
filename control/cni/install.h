#pragma once

#include <string>

#include "base/result.h"

// Puts the plugin and its network configuration where a runtime looks for them.
namespace bpfnet::cni {

/// What the written configuration says of the agent.
struct ConflistOptions {
  std::string network = "bpfnet";
  std::string socket;
  std::string state_dir;
};

/// The text of a conflist. It says 1.0.0, which every runtime of today reads, and lists what else the plugin
/// speaks: runtimes that know the list take the newest version they have (C17).
std::string conflist_text(const ConflistOptions& options);

/// The plugin that came with the running program: bpfnet-cni beside it, or where `cmake --install` puts it.
Result<std::string> own_plugin();

/// Copies `plugin` to `<directory>/bpfnet-cni`, in one step also while the old one runs (C18). Makes the
/// directory. Nothing is written where the same file stands already; true: it was.
Result<bool> install_plugin(const std::string& plugin, const std::string& directory);
/// Fine when it is not there.
Status remove_plugin(const std::string& directory);

/// Writes the conflist so that no runtime sees half of it and all notice it (C24). Makes the
/// directory. Nothing is written where the same text stands already; true: it was.
Result<bool> write_conflist(const std::string& path, const std::string& text);
/// Removes a conflist that names our plugin; any other is left and an error. Fine when there is none.
Status remove_conflist(const std::string& path);

/// The configuration in the directory of `path` that a runtime takes before it, being the first by name
/// (C23); empty: there is none.
std::string earlier_conflist(const std::string& path);

}  // namespace bpfnet::cni
