#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/objects/manifest.h"

namespace bpfnet::objects {
namespace {

namespace fs = std::filesystem;
using sources::Format;

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

ManifestText yaml(std::string_view text) {
  return read_manifests(text, "a.yaml", Format::kYaml, true);
}

TEST(Manifests, ADocumentsTextIsKeptAsItStandsWithoutItsMarker) {
  const auto read =
      yaml("# top\nkind: Service\nmetadata: {name: web}  # said\n--- \nkind: Pod\nmetadata: {name: p}\n\n\n");
  ASSERT_EQ(read.documents.size(), 2U);
  const Manifest& web = read.documents[0].manifests.at(0);
  EXPECT_TRUE(web.alone);
  EXPECT_EQ(web.text, "# top\nkind: Service\nmetadata: {name: web}  # said\n");
  EXPECT_EQ(web.origin.line, 2);
  EXPECT_EQ(web.key->to_string(), "Service default/web");
  EXPECT_EQ(read.documents[1].manifests.at(0).text, "kind: Pod\nmetadata: {name: p}\n");
}

TEST(Manifests, ItemsOfATypedListAreWholeObjectsAndShareTheirDocument) {
  const auto read = yaml(
      "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n- metadata: {name: b, namespace: "
      "shop}\n");
  const auto& manifests = read.documents.at(0).manifests;
  ASSERT_EQ(manifests.size(), 2U);
  EXPECT_FALSE(manifests[1].alone);
  EXPECT_EQ(manifests[1].key->to_string(), "Service shop/b");
  EXPECT_EQ(manifests[1].json.dump(),
            R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"b","namespace":"shop"}})");
  EXPECT_EQ(manifests[1].origin.line, 5);
}

TEST(Manifests, AnUnreadableDocumentIsToldByItsLineAndCostsNoOther) {
  const auto read =
      read_manifests("kind: Pod\nmetadata: {name: p}\n---\na: [\n---\nkind: Node\nmetadata: {name: n}\n",
                     "a.yaml", Format::kYaml, false);
  ASSERT_EQ(read.documents.size(), 3U);
  EXPECT_FALSE(read.documents[1].readable);
  EXPECT_TRUE(read.documents[2].readable);
  ASSERT_EQ(read.problems.size(), 1U);
  EXPECT_GE(read.problems[0].origin.line, 4);
}

TEST(Manifests, ForeignKindsAndNamelessOnesHaveNoKey) {
  const auto read = yaml(
      "kind: Deployment\nmetadata: {name: d}\n---\nkind: Service\nmetadata: {}\n---\n"
      "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: k}\n");
  for (const DocumentText& document : read.documents) EXPECT_FALSE(document.manifests.at(0).key);
}

TEST(Manifests, ScalarsAreTypedAsKubectlTypesThem) {
  const auto read =
      yaml("a: yes\nb: \"yes\"\nc: 80\nd: 1.5\ne: ~\nf: 0x10\ng: 0120\nh: 10.96.0.1\ni: {}\nj: []\n");
  EXPECT_EQ(
      read.documents.at(0).manifests.at(0).json.dump(),
      R"({"a":true,"b":"yes","c":80,"d":1.5,"e":null,"f":"0x10","g":"0120","h":"10.96.0.1","i":{},"j":[]})");
}

TEST(Manifests, YamlSaysWhatJsonSaid) {
  const auto json = nlohmann::ordered_json::parse(
      R"({"s":["yes","1.10","10.0.0.1","10.0.0.0/8","fd00::1","a b","","null","2026-01-01","1e3",
    "-x",".inf","# no","multi\nline","\u00e9\"'\\"],"m":{"x.y/z":"v","8080":"n","":1},"l":[[1,[2]],[],{},{"a":[{"b":1,"c":[true,null]}]}],"n":null})");
  const std::string text = yaml_text(json);
  const auto parsed = sources::parse(text, Format::kYaml);
  ASSERT_FALSE(parsed.error) << parsed.error->text << text;
  EXPECT_EQ(to_json(*parsed.documents.at(0).root), json) << text;
}

/// Whatever is written from a tree is, to the decoder, what the tree was.
TEST(Manifests, DecodeTheSameFromTheirOwnJsonAndYaml) {
  size_t compared = 0;
  for (const char* directory : {BPFNET_MANIFEST_CORPUS, BPFNET_GOLDEN_DIR}) {
    for (const auto& file : fs::directory_iterator(directory)) {
      const std::string ending = file.path().extension();
      if (ending != ".yaml" && ending != ".json") continue;
      const std::string text = read(file.path());
      const auto format = format_of(file.path().native());
      for (const DocumentText& document : read_manifests(text, "f", format, false).documents) {
        for (const Manifest& manifest : document.manifests) {
          if (!manifest.alone || !document.readable) continue;
          auto original = sources::decode(manifest.text, format);
          auto as_json = sources::decode(json_text(manifest.json), Format::kJson);
          auto as_yaml = sources::decode(yaml_text(manifest.json), Format::kYaml);
          if (original.objects.empty() || !original.objects[0].object ||
              !original.objects[0].problems.empty())
            continue;
          for (auto* other : {&as_json, &as_yaml}) {
            ASSERT_EQ(other->objects.size(), 1U) << manifest.text;
            ASSERT_TRUE(other->objects[0].object) << manifest.text;
            const auto without_lines = [](sources::Object object) {
              std::visit([](auto& each) { each.origin = {}; }, object);
              return object;
            };
            EXPECT_EQ(without_lines(*other->objects[0].object), without_lines(*original.objects[0].object))
                << manifest.text;
            ++compared;
          }
        }
      }
    }
  }
  EXPECT_GT(compared, 40U);
}

}  // namespace
}  // namespace bpfnet::objects
