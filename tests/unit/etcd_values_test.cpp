#include <gtest/gtest.h>

#include "control/etcd/keys.h"
#include "control/etcd/values.h"

namespace bpfnet::etcd {
namespace {

using sources::Kind;

TEST(Keys, NameObjectsAndAreReadAsTheyAreWritten) {
  const KeyName web{Kind::kService, {"shop", "web"}};
  EXPECT_EQ(key_of("/bpfnet/", web), "/bpfnet/Service/shop/web");
  EXPECT_EQ(parse_key("/bpfnet/", "/bpfnet/Service/shop/web"), web);
  const KeyName node{Kind::kNode, {"", "a.example"}};
  EXPECT_EQ(key_of("/x/", node), "/x/Node/a.example");
  EXPECT_EQ(parse_key("/x/", "/x/Node/a.example"), node);
}

TEST(Keys, OfOtherShapesAreNoObjects) {
  for (const char* key : {"/bpfnet/", "/bpfnet/Service", "/bpfnet/Service/", "/bpfnet/Service/web",
                          "/bpfnet/Service//web", "/bpfnet/Service/a/b/c", "/bpfnet/Service/a/",
                          "/bpfnet/Node/a/b", "/bpfnet/Node/", "/bpfnet/service/a/b", "/other/Service/a/b"})
    EXPECT_FALSE(parse_key("/bpfnet/", key)) << key;
}

constexpr const char* kService =
    R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}})";
const KeyName kWeb{Kind::kService, {"shop", "web"}};

TEST(Values, AreTheObjectOfTheirKey) {
  const auto value = decode_value(kWeb, kService);
  EXPECT_FALSE(value.unreadable);
  ASSERT_TRUE(value.object.object);
  EXPECT_TRUE(value.object.problems.empty());
}

TEST(Values, OfAnotherObjectAreRefused) {
  const auto value = decode_value({Kind::kService, {"shop", "db"}}, kService);
  EXPECT_TRUE(value.unreadable);
  ASSERT_EQ(value.object.problems.size(), 1U);
  EXPECT_EQ(value.object.problems[0].to_string(),
            ":1: Service shop/db: metadata: is that of Service shop/web, expected what the key says; the "
            "object is not used");
}

TEST(Values, ThatAreNoObjectAreRefusedWhateverTheyAre) {
  for (const char* text :
       {"", "null", "3", "[]", "{", "{}{}", R"({"kind":"Deployment","metadata":{"name":"web"}})", "\xff\xfe",
        R"({"apiVersion":"v1","kind":"List","items":[]})",
        R"({"kind":"Service","metadata":{"name":"UPPER"}})"}) {
    const auto value = decode_value(kWeb, text);
    EXPECT_TRUE(value.unreadable) << text;
    EXPECT_FALSE(value.object.object) << text;
    ASSERT_EQ(value.object.problems.size(), 1U) << text;
    EXPECT_EQ(value.object.problems[0].object, "Service shop/web");
  }
}

TEST(Values, APolicyThatCannotBeReadIsolatesItsNamespace) {
  const auto value = decode_value({Kind::kNetworkPolicy, {"shop", "p"}}, "{");
  ASSERT_TRUE(value.object.fallback);
  const auto& policy = std::get<model::NetworkPolicy>(*value.object.fallback);
  EXPECT_EQ(policy.name.to_string(), "shop/p");
  EXPECT_TRUE(policy.ingress.empty());
  EXPECT_FALSE(decode_value({Kind::kNetworkPolicy, {"shop", "\"}"}}, "{").object.fallback);
}

TEST(Values, SlicesOfHostNamesAreLeftOut) {  // S4
  const auto value = decode_value(
      {Kind::kEndpointSlice, {"shop", "s"}},
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s","namespace":"shop"},"addressType":"FQDN","endpoints":[]})");
  EXPECT_TRUE(value.left_out);
  EXPECT_FALSE(value.unreadable);
}

}  // namespace
}  // namespace bpfnet::etcd
