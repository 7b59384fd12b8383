#include "control/ipam/store_rows.h"

#include <sstream>

namespace bpfnet::ipam {
namespace {

std::string join_ips(const std::vector<Address>& ips) {
  std::string text;
  for (const Address& ip : ips) text += (text.empty() ? "" : " ") + ip.to_string();
  return text;
}

std::vector<Address> split_ips(const std::string& text) {
  std::vector<Address> ips;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (auto ip = Address::parse(word)) ips.push_back(*ip);
  }
  return ips;
}

// `6 8080 80 *` for every port, one a line; of a range the number of ports follows: `6 8000 80 * 100`.
std::string join_ports(const std::vector<HostPort>& ports) {
  std::string text;
  for (const HostPort& port : ports) {
    text += fmt::format("{} {} {} {}", static_cast<int>(port.protocol), port.host_port, port.container_port,
                        port.host_ip ? port.host_ip->to_string() : "*");
    text += port.count > 1 ? fmt::format(" {}\n", port.count) : "\n";
  }
  return text;
}

std::vector<HostPort> split_ports(const std::string& text) {
  std::vector<HostPort> ports;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    int protocol = 0;
    HostPort port;
    std::string ip;
    if (!(words >> protocol >> port.host_port >> port.container_port >> ip)) continue;
    port.protocol = static_cast<model::Protocol>(protocol);
    if (auto address = Address::parse(ip)) port.host_ip = *address;
    if (uint16_t count = 0; words >> count) port.count = count;
    ports.push_back(port);
  }
  return ports;
}

}  // namespace

EndpointRecord read_endpoint(const Statement& row) {
  EndpointRecord record;
  record.key = {row.text(0), row.text(1)};
  record.network = row.text(2);
  record.netns = row.text(3);
  record.pod = {row.text(4), row.text(5)};
  record.pod_uid = row.text(6);
  record.index = static_cast<uint16_t>(row.number(7));
  record.host_ifname = row.text(8);
  record.mac = Mac::parse(row.text(9)).value_or(Mac{});
  record.host_mac = Mac::parse(row.text(10)).value_or(Mac{});
  record.mtu = static_cast<uint32_t>(row.number(11));
  record.ips = split_ips(row.text(12));
  record.host_ports = split_ports(row.text(13));
  record.delegated_ipam = row.number(14) != 0;
  record.state = static_cast<EndpointState>(row.number(15));
  return record;
}

void bind_endpoint(Statement& statement, const EndpointRecord& record) {
  bind_key(statement, record.key);
  statement.bind(3, record.network);
  statement.bind(4, record.netns);
  statement.bind(5, record.pod.ns);
  statement.bind(6, record.pod.name);
  statement.bind(7, record.pod_uid);
  statement.bind(8, int64_t{record.index});
  statement.bind(9, record.host_ifname);
  statement.bind(10, record.mac.to_string());
  statement.bind(11, record.host_mac.to_string());
  statement.bind(12, int64_t{record.mtu});
  statement.bind(13, join_ips(record.ips));
  statement.bind(14, join_ports(record.host_ports));
  statement.bind(15, int64_t{record.delegated_ipam});
  statement.bind(16, static_cast<int64_t>(record.state));
}

void bind_key(Statement& statement, const AttachmentKey& key, int at) {
  statement.bind(at, key.container_id);
  statement.bind(at + 1, key.ifname);
}

}  // namespace bpfnet::ipam
