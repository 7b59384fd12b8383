// The HTTP server behind every health check: many listeners, one thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <stdexcept>

#include "control/health/http_server.h"
#include "tests/unit/health_client.h"

namespace bpfnet::health {
namespace {

using test::get;
using testing::ElementsAre;
using testing::HasSubstr;

const ListenAddress kAnywhere{.both_families = true};

std::string text_of(const char* text) {
  const auto where = ListenAddress::parse(text);
  return where ? where->to_string() : where.error().message;
}

TEST(ListenAddress, IsReadAsKubeProxyReadsIt) {
  EXPECT_EQ(text_of("127.0.0.1:10249"), "127.0.0.1:10249");
  EXPECT_EQ(text_of("[::1]:10249"), "[::1]:10249");
  for (const char* all : {":10256", "0.0.0.0:10256", "[::]:10256"}) {
    EXPECT_TRUE(ListenAddress::parse(all)->both_families) << all;
    EXPECT_EQ(ListenAddress::parse(all)->port, 10256) << all;
  }
}

TEST(ListenAddress, WrongOnesAreToldWithTheWayOut) {
  for (const char* wrong : {"", "10256", "localhost:10256", "::1:10249", "[127.0.0.1]:1",
                            "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:8x"})
    EXPECT_THAT(text_of(wrong), HasSubstr("not an address and port, like 127.0.0.1:10249")) << wrong;
}

std::vector<std::string> node_ports(std::vector<const char*> cidrs) {
  std::vector<Cidr> parsed;
  for (const char* cidr : cidrs) parsed.push_back(Cidr::parse(cidr).value());
  const std::vector<Address> own = {Address::parse("192.0.2.1").value(),
                                    Address::parse("198.51.100.1").value(),
                                    Address::parse("2001:db8::1").value()};
  std::vector<std::string> texts;
  for (const auto& where : node_port_addresses(parsed, own)) texts.push_back(where.to_string());
  return texts;
}

TEST(ListenAddress, NodePortAddressesAreByFamily) {  // S35
  EXPECT_THAT(node_ports({}), ElementsAre("[::]:0"));
  EXPECT_THAT(node_ports({"0.0.0.0/0", "::/0"}), ElementsAre("[::]:0"));
  EXPECT_THAT(node_ports({"192.0.2.0/24", "2001:db8::/32"}), ElementsAre("192.0.2.1:0", "[2001:db8::1]:0"));
  EXPECT_THAT(node_ports({"127.0.0.0/8", "::1/128"}), ElementsAre("[::1]:0", "127.0.0.1:0"));
  EXPECT_THAT(node_ports({"198.51.100.0/24"}), ElementsAre("[::]:0", "198.51.100.1:0"));
  EXPECT_THAT(node_ports({"203.0.113.0/24", "::/0"}), ElementsAre("[::]:0"));
}

class Http : public testing::Test {
 protected:
  uint16_t serve(const std::string& text, const ListenAddress& where = kAnywhere) {
    auto id = server_->listen(where, [text](const Request& request) {
      return Answer::text(request.method + " " + request.path + " " + text);
    });
    EXPECT_TRUE(id);
    ids_.push_back(id.value_or(0));
    return server_->port(ids_.back());
  }
  std::unique_ptr<HttpServer> server_ = HttpServer::start().value();
  std::vector<uint64_t> ids_;
};

TEST_F(Http, AnswersOnBothFamilies) {
  const uint16_t port = serve("here");
  EXPECT_EQ(get(port, "/a/b?c=d", "127.0.0.1").body, "GET /a/b here");
  EXPECT_EQ(get(port, "/", "::1").body, "GET / here");
  const auto reply = get(port, "/", "127.0.0.1", "HEAD");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "");
  EXPECT_EQ(get(port, "/x", "127.0.0.1", "POST").body, "POST /x here");
}

TEST_F(Http, OneFamilyAloneLeavesTheOtherAlone) {
  const uint16_t port = serve("six", {.ip = Address()});
  EXPECT_EQ(get(port, "/", "::1").status, 200);
  EXPECT_EQ(get(port, "/", "127.0.0.1").raw, "ECONNREFUSED");
}

TEST_F(Http, HundredsOfListenersAreOneThread) {
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                         std::filesystem::directory_iterator());
  };
  const auto before = threads();
  std::vector<uint16_t> ports;
  for (int i = 0; i < 300; ++i) ports.push_back(serve(std::to_string(i)));
  EXPECT_EQ(get(ports[0], "/").body, "GET / 0");
  EXPECT_EQ(get(ports[299], "/").body, "GET / 299");
  EXPECT_EQ(threads(), before);
}

TEST_F(Http, AClosedListenerRefusesAndDropsWhoWasConnected) {
  const uint16_t closed = serve("gone");
  const uint16_t other = serve("stays");
  const Fd waiting = test::connect_to(closed);
  ASSERT_EQ(get(closed, "/").status, 200);  // so `waiting` was accepted before
  server_->close(ids_[0]);
  EXPECT_EQ(get(closed, "/").raw, "ECONNREFUSED");
  const std::string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_GT(write(waiting.get(), request.data(), request.size()), 0);
  char byte = 0;
  EXPECT_LE(read(waiting.get(), &byte, 1), 0);
  EXPECT_EQ(get(other, "/").status, 200);
  EXPECT_EQ(server_->port(ids_[0]), 0);
}

TEST_F(Http, SilentClientsDelayNobody) {
  const uint16_t port = serve("here");
  std::vector<Fd> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(test::connect_to(port));
  EXPECT_EQ(get(port, "/").status, 200);
}

TEST_F(Http, OneAddressCannotTakeAllConnections) {
  const uint16_t port = serve("here");
  std::vector<Fd> silent;
  for (int i = 0; i < 300; ++i) silent.push_back(test::connect_to(port));
  EXPECT_EQ(get(port, "/", "127.0.0.1").status, 0);
  EXPECT_EQ(get(port, "/", "::1").status, 200);
}

TEST_F(Http, AHandlerThatThrowsIsAnInternalError) {
  const auto id =
      server_->listen(kAnywhere, [](const Request&) -> Answer { throw std::runtime_error("no way"); });
  const auto reply = get(server_->port(*id), "/");
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.body, "no way");
}

TEST_F(Http, APortInUseIsNamed) {
  const uint16_t port = serve("first");
  const auto second = server_->listen({.port = port, .both_families = true}, nullptr);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr(fmt::format("listen on [::]:{}: EADDRINUSE", port)));
}

TEST_F(Http, LaterWorkRunsInItsOrder) {
  std::promise<std::string> done;
  std::string order;
  server_->after(std::chrono::milliseconds(20), [&] { done.set_value(order + "b"); });
  server_->after(std::chrono::milliseconds(0), [&] { order += "a"; });
  EXPECT_EQ(done.get_future().get(), "ab");
}

}  // namespace
}  // namespace bpfnet::health
