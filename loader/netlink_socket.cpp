#include "loader/netlink_socket.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace bpfnet::loader {
namespace {

/// Large enough for a burst of link events while the reader is busy.
constexpr int kReceiveBuffer = 4 << 20;
/// The kernel fills dumps with messages up to this size.
constexpr size_t kMessageBuffer = 64 << 10;

std::string kernel_text(const nlmsghdr* header) {
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
  size_t offset = sizeof(*error);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) offset += error->msg.nlmsg_len - sizeof(nlmsghdr);
  const auto total = static_cast<size_t>(nlmsg_datalen(header));
  if (offset >= total) return {};
  auto* first = reinterpret_cast<nlattr*>(static_cast<char*>(nlmsg_data(header)) + offset);
  const nlattr* text = nla_find(first, static_cast<int>(total - offset), NLMSGERR_ATTR_MSG);
  if (text == nullptr) return {};
  return {static_cast<const char*>(nla_data(text)),
          strnlen(static_cast<const char*>(nla_data(text)), nla_len(text))};
}

Result<nl_sock*> connect() {
  nl_sock* socket = nl_socket_alloc();
  if (socket == nullptr) return fail_errno(ENOMEM, "netlink: open");
  if (const int rc = nl_connect(socket, NETLINK_ROUTE); rc < 0) {
    nl_socket_free(socket);
    return fail("netlink: open: {}", nl_geterror(rc));
  }
  const int on = 1;
  // Both only improve what we are told; an old kernel that knows neither still works.
  setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
  nl_socket_set_buffer_size(socket, kReceiveBuffer, 0);
  return socket;
}

}  // namespace

Result<std::unique_ptr<NetlinkSocket>> NetlinkSocket::open() {
  auto socket = connect();
  if (!socket) return pass(socket);
  return std::unique_ptr<NetlinkSocket>(new NetlinkSocket(*socket));
}

Result<std::unique_ptr<NetlinkSocket>> NetlinkSocket::open_monitor() {
  auto opened = connect();
  if (!opened) return pass(opened);
  std::unique_ptr<NetlinkSocket> socket(new NetlinkSocket(*opened));
  for (const int group :
       {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE}) {
    if (const int rc = nl_socket_add_membership(socket->socket_, group); rc < 0)
      return fail("netlink: subscribe to group {}: {}", group, nl_geterror(rc));
  }
  return socket;
}

NetlinkSocket::~NetlinkSocket() {
  nl_socket_free(socket_);
}

int NetlinkSocket::fd() const {
  return nl_socket_get_fd(socket_);
}

Status NetlinkSocket::request(Message message, const std::string& what, const Visit& visit) {
  nlmsghdr* header = nlmsg_hdr(message.get());
  header->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
  nl_complete_msg(socket_, message.get());
  const uint32_t sequence = header->nlmsg_seq;
  if (::send(fd(), header, header->nlmsg_len, 0) < 0) return fail_errno(errno, "{}: send", what);

  std::vector<char> buffer(kMessageBuffer);
  bool interrupted = false;
  for (;;) {
    const ssize_t size = ::recv(fd(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno(errno, "{}: receive", what);
    int left = static_cast<int>(size);
    for (auto* answer = reinterpret_cast<nlmsghdr*>(buffer.data()); nlmsg_ok(answer, left);
         answer = nlmsg_next(answer, &left)) {
      if (answer->nlmsg_seq != sequence) continue;  // left over from a request that failed midway
      if ((answer->nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
      if (answer->nlmsg_type == NLMSG_ERROR || answer->nlmsg_type == NLMSG_DONE) {
        int code = 0;
        if (answer->nlmsg_type == NLMSG_ERROR)
          code = static_cast<const nlmsgerr*>(nlmsg_data(answer))->error;
        else if (nlmsg_datalen(answer) >= static_cast<int>(sizeof(int)))
          std::memcpy(&code, nlmsg_data(answer), sizeof(code));
        // A dump that raced with a change may lack entries: EAGAIN tells the caller to ask again.
        if (code == 0 && interrupted) code = -EAGAIN;
        if (code == 0) return ok();
        const std::string text = answer->nlmsg_type == NLMSG_ERROR ? kernel_text(answer) : std::string();
        const tl::unexpected<Error> plain = fail_errno(code, "{}", what);
        if (text.empty()) return plain;
        return tl::unexpected<Error>(
            Error{fmt::format("{} ({})", plain.value().message, text), plain.value().code});
      }
      if (visit) visit(answer);
    }
  }
}

Result<bool> NetlinkSocket::drain(const Visit& visit) {
  std::vector<char> buffer(kMessageBuffer);
  bool complete = true;
  for (;;) {
    const ssize_t size = ::recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return complete;
    if (size < 0 && errno == ENOBUFS) {
      complete = false;
      continue;
    }
    if (size < 0) return fail_errno(errno, "netlink: read events");
    int left = static_cast<int>(size);
    for (auto* answer = reinterpret_cast<nlmsghdr*>(buffer.data()); nlmsg_ok(answer, left);
         answer = nlmsg_next(answer, &left))
      visit(answer);
  }
}

}  // namespace bpfnet::loader
