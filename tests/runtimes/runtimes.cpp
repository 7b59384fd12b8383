#include "tests/runtimes/runtimes.h"

#include <fmt/format.h>

#include "tests/runtimes/recorder.h"

namespace bpfnet::e2e {

ClusterOptions runtime_cluster(std::vector<std::string> nodes) {
  return {
      .binaries = {.bpfnetd = BPFNETD_BINARY, .bpfnet_cni = BPFNET_CNI_BINARY, .bpfnetctl = BPFNETCTL_BINARY},
      .prefix = "bn-rt-",
      .run_root = "/run/bpfnet-test-runtimes",
      .nodes = std::move(nodes)};
}

// By hand: wget of Debian's busybox-static dies of a timeout option.
std::vector<std::string> ask_command(const HostPort& server) {
  return {"sh", "-c",
          fmt::format("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {} {}",
                      server.address.to_string(), server.port)};
}

std::string page_of(const std::string& answer) {
  const size_t header_end = answer.find("\r\n\r\n");
  return header_end == std::string::npos ? "" : answer.substr(header_end + 4);
}

std::string ask_from(const Netns& netns, const HostPort& to) {
  return page_of(run({.argv = ask_command(to), .netns = netns.fd()}).out);
}

std::string answer_of(const std::string& server, const Address& client) {
  // The web server listens for both families by one socket, and tells so.
  const bool ip4 = client.family() == Family::kIpv4;
  return fmt::format("{} saw [{}{}]\n", server, ip4 ? "::ffff:" : "", client.to_string());
}

}  // namespace bpfnet::e2e
