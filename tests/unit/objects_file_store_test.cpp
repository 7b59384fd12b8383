#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "control/objects/file_store.h"
#include "control/objects/input.h"
#include "tests/unit/sources_directory.h"

namespace bpfnet::objects {
namespace {

namespace fs = std::filesystem;
using sources::service;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class FileStores : public testing::Test {
 protected:
  sources::ManifestDirectory directory;
  FileStore store{directory.path()};

  static std::vector<Manifest> manifests(const std::string& text, const std::string& source = "in.yaml") {
    auto input = read_input_text(text, source, false);
    EXPECT_TRUE(input) << input.error().message;
    return std::move(input->manifests);
  }
  std::vector<std::string> apply(const std::string& text, const std::string& source = "in.yaml") {
    return told(store.apply(manifests(text, source), false));
  }
  std::vector<std::string> remove(const std::string& name) {
    return told(store.remove({{sources::Kind::kService, {"default", name}}}, false));
  }
  static std::vector<std::string> told(const Result<Changes>& changes) {
    if (!changes) return {changes.error().message};
    std::vector<std::string> words;
    for (const Change& change : changes->changes)
      words.push_back(change.key.name.name.str() + " " + std::string(to_string(change.action)));
    return words;
  }
  [[nodiscard]] std::string text(const std::string& name) const {
    std::ostringstream all;
    all << std::ifstream(directory.path() / name).rdbuf();
    return all.str();
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(directory.path()))
      result.push_back(entry.path().filename());
    std::ranges::sort(result);
    return result;
  }
};

TEST_F(FileStores, ANewObjectGetsAFileOfItsOwnWithItsTextAsGiven) {
  const std::string web = "# ours\n" + service("web", "10.96.0.1") + "  unknown: {kept: true} # also\n";
  EXPECT_THAT(apply("---\n" + web + "---\n" + service("db", "10.96.0.2")),
              ElementsAre("web created", "db created"));
  EXPECT_THAT(names(), ElementsAre("service.default.db.yaml", "service.default.web.yaml"));
  EXPECT_EQ(text("service.default.web.yaml"), web);
  EXPECT_THAT(apply("---\n" + web + "\n"), ElementsAre("web unchanged"));
  EXPECT_THAT(apply(service("web", "10.96.0.1", "81")), ElementsAre("web configured"));
  EXPECT_EQ(text("service.default.web.yaml"), service("web", "10.96.0.1", "81"));
}

TEST_F(FileStores, JsonStaysJsonAndItemsOfAListGetFilesOfTheirOwn) {
  const std::string json = R"({"apiVersion":"v1","kind":"List","items":[
    {"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}},
    {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","annotations":{"odd":"\u00e9 1"}}}]})";
  EXPECT_THAT(apply(json, "in.json"), ElementsAre("a created", "shop created"));
  EXPECT_THAT(names(), ElementsAre("namespace.shop.json", "service.default.a.json"));
  EXPECT_THAT(apply(json, "in.json"), ElementsAre("a unchanged", "shop unchanged"));
  EXPECT_THAT(apply(json, "stdin"), ElementsAre("a unchanged", "shop unchanged"));
}

TEST_F(FileStores, AnObjectIsChangedWhereItIsDefinedAndNothingElseOfTheFileIs) {
  directory.write("shop.yaml", "# shop\n" + service("a", "10.96.0.1") + "--- # second\n" +
                                   service("b", "10.96.0.2") + "\n---\n# third\n" +
                                   service("c", "10.96.0.3"));
  ASSERT_EQ(chmod((directory.path() / "shop.yaml").c_str(), 0640), 0);
  EXPECT_THAT(apply(service("b", "10.96.0.2", "90")), ElementsAre("b configured"));
  EXPECT_EQ(text("shop.yaml"), "# shop\n" + service("a", "10.96.0.1") + "---\n" +
                                   service("b", "10.96.0.2", "90") + "---\n# third\n" +
                                   service("c", "10.96.0.3"));
  struct stat info {};
  ASSERT_EQ(stat((directory.path() / "shop.yaml").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0640U);
  EXPECT_THAT(names(), ElementsAre("shop.yaml"));
}

TEST_F(FileStores, AJsonFileTakesAYamlObjectAsJson) {
  directory.write("a.json", R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}})");
  EXPECT_THAT(apply(service("a", "10.96.0.1")), ElementsAre("a configured"));
  EXPECT_THAT(apply(service("a", "10.96.0.1")), ElementsAre("a unchanged"));
  EXPECT_TRUE(nlohmann::json::accept(text("a.json")));
  // Braces alone make no JSON.
  const std::string flow =
      "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None, ports: [{port: 81}]}}\n";
  EXPECT_THAT(apply(flow), ElementsAre("a configured"));
  EXPECT_TRUE(nlohmann::json::accept(text("a.json")));
  EXPECT_THAT(apply(flow), ElementsAre("a unchanged"));
}

TEST_F(FileStores, AYamlFileTakesAJsonObjectAsYaml) {
  directory.write("a.yaml", service("x", "10.96.0.9") + "---\n" + service("a", "10.96.0.1"));
  const std::string json =
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a","annotations":{"s":"\/"}},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":81}]}})";
  EXPECT_THAT(apply(json, "in.json"), ElementsAre("a configured"));
  EXPECT_THAT(apply(json, "in.json"), ElementsAre("a unchanged"));
  auto source = sources::open_source(directory);
  EXPECT_TRUE(source.problems().empty());
  EXPECT_EQ(source.state().services.at({"default", "a"}).ports.at(0).port, 81);
}

TEST_F(FileStores, WhatCannotBeChangedInItsPlaceIsRefusedWithThePlaceAndNothingIsWritten) {
  const std::string list = "kind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n";
  directory.write("list.yaml", list);
  fs::create_symlink(directory.root() / "elsewhere.yaml", directory.path() / "link.yaml");
  std::ofstream(directory.root() / "elsewhere.yaml") << service("l", "10.96.0.5");
  directory.write("one.yaml", service("twice", "10.96.0.6"));
  directory.write("two.yaml", service("twice", "10.96.0.7"));
  const auto refused = apply(service("new", "10.96.0.8") + "---\n" + service("a", "10.96.0.1") + "---\n" +
                             service("l", "10.96.0.1") + "---\n" + service("twice", "10.96.0.1"));
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_THAT(refused[0],
              HasSubstr("Service default/a: is defined at " + (directory.path() / "list.yaml").string() +
                        ":3, and it shares its document"));
  EXPECT_THAT(refused[0], HasSubstr("link.yaml:1, and that file is a link"));
  EXPECT_THAT(refused[0], HasSubstr("one.yaml:1 and at "));
  EXPECT_THAT(names(), ElementsAre("link.yaml", "list.yaml", "one.yaml", "two.yaml"));
  EXPECT_EQ(text("list.yaml"), list);
}

TEST_F(FileStores, ANameThatIsWrittenInEscapesIsFound) {
  directory.write("a.json", R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"\u0077eb"}})");
  directory.write("b.yaml", "x: &n db\nkind: Service\nmetadata: {name: *n}\n");
  EXPECT_THAT(apply(service("web", "10.96.0.1") + "---\n" + service("db", "10.96.0.2")),
              ElementsAre("web configured", "db configured"));
  EXPECT_THAT(names(), ElementsAre("a.json", "b.yaml"));
}

TEST_F(FileStores, DeletingTakesTheDocumentAndTheFileWithItsLastObject) {
  directory.write("shop.yaml", service("a", "10.96.0.1") + "---\n" + service("b", "10.96.0.2"));
  EXPECT_THAT(remove("a"), ElementsAre("a deleted"));
  EXPECT_EQ(text("shop.yaml"), "---\n" + service("b", "10.96.0.2"));
  EXPECT_THAT(remove("b"), ElementsAre("b deleted"));
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_THAT(remove("b"), IsEmpty());
}

TEST_F(FileStores, AnObjectDefinedTwiceIsGoneWhenItIsDeleted) {
  directory.write("one.yaml", service("a", "10.96.0.1"));
  directory.write("two.yaml", service("a", "10.96.0.2"));
  EXPECT_THAT(remove("a"), ElementsAre("a deleted"));
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(FileStores, AFileWithAnUnreadableDocumentIsNotDeletedWithItsLastReadableOne) {
  directory.write("shop.yaml", service("a", "10.96.0.1") + "---\nkind: [\n");
  EXPECT_THAT(remove("a"), ElementsAre("a deleted"));
  EXPECT_EQ(text("shop.yaml"), "---\nkind: [\n");
  const auto listing = store.list();
  EXPECT_THAT(listing->notes, ElementsAre(HasSubstr("shop.yaml:")));
}

TEST_F(FileStores, ADryRunWritesNothing) {
  directory.write("shop.yaml", service("a", "10.96.0.1"));
  EXPECT_THAT(told(store.apply(
                  manifests(service("a", "10.96.0.1", "81") + "---\n" + service("b", "10.96.0.2")), true)),
              ElementsAre("a configured", "b created"));
  EXPECT_THAT(told(store.remove({{sources::Kind::kService, {"default", "a"}}}, true)),
              ElementsAre("a deleted"));
  EXPECT_EQ(text("shop.yaml"), service("a", "10.96.0.1"));
  EXPECT_THAT(names(), ElementsAre("shop.yaml"));
}

TEST_F(FileStores, AFileThatIsInTheWayIsNotOverwritten) {
  directory.write("service.default.a.yaml", service("other", "10.96.0.1"));
  EXPECT_THAT(apply(service("a", "10.96.0.2")), ElementsAre(HasSubstr("holds something else")));
  EXPECT_EQ(text("service.default.a.yaml"), service("other", "10.96.0.1"));
}

TEST_F(FileStores, NamesThatAreTooLongForAFileEndInANumber) {
  const Key a{sources::Kind::kPod, {"default", std::string(253, 'a')}};
  const Key b{sources::Kind::kPod, {"default", std::string(252, 'a') + "b"}};
  EXPECT_LT(FileStore::file_name(a, sources::Format::kYaml).size(), 250U);
  EXPECT_NE(FileStore::file_name(a, sources::Format::kYaml), FileStore::file_name(b, sources::Format::kYaml));
}

TEST_F(FileStores, TheDirectoryIsMadeButNoPathToIt) {
  FileStore below(directory.path() / "x");
  EXPECT_TRUE(below.apply(manifests(service("a", "10.96.0.1")), false));
  FileStore lost(directory.path() / "y" / "z");
  EXPECT_THAT(told(lost.apply(manifests(service("a", "10.96.0.1")), false)),
              ElementsAre(HasSubstr("ENOENT")));
}

/// Every one of them reads, then writes, the same file.
TEST_F(FileStores, AppliesAtOnceLoseNothing) {
  std::string all;
  constexpr int kWriters = 8;
  constexpr int kRounds = 20;
  for (int i = 0; i < kWriters; ++i)
    all += (i ? "---\n" : "") + service("s" + std::to_string(i), "10.96.0." + std::to_string(i + 1));
  directory.write("all.yaml", all);
  std::vector<std::thread> writers;
  for (int i = 0; i < kWriters; ++i)
    writers.emplace_back([&, i] {
      FileStore own(directory.path());
      for (int round = 1; round <= kRounds; ++round) {
        const auto changes =
            own.apply(manifests(service("s" + std::to_string(i), "10.96.0." + std::to_string(i + 1),
                                        std::to_string(1000 + round))),
                      false);
        ASSERT_TRUE(changes) << changes.error().message;
      }
    });
  for (auto& writer : writers) writer.join();
  auto source = sources::open_source(directory);
  ASSERT_EQ(source.state().services.size(), static_cast<size_t>(kWriters));
  for (const auto& [name, each] : source.state().services) EXPECT_EQ(each.ports.at(0).port, 1000 + kRounds);
  EXPECT_THAT(names(), ElementsAre("all.yaml"));
}

}  // namespace
}  // namespace bpfnet::objects
