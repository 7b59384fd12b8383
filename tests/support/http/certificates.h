#pragma once

#include <memory>
#include <string>
#include <vector>

namespace bpfnet::test {

/// A certificate and its key, PEM.
struct KeyPair {
  std::string certificate;
  std::string key;
};

/// An authority made for one test. Throws where OpenSSL fails.
class Authority {
 public:
  explicit Authority(const std::string& name);
  ~Authority();
  [[nodiscard]] const std::string& certificate() const { return certificate_; }
  /// For a server reached by these names and addresses. `client_too`: and for a client, as peers of a cluster
  /// are.
  [[nodiscard]] KeyPair server(const std::vector<std::string>& names, bool client_too = false) const;
  /// For a client that is called `name`.
  [[nodiscard]] KeyPair client(const std::string& name) const;

 private:
  struct Keys;
  std::unique_ptr<Keys> keys_;
  std::string certificate_;
};

}  // namespace bpfnet::test
