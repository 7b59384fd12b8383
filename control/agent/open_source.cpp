#include "control/agent/open_source.h"

#include "control/etcd/source.h"
#include "control/sources/files.h"

namespace bpfnet::agent {

Result<std::unique_ptr<sources::Source>> open_source(const Options& options) {
  if (options.source == "etcd") {
    auto etcd = etcd::EtcdSource::open(options.etcd);
    if (!etcd) return pass(etcd);
    return std::unique_ptr<sources::Source>(std::move(*etcd));
  }
  auto files = sources::FileSource::open(options.manifests);
  if (!files) return pass(files);
  return std::make_unique<sources::FileSource>(std::move(*files));
}

}  // namespace bpfnet::agent
