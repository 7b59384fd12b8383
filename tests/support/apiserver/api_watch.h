#pragma once

#include "tests/support/apiserver/api_server.h"

namespace bpfnet::test {

/// What the server holds of one watch; under the server's lock.
class ApiServer::Watch {
 public:
  Watch(ApiServer& server, const Resource& resource, Selectors wanted);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void wake() const;
  void drain() const;
  [[nodiscard]] int fd() const { return wake_.get(); }

  const Resource* resource;
  Selectors wanted;
  uint64_t version = 0;  ///< told up to here
  bool bookmarks = false;
  bool bookmark_due = false;
  bool ended = false;
  std::string raw;

  /// What is to be sent now; `expired`: the history it needs is forgotten.
  struct Batch {
    std::vector<std::string> frames;
    std::string raw;
    bool expired = false;
    bool ended = false;
    bool silent = false;
    size_t chunk_size = 0;
  };
  Batch take();

 private:
  ApiServer& server_;
  Fd wake_;
};

}  // namespace bpfnet::test
