#include "control/agent/open_source.h"

#include <cstdlib>

#include "control/etcd/source.h"
#include "control/kubernetes/source.h"
#include "control/sources/files.h"

namespace bpfnet::agent {
namespace {

Result<std::unique_ptr<sources::Source>> open_kubernetes(const Options& options) {
  auto cluster = kubernetes::open_access({.kubeconfig = options.kubeconfig,
                                          .api_server = options.api_server,
                                          .environment = [](const char* name) { return std::getenv(name); }});
  if (!cluster) return pass(cluster, "--source kubernetes");
  kubernetes::KubernetesSource::Options wanted;
  wanted.cluster = std::move(*cluster);
  wanted.node_name = options.node_name;
  auto source = kubernetes::KubernetesSource::start(std::move(wanted));
  if (!source) return pass(source);
  return std::unique_ptr<sources::Source>(std::move(*source));
}

}  // namespace

Result<std::unique_ptr<sources::Source>> open_source(const Options& options) {
  if (options.source == "kubernetes") return open_kubernetes(options);
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
