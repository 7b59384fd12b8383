#include "control/agent/open_source.h"

#include "control/sources/files.h"

namespace bpfnet::agent {

Result<std::unique_ptr<sources::Source>> open_source(const Options& options) {
  auto files = sources::FileSource::open(options.manifests);
  if (!files) return pass(files);
  return std::make_unique<sources::FileSource>(std::move(*files));
}

}  // namespace bpfnet::agent
