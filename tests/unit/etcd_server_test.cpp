// The source against Debian's etcd-server.
#include "tests/support/etcd/etcd_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "control/etcd/source.h"

namespace bpfnet::etcd {
namespace {

using test::Authority;
using test::EtcdServer;
using testing::HasSubstr;

std::string service(const std::string& name, int port = 80) {
  return fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},"spec":{{"clusterIP":"None","ports":[{{"port":{}}}]}}}})",
      name, port);
}
std::string key(const std::string& name) {
  return "/bpfnet/Service/default/" + name;
}

class RealEtcd : public testing::Test {
 protected:
  void open(const Config& config) {
    auto opened = EtcdSource::open(config);
    ASSERT_TRUE(opened) << opened.error().message;
    source = std::move(*opened);
  }
  template <typename Done>
  bool wait_for(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done()) {
      pollfd wait{source->fd(), POLLIN, 0};
      if (::poll(&wait, 1, 1000) > 0) source->process();
      if (std::chrono::steady_clock::now() > deadline) return done();
    }
    return true;
  }
  bool wait_for_revision(int64_t revision) {
    return wait_for([&] { return source->revision() >= revision && source->synced(); });
  }
  bool watched() {
    return wait_for([&] { return source->kinds().at(0).current; });
  }
  [[nodiscard]] size_t services() const { return source->state().services.size(); }
  [[nodiscard]] bool has(const std::string& name) const {
    return source->state().services.contains({"default", name});
  }

  std::unique_ptr<EtcdSource> source;
};

TEST_F(RealEtcd, IsListedInPagesAndWatched) {
  EtcdServer etcd({});
  constexpr int kMany = 1200;
  for (int i = 0; i < kMany; ++i) etcd.put(key(fmt::format("s{}", i)), service(fmt::format("s{}", i)));
  etcd.put("/bpfnetx/Service/default/other", service("other"));
  open(etcd.config());
  ASSERT_TRUE(wait_for([&] { return source->synced(); }));
  EXPECT_EQ(services(), static_cast<size_t>(kMany));
  etcd.put(key("new"), service("new"));
  ASSERT_TRUE(wait_for_revision(etcd.remove(key("s7"))));
  EXPECT_TRUE(has("new"));
  EXPECT_FALSE(has("s7"));
  EXPECT_TRUE(source->problems().empty());
}

TEST_F(RealEtcd, ItsEndAndReturnLoseNothing) {
  EtcdServer etcd({});
  etcd.put(key("a"), service("a"));
  etcd.put(key("b"), service("b"));
  open(etcd.config());
  ASSERT_TRUE(watched());
  etcd.kill();
  ASSERT_TRUE(wait_for([&] { return !source->kinds().at(0).current; }));
  EXPECT_EQ(services(), 2U) << "etcd gone changes nothing";
  EXPECT_EQ(source->problems().size(), 1U);
  etcd.start();
  ASSERT_TRUE(watched());
  EXPECT_EQ(source->kinds().at(0).relists, 0U) << "the watch goes on where it was";
  ASSERT_TRUE(wait_for_revision(etcd.put(key("c"), service("c"))));
  EXPECT_EQ(services(), 3U);
  EXPECT_TRUE(source->problems().empty());
}

TEST_F(RealEtcd, ARevisionThatWasCompactedAwayIsReadAnew) {
  EtcdServer etcd({});
  etcd.put(key("a"), service("a"));
  etcd.put(key("b"), service("b"));
  open(etcd.config());
  ASSERT_TRUE(watched());
  etcd.kill();
  etcd.start_in_private();
  etcd.remove(key("a"));
  etcd.put(key("c"), service("c"));
  for (int i = 0; i < 10; ++i) etcd.put(key("b"), service("b", 81 + i));
  etcd.compact();
  etcd.kill();
  etcd.start();
  ASSERT_TRUE(wait_for([&] { return has("c"); }));
  EXPECT_FALSE(has("a"));
  EXPECT_EQ(source->state().services.at({"default", "b"}).ports.at(0).port, 90);
  EXPECT_EQ(source->kinds().at(0).relists, 1U);
}

TEST_F(RealEtcd, ANewClusterInItsPlaceIsTakenAsItIs) {
  EtcdServer etcd({});
  for (const char* name : {"a", "b", "c"}) etcd.put(key(name), service(name));
  open(etcd.config());
  ASSERT_TRUE(watched());
  etcd.wipe();
  etcd.start();
  etcd.put(key("d"), service("d"));
  ASSERT_TRUE(wait_for([&] { return has("d"); }));
  EXPECT_EQ(services(), 1U);
}

TEST_F(RealEtcd, WantsAUserWhoseTokenIsRenewed) {
  EtcdServer etcd({.more_args = {"--auth-token-ttl", "1"}});
  etcd.put(key("a"), service("a"));
  etcd.ask("auth/user/add", R"({"name":"root","password":"root"})");
  etcd.ask("auth/role/add", R"({"name":"root"})");
  etcd.ask("auth/user/grant", R"({"user":"root","role":"root"})");
  etcd.ask("auth/user/add", R"({"name":"bpfnet","password":"secret"})");
  etcd.ask("auth/role/add", R"({"name":"reader"})");
  etcd.ask(
      "auth/role/grant",
      nlohmann::json{{"name", "reader"},
                     {"perm", {{"permType", "READ"}, {"key", "L2JwZm5ldC8="}, {"range_end", "L2JwZm5ldDA="}}}}
          .dump());
  etcd.ask("auth/user/grant", R"({"user":"bpfnet","role":"reader"})");
  etcd.ask("auth/enable", "{}");

  Config config = etcd.config();
  open(config);
  EXPECT_TRUE(wait_for([&] { return source->kinds().at(0).state.find("--etcd-user") != std::string::npos; }));
  config.user = "bpfnet";
  config.password_file = etcd.write_file("password", "wrong");
  open(config);
  EXPECT_TRUE(wait_for(
      [&] { return source->kinds().at(0).state.find("authentication failed") != std::string::npos; }));
  EXPECT_THAT(source->problems().at(0).to_string(), HasSubstr("user bpfnet"));
  etcd.write_file("password", "secret\n");
  ASSERT_TRUE(watched()) << "a password that is put right counts from the next try on";
  EXPECT_TRUE(has("a"));
  // Tokens are held in memory: after a restart there is none, nor after a second without use.
  etcd.kill();
  ASSERT_TRUE(wait_for([&] { return !source->kinds().at(0).current; }));
  etcd.start();
  EXPECT_TRUE(watched());
}

TEST_F(RealEtcd, IsTrustedByItsAuthorityAndShownACertificate) {
  const Authority authority("etcd");
  EtcdServer etcd({.authority = &authority});
  etcd.put(key("a"), service("a"));
  open(etcd.config());
  ASSERT_TRUE(watched());
  EXPECT_TRUE(has("a"));
  Config nobody = etcd.config();
  nobody.certificate.clear();
  nobody.key.clear();
  open(nobody);
  ASSERT_TRUE(wait_for([&] { return source->kinds().at(0).failures > 0; }));
  EXPECT_FALSE(source->synced());
  Config distrust = etcd.config();
  distrust.ca = etcd.write_file("other.crt", Authority("other").certificate());
  open(distrust);
  ASSERT_TRUE(wait_for([&] { return source->kinds().at(0).failures > 0; }));
  EXPECT_THAT(source->problems().at(0).to_string(), HasSubstr("certificate"));
}

TEST_F(RealEtcd, AStoppedMemberIsNoticed) {
  EtcdServer first({});
  first.put(key("a"), service("a"));
  Config config = first.config();
  config.look_interval = std::chrono::milliseconds(200);
  config.deadline = std::chrono::milliseconds(1000);
  open(config);
  ASSERT_TRUE(watched());
  first.signal(SIGSTOP);
  EXPECT_TRUE(wait_for([&] { return !source->kinds().at(0).current; }));
  first.signal(SIGCONT);
  EXPECT_TRUE(watched());
  EXPECT_TRUE(wait_for_revision(first.put(key("b"), service("b"))));
}

}  // namespace
}  // namespace bpfnet::etcd
