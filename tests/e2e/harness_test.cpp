// The test network itself, without any agent: what fails here is no fault of bpfnet.
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

class Harness : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    remove_leftovers(cluster_options());
    network_ = std::make_unique<Network>(cluster_options().prefix);
  }
  std::unique_ptr<Network> network_;
};

TEST_P(Harness, ClientReachesTheFarHostThroughTheRouter) {
  Host& client = network_->client();
  Host& far = network_->far();
  const EchoServer server(far.netns(), "far", 9090);
  const HostPort to{far.ip(GetParam()), 9090};
  EXPECT_TRUE(answered(ask(client.netns(), "tcp", to), "far", client.ip(GetParam())));
  EXPECT_TRUE(answered(ask(client.netns(), "udp", to), "far", client.ip(GetParam())));
  EXPECT_TRUE(worked(ping(client.netns(), to.address)));
  auto bulk = TcpClient::connect(client.netns(), to);
  ASSERT_TRUE(worked(bulk));
  EXPECT_TRUE(worked(bulk->bulk(4 << 20)));
}

TEST_P(Harness, ErrorQueueTellsPortUnreachable) {
  auto udp = UdpClient::open(network_->client().netns(), {network_->far().ip(GetParam()), 9});
  ASSERT_TRUE(worked(udp));
  ASSERT_TRUE(worked(udp->send("x")));
  const auto error = udp->error();
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->code, ECONNREFUSED);
  EXPECT_EQ(error->offender, network_->far().ip(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(E2e, Harness, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
