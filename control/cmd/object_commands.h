#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "control/objects/place.h"

namespace bpfnet::cmd {

/// The command line of `bpfnetctl apply`, `get` and `delete`.
struct ObjectOptions {
  objects::Place place;
  std::vector<std::string> files;
  std::vector<std::string> words;  ///< KIND NAME...
  std::string ns = "default";
  bool all_namespaces = false;
  std::string form;  ///< of `get`; empty: what --output says
  bool dry_run = false;
  bool skip_unknown = false;
  bool ignore_not_found = false;
  bool wait = false;
  unsigned timeout = 30;  ///< seconds
};

/// `add` makes a subcommand that runs the function given; `json`: print JSON. The functions give the exit
/// status.
using RunObjects = int (*)(const ObjectOptions& options, const std::string& socket, bool json);
using AddObjects = std::function<CLI::App*(const char* name, const char* text, RunObjects run)>;
void describe_objects(ObjectOptions& options, const AddObjects& add);

}  // namespace bpfnet::cmd
