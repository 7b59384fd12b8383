// The fixed addresses: /healthz and /livez for the outside, /metrics and its neighbours for the node (S54,
// S56).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/health/monitor.h"
#include "tests/unit/health_client.h"

namespace bpfnet::health {
namespace {

using test::get;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class Endpoints : public testing::Test {
 protected:
  Monitor::Options options() {
    return {.healthz_address = ":0",
            .metrics_address = "127.0.0.1:0",
            .version = "1.2.3",
            .configz = "{\"bpfnetd\": {}}",
            .ask_loop =
                [this](std::function<void()> answer) {
                  if (loop_runs_) answer();
                },
            .clock = clock_,
            .retry = std::chrono::milliseconds(10)};
  }
  std::shared_ptr<test::StoppedClock> clock_ = std::make_shared<test::StoppedClock>();
  bool loop_runs_ = true;
};

TEST_F(Endpoints, HealthzAndLivezAnswerJson) {  // S54, S55
  const auto monitor = Monitor::start(options(), std::nullopt).value();
  monitor->synced({});
  monitor->set_eligible(false);
  const auto healthz = get(monitor->healthz_port(), "/healthz");
  EXPECT_EQ(healthz.status, 503);
  EXPECT_EQ(healthz.header("Content-Type"), "application/json");
  EXPECT_EQ(healthz.header("X-Content-Type-Options"), "nosniff");
  EXPECT_THAT(healthz.body, HasSubstr("\"nodeEligible\":false,\"healthy\":true"));
  EXPECT_EQ(get(monitor->healthz_port(), "/livez", "::1").status, 200);
  monitor->set_eligible(true);
  EXPECT_EQ(get(monitor->healthz_port(), "/healthz").status, 200);
  EXPECT_EQ(get(monitor->healthz_port(), "/").status, 404);
}

TEST_F(Endpoints, BeforeTheFirstStateOnlyLivezIsWell) {  // S54, S55
  const auto monitor = Monitor::start(options(), std::nullopt).value();
  const uint16_t port = monitor->healthz_port();
  EXPECT_EQ(get(port, "/livez").status, 200) << "a restart would not help";
  EXPECT_EQ(get(port, "/healthz").status, 503);
  EXPECT_EQ(get(port, "/readyz").status, 503);
  monitor->synced({});
  monitor->set_eligible(true);
  EXPECT_EQ(get(port, "/healthz").status, 200);
  EXPECT_EQ(get(port, "/readyz").status, 200);
  monitor->set_eligible(false);
  EXPECT_EQ(get(port, "/readyz").status, 200) << "a node that is to go has pods until then";
}

TEST_F(Endpoints, ADatapathThatServesIsEligibleFromTheStart) {  // S60
  auto adopted = options();
  adopted.eligible = true;
  const auto monitor = Monitor::start(adopted, std::nullopt).value();
  EXPECT_EQ(get(monitor->healthz_port(), "/healthz").status, 200);
  EXPECT_EQ(get(monitor->healthz_port(), "/readyz").status, 503);
}

TEST_F(Endpoints, AnUnappliedChangeIs503EverywhereUntilItIsApplied) {  // S50, S54
  const auto monitor = Monitor::start(options(), std::nullopt).value();
  uint16_t port = 0;
  test::hold(port).reset();
  monitor->set_checks({{{"default", "web"}, {.port = port, .local_ready = 1}}}, {{.both_families = true}});
  monitor->synced({});
  monitor->set_eligible(true);
  monitor->queued({.services = 1, .slices = 0, .triggers = {}});
  clock_->advance(std::chrono::seconds(60));
  EXPECT_EQ(get(monitor->healthz_port(), "/healthz").status, 503);
  EXPECT_EQ(get(monitor->healthz_port(), "/livez").status, 503);
  EXPECT_EQ(get(port, "/").status, 503);
  monitor->synced({});
  EXPECT_EQ(get(monitor->healthz_port(), "/livez").status, 200);
  EXPECT_EQ(get(port, "/").status, 200);
}

TEST_F(Endpoints, AStuckLoopIsToldByTheServersOwnThread) {  // S54
  loop_runs_ = false;
  const auto monitor = Monitor::start(options(), std::nullopt).value();
  EXPECT_EQ(get(monitor->healthz_port(), "/livez").status, 200);
  clock_->advance(std::chrono::seconds(60));
  EXPECT_EQ(get(monitor->healthz_port(), "/livez").status, 503);
}

TEST_F(Endpoints, MetricsAndItsNeighbours) {  // S56
  const auto monitor = Monitor::start(options(), std::nullopt).value();
  const uint16_t port = monitor->metrics_port();
  EXPECT_EQ(get(port, "/healthz").body, "ok");
  EXPECT_EQ(get(port, "/proxyMode").body, "bpf");
  EXPECT_EQ(get(port, "/proxyMode").header("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(get(port, "/configz").body, "{\"bpfnetd\": {}}");
  EXPECT_EQ(get(port, "/configz").header("Content-Type"), "application/json");
  const auto metrics = get(port, "/metrics");
  EXPECT_EQ(metrics.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(metrics.body, HasSubstr("\nbpfnet_build_info{version=\"1.2.3\"} 1\n"));
  EXPECT_EQ(get(port, "/other").status, 404);
}

TEST_F(Endpoints, AnswersAreCounted) {  // S57
  const auto monitor = Monitor::start(options(), std::nullopt).value();
  monitor->set_eligible(true);
  get(monitor->healthz_port(), "/healthz");
  get(monitor->healthz_port(), "/livez");
  get(monitor->healthz_port(), "/livez");
  const auto body = get(monitor->metrics_port(), "/metrics").body;
  EXPECT_THAT(body, HasSubstr("kubeproxy_proxy_healthz_total{code=\"200\"} 1\n"));
  EXPECT_THAT(body, HasSubstr("kubeproxy_proxy_livez_total{code=\"200\"} 2\n"));
  EXPECT_THAT(body, HasSubstr("kubeproxy_proxy_livez_total{code=\"503\"} 0\n"));
}

TEST_F(Endpoints, EmptyAddressesAreOff) {
  auto off = options();
  off.healthz_address = "";
  off.metrics_address = "";
  const auto monitor = Monitor::start(off, std::nullopt).value();
  EXPECT_EQ(monitor->healthz_port(), 0);
  EXPECT_EQ(monitor->metrics_port(), 0);
  EXPECT_THAT(monitor->problems(), IsEmpty());
}

TEST_F(Endpoints, AWrongAddressIsAnErrorThatNamesTheOption) {
  auto wrong = options();
  wrong.metrics_address = "localhost";
  const auto monitor = Monitor::start(wrong, std::nullopt);
  ASSERT_FALSE(monitor);
  EXPECT_THAT(monitor.error().message, HasSubstr("--metrics-address: localhost: not an address and port"));
}

TEST_F(Endpoints, AnAddressInUseIsAProblemUntilItIsFree) {
  uint16_t port = 0;
  Fd holder = test::hold(port);
  auto taken = options();
  taken.healthz_address = fmt::format(":{}", port);
  const auto monitor = Monitor::start(taken, std::nullopt).value();
  ASSERT_THAT(monitor->problems(), SizeIs(1));
  EXPECT_EQ(monitor->problems()[0].object, "--healthz-address");
  EXPECT_THAT(monitor->problems()[0].text,
              HasSubstr(fmt::format("--healthz-address: listen on [::]:{}: EADDRINUSE", port)));
  EXPECT_THAT(get(monitor->metrics_port(), "/metrics").body,
              HasSubstr("bpfnet_problems{from=\"health\"} 1\n"));
  holder.reset();
  EXPECT_TRUE(test::eventually([&] { return monitor->problems().empty(); }));
  EXPECT_EQ(get(port, "/livez").status, 200);
}

}  // namespace
}  // namespace bpfnet::health
