#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control/objects/manifest.h"

namespace bpfnet::objects {

/// The objects that a command line names by -f.
struct Input {
  std::vector<Manifest> manifests;  ///< each has a key, no key twice
  std::vector<std::string> notes;   ///< what is no mistake but should be known
};

/// Reads `files`: manifests, directories of them (not their subdirectories), `-` for standard input. Decodes
/// all of it: the error names every mistake by file, line and field. `skip_unknown`: leaves out objects of
/// kinds that bpfnet does not read, with a note.
Result<Input> read_input(const std::vector<std::string>& files, bool skip_unknown);
/// The same for a text; for tests.
Result<Input> read_input_text(std::string_view text, const std::string& source, bool skip_unknown);

}  // namespace bpfnet::objects
