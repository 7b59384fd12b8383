// `bpfnetctl apply`, `get` and `delete` on Debian's etcd-server.
#include "control/objects/etcd_store.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "control/objects/input.h"
#include "control/objects/show.h"
#include "tests/support/etcd/etcd_server.h"

namespace bpfnet::objects {
namespace {

using test::EtcdServer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string service(const std::string& name, int port = 80) {
  return fmt::format(
      "apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\nspec: {{clusterIP: None, ports: [{{port: "
      "{}}}]}}\n",
      name, port);
}

class EtcdStores : public testing::Test {
 protected:
  EtcdStores() : store(EtcdStore::open(etcd.config()).value()) {}

  static std::vector<Manifest> manifests(const std::string& text) {
    auto input = read_input_text(text, "in.yaml", false);
    EXPECT_TRUE(input) << input.error().message;
    return std::move(input->manifests);
  }
  static std::vector<std::string> told(const Result<Changes>& changes) {
    if (!changes) return {changes.error().message};
    std::vector<std::string> words;
    for (const Change& change : changes->changes)
      words.push_back(change.key.name.name.str() + " " + std::string(to_string(change.action)));
    return words;
  }
  std::vector<std::string> apply(const std::string& text) {
    return told(store->apply(manifests(text), false));
  }
  static Key key(const std::string& name) { return {sources::Kind::kService, {"default", name}}; }

  EtcdServer etcd{{}};
  std::unique_ptr<EtcdStore> store;
};

TEST_F(EtcdStores, ApplyGetAndDelete) {
  EXPECT_THAT(apply(service("a") + "---\n" + service("b")), ElementsAre("a created", "b created"));
  EXPECT_THAT(apply(service("a") + "---\n" + service("b", 81)), ElementsAre("a unchanged", "b configured"));
  const auto listing = store->list();
  ASSERT_TRUE(listing) << listing.error().message;
  ASSERT_EQ(listing->objects.size(), 2U);
  EXPECT_EQ(listing->objects[0].where, "/bpfnet/Service/default/a");
  EXPECT_EQ(listing->objects[1].json["spec"]["ports"][0]["port"], 81);
  EXPECT_THAT(told(store->remove({key("a"), key("nope")}, false)), ElementsAre("a deleted"));
  EXPECT_EQ(store->list()->objects.size(), 1U);
}

TEST_F(EtcdStores, WhatIsReadMayBeAppliedUnlessSomebodyElseWroteMeanwhile) {
  apply(service("a"));
  const auto read = store->list();
  const std::string yaml = show(read->objects, {.form = Form::kYaml});
  EXPECT_THAT(yaml, HasSubstr("resourceVersion:"));
  EXPECT_THAT(apply(yaml), ElementsAre("a unchanged"));
  apply(service("a", 81));
  EXPECT_THAT(apply(yaml), ElementsAre(HasSubstr("somebody has changed the object since")));
  EXPECT_EQ(store->list()->objects[0].json["spec"]["ports"][0]["port"], 81);
  (void)store->remove({key("a")}, false);
  EXPECT_THAT(apply(yaml), ElementsAre(HasSubstr("the object is not there (any more)")));
}

TEST_F(EtcdStores, TheRevisionIsThatOfTheLastWriteAndZeroWithoutOne) {
  const auto first = store->apply(manifests(service("a")), false);
  const int64_t revision = etcd.put("/other", "x");
  EXPECT_EQ(first->revision, revision - 1);
  EXPECT_EQ(store->apply(manifests(service("a")), false)->revision, 0);
}

TEST_F(EtcdStores, ADryRunWritesNothing) {
  EXPECT_THAT(told(store->apply(manifests(service("a")), true)), ElementsAre("a created"));
  EXPECT_THAT(store->list()->objects, IsEmpty());
}

TEST_F(EtcdStores, MoreThanOneTransactionHolds) {
  std::string text;
  for (int i = 0; i < 450; ++i) text += (i ? "---\n" : "") + service(fmt::format("s{}", i));
  EXPECT_EQ(apply(text).size(), 450U);
  EXPECT_EQ(store->list()->objects.size(), 450U);
}

TEST_F(EtcdStores, LargeObjectsAreWrittenInSmallerParts) {
  const std::string padding(400'000, 'x');
  std::string text;
  for (int i = 0; i < 5; ++i)
    text +=
        fmt::format("{}apiVersion: v1\nkind: Namespace\nmetadata: {{name: n{}, annotations: {{x: {}}}}}\n",
                    i ? "---\n" : "", i, padding);
  EXPECT_EQ(apply(text).size(), 5U) << apply(text).front();
}

TEST_F(EtcdStores, KeysThatAreNoObjectsAreTold) {
  etcd.put("/bpfnet/Service/default/bad", "{");
  etcd.put("/bpfnet/what", "{}");
  const auto listing = store->list();
  EXPECT_THAT(listing->notes, ElementsAre("/bpfnet/Service/default/bad: holds no JSON object",
                                          "/bpfnet/what: is no object's key"));
  EXPECT_THAT(listing->objects, IsEmpty());
}

/// Each adds its own field to one object again and again: read, change, apply; and reads again when it was
/// not the first. No change of any is lost.
TEST_F(EtcdStores, WritersAtOnceLoseNothing) {
  apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {}}\n");
  constexpr int kWriters = 4;
  constexpr int kRounds = 10;
  std::atomic<int> conflicts = 0;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer)
    writers.emplace_back([&, writer] {
      const auto own = EtcdStore::open(etcd.config()).value();
      for (int round = 0; round < kRounds;) {
        auto listing = own->list();
        ASSERT_TRUE(listing) << listing.error().message;
        auto json = listing->objects.at(0).json;
        json["metadata"]["annotations"][fmt::format("w{}-{}", writer, round)] = "here";
        const auto changes = own->apply(manifests(yaml_text(json)), false);
        if (changes)
          ++round;
        else
          ++conflicts;
      }
    });
  for (auto& writer : writers) writer.join();
  const auto listing = store->list();
  EXPECT_EQ(listing->objects.at(0).json["metadata"]["annotations"].size(),
            static_cast<size_t>(kWriters * kRounds));
}

TEST(EtcdStoreErrors, NameTheEndpoint) {
  const auto store = EtcdStore::open({.endpoints = {"http://127.0.0.1:1"}}).value();
  const auto listing = store->list();
  ASSERT_FALSE(listing);
  EXPECT_THAT(listing.error().message, HasSubstr("127.0.0.1"));
}

}  // namespace
}  // namespace bpfnet::objects
