// Objects as a real server sends them, read fast: the same as the decoders of manifests read, less what
// nobody needs.
#include <fmt/format.h>

#include "control/kubernetes/object_reader.h"
#include "tests/unit/kubernetes_fixture.h"

namespace bpfnet::kubernetes {
namespace {

using nlohmann::json;
using sources::Kind;
using testing::HasSubstr;
using testing::IsEmpty;

/// A pod with everything that a kubelet and a controller write into it.
json full_pod(const std::string& node) {
  json object = pod("web", node, "10.244.1.2");
  object["metadata"]["labels"]["env"] = "prod";  // a key that is skipped elsewhere
  object["metadata"]["labels"]["volumes"] = "none";
  object["metadata"]["annotations"] = {{"policy.bpfnet.io/denied", "reject"}, {"command", "x"}};
  object["metadata"]["managedFields"] = {
      {{"manager", "kubelet"}, {"fieldsV1", {{"f:status", json::object()}}}}};
  object["spec"]["volumes"] = {{{"name", "token"}, {"projected", {{"sources", {1, 2.5, -3}}}}}};
  object["spec"]["containers"][0]["env"] = {{{"name", "A"}, {"value", "\u00e4\n"}}};
  object["spec"]["containers"][0]["resources"] = {{"limits", {{"cpu", "1"}}}};
  object["spec"]["initContainers"] = {{{"name", "side"},
                                       {"restartPolicy", "Always"},
                                       {"ports", {{{"containerPort", 9000}, {"name", "side"}}}}}};
  object["status"]["conditions"] = {{{"type", "Ready"}, {"status", "True"}}};
  object["status"]["containerStatuses"] = {
      {{"name", "c"}, {"ready", true}, {"restartCount", 18446744073709551615ULL}}};
  return object;
}

model::Pod read_pod(const json& object) {
  ObjectReader reader(resource_of(Kind::kPod), "node-a");
  auto read = reader.read(object.dump());
  EXPECT_TRUE(read);
  EXPECT_THAT(read->decoded.problems, IsEmpty());
  return std::get<model::Pod>(read->decoded.objects.at(0).object.value());
}

TEST(ObjectReader, OwnPodIsReadAsManifestsAre) {
  const json object = full_pod("node-a");
  const auto manifest = sources::decode(object.dump(), sources::Format::kJson);
  model::Pod expected = std::get<model::Pod>(manifest.objects.at(0).object.value());
  expected.origin = {};
  const model::Pod pod = read_pod(object);
  EXPECT_EQ(pod, expected);
  EXPECT_EQ(pod.labels.at("env"), "prod");
  EXPECT_EQ(pod.ports.size(), 3u);
  EXPECT_EQ(pod.denied, model::Denied::kReject);
}

TEST(ObjectReader, OtherNodesPodIsWhatPoliciesSeeOfIt) {
  const model::Pod pod = read_pod(full_pod("node-b"));
  EXPECT_EQ(pod.labels.at("env"), "prod");
  EXPECT_EQ(pod.ips.size(), 1u);
  ASSERT_EQ(pod.ports.size(), 2u) << "those with names";
  EXPECT_FALSE(pod.denied);
  json finished = full_pod("node-b");
  finished["status"]["phase"] = "Succeeded";
  ObjectReader reader(resource_of(Kind::kPod), "node-a");
  const auto read = reader.read(finished.dump());
  ASSERT_TRUE(read);
  EXPECT_THAT(read->decoded.objects, IsEmpty()) << "P21";
}

// Whatever is skipped, the result is that of reading all of it.
TEST(ObjectReader, SkippingChangesNothing) {
  const std::vector<json> objects = {service("web", "10.96.0.10", {{"resources", "x"}}),
                                     slice("web-1", "web", {"10.244.1.2"}), node("node-a", "192.0.2.11"),
                                     full_pod("node-a")};
  for (json object : objects) {
    object["metadata"]["managedFields"] = {{{"manager", "x"}}};
    object["metadata"]["ownerReferences"] = {{{"kind", "x"}}};
    const auto manifest = sources::decode(object.dump(), sources::Format::kJson);
    ObjectReader reader(resource_of(manifest.objects.at(0).kind), "node-a");
    const auto read = reader.read(object.dump());
    ASSERT_TRUE(read);
    auto expected = manifest.objects.at(0).object.value();
    std::visit([](auto& each) { each.origin = {}; }, expected);
    EXPECT_EQ(read->decoded.objects.at(0).object.value(), expected) << object.dump();
  }
}

TEST(ObjectReader, ItemsOfListsNeedNoKind) {
  json object = service("web", "10.96.0.10");
  object.erase("kind");
  object.erase("apiVersion");
  object["metadata"]["resourceVersion"] = "7";
  ObjectReader reader(resource_of(Kind::kService), "node-a");
  const auto read = reader.read(object.dump());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->version, "7");
  EXPECT_EQ(read->name.to_string(), "default/web");
  EXPECT_TRUE(read->decoded.objects.at(0).object);
}

TEST(ObjectReader, MistakesAreNamed) {
  json object = service("web", "10.96.0.10");
  object["spec"]["ports"][0]["port"] = "http";
  ObjectReader reader(resource_of(Kind::kService), "node-a");
  const auto read = reader.read(object.dump());
  ASSERT_TRUE(read);
  EXPECT_FALSE(read->decoded.objects.at(0).object);
  EXPECT_THAT(read->decoded.objects.at(0).problems.at(0).to_string(),
              HasSubstr("Service default/web: spec.ports[0].port"));
  EXPECT_FALSE(reader.read("{"));
  EXPECT_FALSE(reader.read("[]"));
  EXPECT_FALSE(reader.read(R"({"metadata":{}})"));
  EXPECT_FALSE(reader.read(R"({"metadata":{"name":"\xff"}})"));
  const std::string deep = std::string(200, '[') + std::string(200, ']');
  EXPECT_FALSE(reader.read(R"({"metadata":{"name":"a"},"x":)" + deep + "}"));
}

// What is too large for a parser still has a name.
TEST(ObjectReader, UnreadableObjectsKeepTheirNames) {
  const std::string metadata =
      R"("metadata":{"name":"web","namespace":"shop","resourceVersion":"7","managedFields":[1e999]})";
  const std::string object = "{" + metadata + "}";
  ObjectReader reader(resource_of(Kind::kService), "node-a");
  ASSERT_FALSE(reader.read(object));
  const ReadObject saved = ObjectReader::salvage(object, "number");
  EXPECT_EQ(saved.name, (model::ObjectName{"shop", "web"}));
  EXPECT_EQ(saved.version, "7");
  EXPECT_THAT(saved.decoded.problems.at(0).text, HasSubstr("cannot be read: number"));
  const auto event = ObjectReader::salvage_event(R"({"type":"DELETED","object":)" + object + "}", "number");
  ASSERT_TRUE(event);
  EXPECT_EQ(event->type, WatchEvent::Type::kDeleted);
  EXPECT_EQ(event->object.name.name, "web");
  EXPECT_FALSE(ObjectReader::salvage_event(R"({"type":"DELETED","object":{}})", "number"));
  EXPECT_FALSE(ObjectReader::salvage_event(R"({"type":"ADDED"})", "number"));
  EXPECT_FALSE(ObjectReader::salvage_event("7", "number"));
  EXPECT_EQ(ObjectReader::salvage(R"({"metadata":{"name":"a\u0000b"}})", "x").name.name, "");
}

TEST(Uid, IsKeptInSixteenBytes) {
  const std::string text = "0f8fad5b-d9cb-469f-a165-70867728950e";
  EXPECT_EQ(to_string(read_uid(text)), text);
  for (const char* none :
       {"", "uid-1", "0f8fad5b-d9cb-469f-a165-70867728950", "0f8fad5bxd9cb-469f-a165-70867728950e",
        "0f8fad5b-d9cb-469f-a165-7086772895-e", "0f8fad5b-d9cb-469f-a165-70867728950g"})
    EXPECT_EQ(to_string(read_uid(none)), "") << none;
}

// K3
TEST(ObjectReader, EventsOfAllTypes) {
  ObjectReader reader(resource_of(Kind::kService), "node-a");
  const auto type = [&](const std::string& name, const std::string& object) {
    const auto event = reader.read_event(fmt::format(R"({{"type":"{}","object":{}}})", name, object));
    return event ? event->type : WatchEvent::Type::kUnknown;
  };
  const std::string object = service("web", "10.96.0.10").dump();
  EXPECT_EQ(type("ADDED", object), WatchEvent::Type::kAdded);
  EXPECT_EQ(type("MODIFIED", object), WatchEvent::Type::kModified);
  EXPECT_EQ(type("DELETED", object), WatchEvent::Type::kDeleted);
  EXPECT_EQ(type("BOOKMARK", R"({"metadata":{"resourceVersion":"5"}})"), WatchEvent::Type::kBookmark);
  EXPECT_EQ(type("SOMETHING", object), WatchEvent::Type::kUnknown);
  const auto error =
      reader.read_event(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}})");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, 410);
  EXPECT_EQ(error->message, "too old");
  EXPECT_FALSE(reader.read_event(R"({"type":"ADDED"})"));
  EXPECT_FALSE(reader.read_event("7"));
}

}  // namespace
}  // namespace bpfnet::kubernetes
