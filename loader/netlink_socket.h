#pragma once

#include <netlink/msg.h>
#include <netlink/netlink.h>

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace bpfnet::loader {

struct MessageDeleter {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, MessageDeleter>;

/// A request of the given type with its family header copied in.
template <typename Header>
Message make_message(int type, int flags, const Header& header) {
  Message message(nlmsg_alloc_simple(type, flags));
  Header copy = header;
  nlmsg_append(message.get(), &copy, sizeof(copy), NLMSG_ALIGNTO);
  return message;
}

/// One rtnetlink socket of libnl which keeps the kernel's errno (libnl's own codes fold several into one) and
/// its extended error text.
class NetlinkSocket {
 public:
  static Result<std::unique_ptr<NetlinkSocket>> open();
  /// A socket that is told of changes instead of answering requests.
  static Result<std::unique_ptr<NetlinkSocket>> open_monitor();
  ~NetlinkSocket();
  NetlinkSocket(const NetlinkSocket&) = delete;
  NetlinkSocket& operator=(const NetlinkSocket&) = delete;

  using Visit = std::function<void(const nlmsghdr*)>;

  /// Sends the request and waits for its acknowledgement; every message that comes before it (dumps, answers)
  /// goes to `visit`. Errors are `what: ERRNO`, followed by the kernel's text in parentheses.
  Status request(Message message, const std::string& what, const Visit& visit = nullptr);

  /// What can be read without waiting. Gives false when the kernel dropped messages (ENOBUFS).
  Result<bool> drain(const Visit& visit);

  [[nodiscard]] int fd() const;

 private:
  explicit NetlinkSocket(nl_sock* socket) : socket_(socket) {}
  nl_sock* socket_;
};

}  // namespace bpfnet::loader
