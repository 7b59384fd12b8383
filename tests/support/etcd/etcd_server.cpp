#include "tests/support/etcd/etcd_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "base/address.h"
#include "base/base64.h"
#include "control/etcd/wire.h"

namespace bpfnet::test {
namespace {

namespace fs = std::filesystem;

constexpr e2e::milliseconds kStartDeadline{60'000};

/// Of the loopback; somebody else may take it before etcd does, which the start then tells.
uint16_t free_port() {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("etcd: no free port");
  return ntohs(address.sin_port);
}

constexpr std::string_view kPrefix = "bpfnet-test-etcd-";

/// Of tests that were killed; their etcd went with them.
void remove_leftovers() {
  for (const auto& entry : fs::directory_iterator("/run")) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const pid_t pid = std::atoi(name.c_str() + kPrefix.size());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path());
  }
}

std::string new_directory() {
  static std::atomic<int> number = 0;
  remove_leftovers();
  const std::string dir = fmt::format("/run/{}{}-{}", kPrefix, ::getpid(), ++number);
  fs::remove_all(dir);
  fs::create_directories(dir);
  return dir;
}

}  // namespace

EtcdServer::EtcdServer(Options options) : options_(std::move(options)), dir_(new_directory()) {
  if (options_.port == 0) options_.port = free_port();
  port_ = options_.port;
  peer_port_ = free_port();
  if (options_.authority != nullptr) {
    // Its gateway asks its own port by the same certificate.
    const KeyPair server = options_.authority->server({options_.address, "localhost"}, true);
    const KeyPair client = options_.authority->client("bpfnet");
    write_file("ca.crt", options_.authority->certificate());
    write_file("server.crt", server.certificate);
    write_file("server.key", server.key);
    write_file("client.crt", client.certificate);
    write_file("client.key", client.key);
  }
  // Its thread is where the thread is that starts it.
  std::thread starter([this] {
    if (options_.netns >= 0 && ::setns(options_.netns, CLONE_NEWNET) != 0) return;
    if (auto client = http::Client::start("etcd-test", config().access())) client_ = std::move(*client);
  });
  starter.join();
  if (!client_) throw std::runtime_error("etcd: no client");
  start();
}

EtcdServer::~EtcdServer() {
  child_.kill();
  std::error_code none;
  fs::remove_all(dir_, none);
}

std::string EtcdServer::write_file(const std::string& name, const std::string& text) const {
  e2e::write_atomically(dir_ + "/" + name, text);
  return dir_ + "/" + name;
}

std::string EtcdServer::url() const {
  return fmt::format("{}://{}:{}", options_.authority ? "https" : "http", options_.address, port_);
}

etcd::Config EtcdServer::config() const {
  etcd::Config config{.endpoints = {url()}};
  if (options_.authority != nullptr) {
    config.ca = dir_ + "/ca.crt";
    config.certificate = dir_ + "/client.crt";
    config.key = dir_ + "/client.key";
  }
  return config;
}

void EtcdServer::start() {
  start_at(options_.port);
}

void EtcdServer::start_in_private() {
  start_at(free_port());
}

void EtcdServer::start_at(uint16_t port) {
  port_ = port;
  const std::string peer = fmt::format("http://127.0.0.1:{}", peer_port_);
  std::vector<std::string> argv = {"/usr/bin/etcd", "--name", "test", "--data-dir", dir_ + "/data",
                                   "--log-level", "warn", "--listen-client-urls", url(),
                                   "--advertise-client-urls", url(), "--listen-peer-urls", peer,
                                   "--initial-advertise-peer-urls", peer, "--initial-cluster", "test=" + peer,
                                   // Each start from nothing is another cluster.
                                   "--initial-cluster-token", dir_ + std::to_string(::time(nullptr))};
  if (options_.authority != nullptr)
    argv.insert(argv.end(), {"--cert-file", dir_ + "/server.crt", "--key-file", dir_ + "/server.key",
                             "--trusted-ca-file", dir_ + "/ca.crt", "--client-cert-auth"});
  argv.insert(argv.end(), options_.more_args.begin(), options_.more_args.end());
  child_ = e2e::Child({.argv = std::move(argv), .netns = options_.netns}, dir_ + "/log");
  const bool ready = e2e::eventually(
      [&] {
        if (!child_.running()) return true;
        const auto reply = client_->fetch({.url = url() + "/health", .deadline = e2e::milliseconds(2000)});
        return reply && reply->head.status == 200 && reply->body.find("true") != std::string::npos;
      },
      kStartDeadline);
  if (!ready || !child_.running()) throw std::runtime_error("etcd did not start:\n" + log());
}

void EtcdServer::wipe() {
  child_.kill();
  fs::remove_all(dir_ + "/data");
}

std::string EtcdServer::ask(const std::string& path, const std::string& body) {
  const auto reply = client_->fetch({.method = "POST", .url = url() + "/v3/" + path, .body = body});
  if (!reply) throw std::runtime_error(reply.error().message);
  if (reply->head.status != 200) throw std::runtime_error(path + ": " + reply->body);
  return reply->body;
}

int64_t EtcdServer::put(const std::string& key, const std::string& value) {
  const nlohmann::json body = {{"key", to_base64(key)}, {"value", to_base64(value)}};
  return etcd::parse_txn(ask("kv/put", body.dump())).value().header.revision;
}

int64_t EtcdServer::remove(const std::string& key) {
  const nlohmann::json body = {{"key", to_base64(key)}};
  return etcd::parse_txn(ask("kv/deleterange", body.dump())).value().header.revision;
}

void EtcdServer::compact() {
  const auto now = etcd::parse_range(ask("kv/range", etcd::range_body({.key = "/", .count_only = true})));
  ask("kv/compaction",
      nlohmann::json{{"revision", std::to_string(now.value().header.revision)}, {"physical", true}}.dump());
}

}  // namespace bpfnet::test
