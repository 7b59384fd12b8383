#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/address.h"

namespace bpfnet::bench {

/// Address and port (host byte order) of one backend.
struct Endpoint {
  Address ip;
  uint16_t port = 0;
};

/// A ClusterIP Service with one TCP port, as every generator of the benchmarks reads it.
struct Service {
  std::string ns;
  std::string name;
  std::string port_name;
  Address cluster_ip;
  uint16_t port = 0;  ///< host byte order
  std::vector<Endpoint> endpoints;
};

/// `services` Services of `endpoints` backends each. Names and addresses follow from the numbers alone:
/// cluster IPs count up from 10.96.1.0 (within 10.96.0.0/12), backends from 10.128.0.1 (within 10.128.0.0/9).
std::vector<Service> make_services(size_t services, size_t endpoints);

enum class ManifestFormat { kYaml, kJson };

/// The Service and its EndpointSlices, one for each port that backends listen on. The first `used` backends
/// are written; default all.
std::string manifest(const Service& service, ManifestFormat format, size_t used = SIZE_MAX);

/// Services in files of `per_file` each, beside their slices, so that a lone change touches one small file.
class ManifestFiles {
 public:
  ManifestFiles(std::vector<Service> services, size_t per_file, ManifestFormat format);

  [[nodiscard]] const std::vector<Service>& services() const { return services_; }
  [[nodiscard]] size_t count() const { return (services_.size() + per_file_ - 1) / per_file_; }
  [[nodiscard]] size_t file_of(size_t service) const { return service / per_file_; }
  [[nodiscard]] std::string name(size_t file) const;
  /// The file's text; `service` is written with `used` backends only, SIZE_MAX: all are complete.
  [[nodiscard]] std::string text(size_t file, size_t service = SIZE_MAX, size_t used = SIZE_MAX) const;

 private:
  std::vector<Service> services_;
  size_t per_file_;
  ManifestFormat format_;
};

}  // namespace bpfnet::bench
