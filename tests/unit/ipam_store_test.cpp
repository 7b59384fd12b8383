#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "base/fd.h"
#include "control/ipam/store.h"
#include "tests/support/addresses.h"

namespace bpfnet::ipam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

EndpointRecord record(const std::string& container) {
  EndpointRecord endpoint;
  endpoint.key = {container, "eth0"};
  endpoint.network = "net";
  endpoint.netns = "/run/netns/x";
  endpoint.pod = {"default", "web"};
  endpoint.pod_uid = "uid-1";
  endpoint.host_ifname = "bpn" + container;
  endpoint.mac = Mac::parse("02:00:00:00:00:01").value();
  endpoint.host_mac = Mac::parse("02:00:00:00:00:02").value();
  endpoint.mtu = 1450;
  endpoint.ips = {ip("10.0.0.1"), ip("fd00::1")};
  endpoint.host_ports = {{8080, 80, model::Protocol::kTcp, {}},
                         {53, 5353, model::Protocol::kUdp, ip("10.0.0.9")},
                         {30000, 40000, model::Protocol::kTcp, ip("::"), 10000}};
  return endpoint;
}

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() : directory_(std::filesystem::temp_directory_path() / fmt::format("bn-store-{}", getpid())) {
    std::filesystem::create_directories(directory_);
  }
  ~StoreTest() override { std::filesystem::remove_all(directory_); }
  Store open() { return Store::open(path()).value(); }
  [[nodiscard]] std::string path() const { return directory_ / "state.db"; }

  std::filesystem::path directory_;
};

TEST_F(StoreTest, AnEndpointComesBackAsItWasAfterReopening) {
  EndpointRecord first = record("a");
  {
    Store store = open();
    ASSERT_TRUE(store.put_endpoint(first));
    ASSERT_TRUE(store.set_endpoint_state(first.key, EndpointState::kReady));
  }
  first.state = EndpointState::kReady;
  EXPECT_EQ(first.index, 1);
  EXPECT_THAT(open().endpoints().value(), ElementsAre(first));
}

TEST_F(StoreTest, ManyBlobsChangeInOneTransactionAndAreListedByPrefix) {
  Store store = open();
  ASSERT_TRUE(store.put("service-id", "none of them"));
  ASSERT_TRUE(store.put_all({{"service-id/a", "1"}, {"service-id/b", "2"}, {"other/a", "3"}}));
  EXPECT_EQ(store.list("service-id/").value(), (std::map<std::string, std::string>{{"a", "1"}, {"b", "2"}}));
  ASSERT_TRUE(store.put_all({{"service-id/a", std::nullopt}, {"service-id/c", "4"}}));
  EXPECT_EQ(store.list("service-id/").value(), (std::map<std::string, std::string>{{"b", "2"}, {"c", "4"}}));
  EXPECT_FALSE(store.list("service-id"));
}

TEST_F(StoreTest, IndexesRotate) {
  Store store = open();
  EndpointRecord a = record("a");
  EndpointRecord b = record("b");
  EndpointRecord c = record("c");
  ASSERT_TRUE(store.put_endpoint(a));
  ASSERT_TRUE(store.put_endpoint(b));
  ASSERT_TRUE(store.remove_endpoint(a.key));
  ASSERT_TRUE(store.remove_endpoint(b.key));
  ASSERT_TRUE(store.put_endpoint(c));
  EXPECT_EQ(c.index, 3);
  ASSERT_TRUE(store.put_endpoint(c));
  EXPECT_EQ(store.endpoints().value().size(), 1U);
}

TEST_F(StoreTest, IndexesWrapAndRunOut) {
  Store store = open();
  for (int i = 1; i <= 4095; ++i) {
    EndpointRecord endpoint = record(std::to_string(i));
    endpoint.index = static_cast<uint16_t>(i);
    if (i == 77) continue;
    ASSERT_TRUE(store.put_endpoint(endpoint));
  }
  EndpointRecord last = record("last");
  ASSERT_TRUE(store.put_endpoint(last));
  EXPECT_EQ(last.index, 77);
  EndpointRecord over = record("over");
  const auto refused = store.put_endpoint(over);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("4095"));
  EXPECT_EQ(over.index, 0);
}

TEST_F(StoreTest, RemovingAnEndpointFreesItsLeases) {
  Store store = open();
  EndpointRecord a = record("a");
  ASSERT_TRUE(
      store.choose_addresses(a.key, "net", [](Store::LeaseView& view) { return view.take(ip("10.0.0.1")); }));
  ASSERT_TRUE(store.put_endpoint(a));
  ASSERT_TRUE(store.remove_endpoint(a.key));
  EXPECT_THAT(store.leases().value(), IsEmpty());
  EXPECT_TRUE(store.remove_endpoint(a.key));
}

TEST_F(StoreTest, AFailedChoiceTakesNothing) {
  Store store = open();
  const auto chosen = store.choose_addresses({"a", "eth0"}, "net", [](Store::LeaseView& view) -> Status {
    BPFNET_TRY(view.take(ip("10.0.0.1")));
    return fail("no");
  });
  EXPECT_FALSE(chosen);
  EXPECT_THAT(store.leases().value(), IsEmpty());
}

TEST_F(StoreTest, BlobsKeepEveryByte) {
  Store store = open();
  const std::string bytes("\0\xff{}\n", 5);
  ASSERT_TRUE(store.put("numbers", "old"));
  ASSERT_TRUE(store.put("numbers", bytes));
  EXPECT_EQ(store.get("numbers").value(), bytes);
  ASSERT_TRUE(store.erase("numbers"));
  EXPECT_EQ(store.get("numbers").value(), std::nullopt);
}

TEST_F(StoreTest, TheJournalKeepsTheVeryFirstValue) {
  Store store = open();
  ASSERT_TRUE(store.add_journal({"sysctl", "net/ipv4/conf/lo/accept_local", "0", "1"}));
  ASSERT_TRUE(store.add_journal({"sysctl", "net/ipv4/conf/lo/accept_local", "1", "1"}));
  ASSERT_TRUE(store.add_journal({"device", "bpfnet0", "", "veth"}));
  EXPECT_THAT(store.journal().value(),
              ElementsAre(JournalEntry{"sysctl", "net/ipv4/conf/lo/accept_local", "0", "1"},
                          JournalEntry{"device", "bpfnet0", "", "veth"}));
  ASSERT_TRUE(store.remove_journal("device", "bpfnet0"));
  EXPECT_EQ(store.journal().value().size(), 1U);
}

TEST_F(StoreTest, ASecondProcessIsRefused) {
  Store store = open();
  const pid_t child = fork();
  if (child == 0) _exit(Store::open(path()) ? 1 : 0);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(StoreTest, ANewerSchemaIsRefused) {
  (void)open();
  ASSERT_EQ(std::system(fmt::format("sqlite3 {} 'PRAGMA user_version=99'", path()).c_str()), 0);
  const auto opened = Store::open(path());
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("schema version 99"));
}

// Until schema 2 every published port stood on a line of four words.
TEST_F(StoreTest, ADatabaseWithoutPortRangesIsTakenOver) {
  EndpointRecord endpoint = record("a");
  {
    Store store = open();
    ASSERT_TRUE(store.put_endpoint(endpoint));
  }
  ASSERT_EQ(
      std::system(fmt::format("sqlite3 {} \"UPDATE endpoints SET host_ports='6 8080 80 *' || char(10) || "
                              "'17 53 5353 10.0.0.9' || char(10); PRAGMA user_version=1\"",
                              path())
                      .c_str()),
      0);
  endpoint.host_ports.pop_back();
  EXPECT_THAT(open().endpoints().value(), ElementsAre(endpoint));
  EXPECT_THAT(open().endpoints().value(), ElementsAre(endpoint)) << "and again, as schema 2";
}

struct Pair {
  HostPort a;
  HostPort b;
  bool conflict;
};

// C21
TEST(HostPorts, ConflictWhereTheyOverlap) {
  const auto tcp = model::Protocol::kTcp;
  for (const Pair& each :
       std::initializer_list<Pair>{{{80, 80, tcp, {}}, {80, 8080, tcp, {}}, true},
                                   {{80, 80, tcp, {}}, {81, 80, tcp, {}}, false},
                                   {{80, 80, tcp, {}}, {80, 80, model::Protocol::kUdp, {}}, false},
                                   {{80, 80, tcp, ip("192.0.2.1")}, {80, 80, tcp, ip("192.0.2.2")}, false},
                                   {{80, 80, tcp, ip("192.0.2.1")}, {80, 80, tcp, {}}, true},
                                   {{80, 80, tcp, ip("192.0.2.1")}, {80, 80, tcp, ip("0.0.0.0")}, true},
                                   {{80, 80, tcp, ip("192.0.2.1")}, {80, 80, tcp, ip("::")}, false},
                                   {{100, 1, tcp, {}, 10}, {109, 1, tcp, {}}, true},
                                   {{100, 1, tcp, {}, 10}, {110, 1, tcp, {}}, false},
                                   {{100, 1, tcp, {}, 10}, {90, 1, tcp, ip("192.0.2.1"), 11}, true},
                                   {{100, 1, tcp, {}, 10}, {90, 1, tcp, {}, 10}, false},
                                   {{1, 1, tcp, {}, 65535}, {65535, 1, tcp, {}}, true}}) {
    EXPECT_EQ(each.a.conflicts_with(each.b), each.conflict)
        << each.a.to_string() << " " << each.b.to_string();
    EXPECT_EQ(each.b.conflicts_with(each.a), each.conflict)
        << each.b.to_string() << " " << each.a.to_string();
  }
  EXPECT_EQ((HostPort{100, 1, tcp, {}, 10}.to_string()), "TCP *:100-109");
}

// A child adds and removes endpoints with their leases without pause, telling each one by a byte; it is
// killed somewhere behind another byte each round. What is left must be whole: every endpoint has exactly its
// own leases, and the next agent can go on.
TEST_F(StoreTest, KilledInTheMiddleOfWritingLeavesWholeTransactions) {
  for (int round = 0; round < 10; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const Fd progress(ends[0]);
    Fd report(ends[1]);
    const pid_t child = fork();
    if (child == 0) {
      Store store = open();
      for (int i = 0;; i = (i + 1) % 200) {
        EndpointRecord endpoint = record(fmt::format("r{}", i));
        if (!store.remove_endpoint(endpoint.key)) _exit(1);
        const auto both = store.choose_addresses(endpoint.key, "net", [&](Store::LeaseView& view) -> Status {
          BPFNET_TRY(view.take(*ip("10.0.0.0").plus(static_cast<uint64_t>(i))));
          return view.take(*ip("fd00::").plus(static_cast<uint64_t>(i)));
        });
        if (!both || !store.put_endpoint(endpoint) || write(report.get(), "", 1) != 1) _exit(2);
      }
    }
    report.reset();
    char byte = 0;
    for (int seen = 0; seen < 5 + round * 37; ++seen) ASSERT_EQ(read(progress.get(), &byte, 1), 1);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed: " << WEXITSTATUS(status);

    Store store = open();
    const auto endpoints = store.endpoints().value();
    for (const EndpointRecord& endpoint : endpoints) {
      EXPECT_EQ(store.leases_of(endpoint.key).value().size(), 2U) << endpoint.key.to_string();
    }
    const auto leases = store.leases().value();
    EXPECT_EQ(leases.size() % 2, 0U);
    EXPECT_GT(leases.size(), 0U);
  }
}

}  // namespace
}  // namespace bpfnet::ipam
