// healthCheckNodePort: what a load balancer's probe is answered (S50-S53).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "control/health/service_checks.h"
#include "tests/unit/health_client.h"

namespace bpfnet::health {
namespace {

using test::get;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const model::ObjectName kWeb{"default", "web"};
const model::ObjectName kShop{"shop", "front"};

/// A port that nobody has now.
uint16_t free_port() {
  uint16_t port = 0;
  const Fd held = test::hold(port);
  return port;
}

class HealthChecks : public testing::Test {
 protected:
  ~HealthChecks() override { server_.reset(); }
  void update(const ServiceChecks::Wanted& wanted) { checks_.update(wanted, {{.both_families = true}}); }

  std::atomic<bool> healthy_ = true;
  std::unique_ptr<HttpServer> server_ = HttpServer::start().value();
  ServiceChecks checks_{*server_, [this] { return healthy_.load(); }, std::chrono::milliseconds(10)};
};

TEST_F(HealthChecks, AnyPathAnswers200WithALocalEndpoint) {  // S50
  const uint16_t port = free_port();
  update({{kWeb, {.port = port, .local_ready = 2}}});
  for (const char* path : {"/", "/healthz", "/any/path?q=1"}) EXPECT_EQ(get(port, path).status, 200) << path;
  EXPECT_EQ(get(port, "/", "::1").status, 200);
}

TEST_F(HealthChecks, HeadersAndBodyAreKubeProxys) {  // S51, S52
  const uint16_t port = free_port();
  update({{kWeb, {.port = port, .local_ready = 2}}});
  const auto reply = get(port, "/");
  EXPECT_EQ(reply.header("Content-Type"), "application/json");
  EXPECT_EQ(reply.header("X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(reply.header("X-Load-Balancing-Endpoint-Weight"), "2");
  EXPECT_EQ(reply.body,
            "{\n"
            "\t\"service\": {\n"
            "\t\t\"namespace\": \"default\",\n"
            "\t\t\"name\": \"web\"\n"
            "\t},\n"
            "\t\"localEndpoints\": 2,\n"
            "\t\"serviceProxyHealthy\": true\n"
            "}");
}

TEST_F(HealthChecks, NoLocalEndpointIs503AndStillListens) {  // S50
  const uint16_t port = free_port();
  update({{kWeb, {.port = port, .local_ready = 1}}});
  EXPECT_EQ(get(port, "/").status, 200);
  update({{kWeb, {.port = port, .local_ready = 0}}});
  const auto reply = get(port, "/");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("X-Load-Balancing-Endpoint-Weight"), "0");
  EXPECT_THAT(reply.body, HasSubstr("\"localEndpoints\": 0"));
}

TEST_F(HealthChecks, AnUnhealthyAgentIs503) {  // S50
  const uint16_t port = free_port();
  update({{kWeb, {.port = port, .local_ready = 1}}});
  healthy_ = false;
  const auto reply = get(port, "/");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("X-Load-Balancing-Endpoint-Weight"), "1");
  EXPECT_THAT(reply.body, HasSubstr("\"serviceProxyHealthy\": false"));
}

TEST_F(HealthChecks, AChangedPortMovesAndARemovedServiceCloses) {  // S53
  const uint16_t first = free_port();
  update({{kWeb, {.port = first, .local_ready = 1}}});
  ASSERT_EQ(get(first, "/").status, 200);
  const uint16_t second = free_port();
  update({{kWeb, {.port = second, .local_ready = 1}}});
  EXPECT_EQ(get(first, "/").raw, "ECONNREFUSED");
  EXPECT_EQ(get(second, "/").status, 200);
  update({});
  EXPECT_EQ(get(second, "/").raw, "ECONNREFUSED");
}

TEST_F(HealthChecks, TwoServicesMaySwapPorts) {
  const uint16_t first = free_port();
  const uint16_t second = free_port();
  update({{kWeb, {.port = first, .local_ready = 1}}, {kShop, {.port = second, .local_ready = 0}}});
  update({{kWeb, {.port = second, .local_ready = 1}}, {kShop, {.port = first, .local_ready = 0}}});
  EXPECT_THAT(checks_.problems(), IsEmpty());
  EXPECT_EQ(get(second, "/").status, 200);
  EXPECT_EQ(get(first, "/").status, 503);
}

TEST_F(HealthChecks, APortInUseIsAProblemOfItsServiceAloneUntilItIsFree) {  // S53
  uint16_t taken = 0;
  Fd holder = test::hold(taken);
  const uint16_t free = free_port();
  update({{kWeb, {.port = taken, .local_ready = 1}}, {kShop, {.port = free, .local_ready = 1}}});
  EXPECT_EQ(get(free, "/").status, 200);
  const auto problems = checks_.problems();
  ASSERT_THAT(problems, SizeIs(1));
  EXPECT_EQ(problems[0].reason, "FailedToStartServiceHealthcheck");
  EXPECT_EQ(problems[0].object, "service default/web");
  EXPECT_THAT(
      problems[0].text,
      HasSubstr(fmt::format("service default/web: healthCheckNodePort {}: listen on [::]:{}: EADDRINUSE",
                            taken, taken)));
  holder.reset();
  EXPECT_TRUE(test::eventually([&] { return checks_.problems().empty(); }));
  EXPECT_EQ(get(taken, "/").status, 200);
}

TEST_F(HealthChecks, TwoServicesOnOnePortAreBothNamed) {
  const uint16_t port = free_port();
  update({{kWeb, {.port = port, .local_ready = 1}}, {kShop, {.port = port, .local_ready = 1}}});
  ASSERT_THAT(checks_.problems(), SizeIs(1));
  EXPECT_THAT(checks_.problems()[0].text, HasSubstr("service default/web has that healthCheckNodePort"));
  update({{kShop, {.port = port, .local_ready = 0}}});  // the winner goes
  EXPECT_THAT(checks_.problems(), IsEmpty());
  EXPECT_THAT(get(port, "/").body, HasSubstr("\"name\": \"front\""));
}

TEST_F(HealthChecks, OnlyNodePortAddressesListen) {  // S35
  const uint16_t port = free_port();
  const ServiceChecks::Wanted wanted = {{kWeb, {.port = port, .local_ready = 1}}};
  checks_.update(wanted, {{.ip = Address::parse("127.0.0.2").value()}});
  EXPECT_EQ(get(port, "/", "127.0.0.2").status, 200);
  EXPECT_EQ(get(port, "/", "127.0.0.1").raw, "ECONNREFUSED");
  checks_.update(wanted, {{.ip = Address::parse("127.0.0.1").value()}});
  EXPECT_EQ(get(port, "/", "127.0.0.1").status, 200);
  EXPECT_EQ(get(port, "/", "127.0.0.2").raw, "ECONNREFUSED");
  checks_.update(wanted, {});
  ASSERT_THAT(checks_.problems(), SizeIs(1));
  EXPECT_THAT(checks_.problems()[0].text, HasSubstr("no address of this node is in --nodeport-addresses"));
}

}  // namespace
}  // namespace bpfnet::health
