#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control/cni/types.h"

// DELs that found no agent: one small file each, written by the plugin, worked off by the agent.
namespace bpfnet::cni {

struct PendingDelete {
  std::string file;
  DeleteRequest request;
};

/// The file of one attachment in `directory`.
std::string pending_delete_file(const std::string& directory, const AttachmentKey& key);

/// Writes it whole or not at all (temporary file and rename); makes the directory if needed.
Status write_pending_delete(const std::string& directory, const DeleteRequest& request);

/// Every readable one; files that hold nonsense are told in `problems` and left alone. A missing directory
/// is an empty one.
std::vector<PendingDelete> read_pending_deletes(const std::string& directory,
                                                std::vector<std::string>& problems);

}  // namespace bpfnet::cni
