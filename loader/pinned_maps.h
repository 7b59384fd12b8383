#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "loader/datapath.h"

struct bpf_object;

// Maps of an object that is opened and not loaded yet: sizes, adoption of pinned ones, pinning of new ones.
namespace bpfnet::loader {

/// What adoption found.
struct Adoption {
  bool adopted = false;  ///< maps were there
  std::vector<std::string> warnings;
  std::vector<std::string> fresh;  ///< names of maps to be pinned after load
};

/// Gives every map its size, puts pinned maps in place of those that would be made, and writes what these
/// keep into `config` (max_flows; hash_seed). Maps that hold no state worth keeping are made anew when their
/// layout differs; for any other a differing record is an error.
Result<Adoption> adopt_maps(bpf_object* object, const std::string& map_dir, const DatapathSizes& sizes,
                            datapath_config& config);

/// Pins the fresh maps of a loaded object. The first time the whole directory appears at once.
Status pin_maps(bpf_object* object, const std::string& map_dir, const Adoption& adoption);

}  // namespace bpfnet::loader
