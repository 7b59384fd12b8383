#include <gtest/gtest.h>

#include "control/sources/document.h"

namespace bpfnet::sources {
namespace {

TEST(Yaml, KeepsLinesKindsAndQuoting) {
  const ParsedText parsed = parse_yaml("a: 1\nb:\n  - \"1\"\n  - ~\nc: {d: text}\n");
  ASSERT_FALSE(parsed.error);
  ASSERT_EQ(parsed.documents.size(), 1u);
  const Value& root = *parsed.documents[0].root;
  EXPECT_EQ(root.find("a")->kind, Value::Kind::kPlain);
  const Value& list = *root.find("b");
  EXPECT_EQ(list.items[0]->kind, Value::Kind::kString);
  EXPECT_EQ(list.items[0]->line, 3);
  EXPECT_EQ(list.items[1]->kind, Value::Kind::kNull);
  EXPECT_EQ(root.find("c")->find("d")->text, "text");
  EXPECT_EQ(root.find("c")->line, 5);
  EXPECT_EQ(root.find("z"), nullptr);
}

TEST(Yaml, AliasesAndMergeKeysAreResolved) {
  const ParsedText parsed = parse_yaml("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nagain: *b\n");
  ASSERT_FALSE(parsed.error) << parsed.error->text;
  const Value& root = *parsed.documents[0].root;
  EXPECT_EQ(root.find("use")->find("x")->text, "1");
  EXPECT_EQ(root.find("use")->find("y")->text, "3");
  EXPECT_FALSE(root.has_duplicate_keys);
  EXPECT_EQ(root.find("again"), root.find("base"));
}

TEST(Yaml, AnAliasCannotContainItself) {
  EXPECT_TRUE(parse_yaml("a: &a [*a]\n").error);
}

TEST(Yaml, AliasBombIsRefused) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    std::string line = "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) line += (j > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    bomb += line + "]\n";
  }
  const ParsedText parsed = parse_yaml(bomb);
  ASSERT_TRUE(parsed.error);
  EXPECT_NE(parsed.error->text.find("aliases add more than"), std::string::npos) << parsed.error->text;
}

TEST(Yaml, DepthIsBounded) {
  EXPECT_TRUE(parse_yaml(std::string(5000, '[')).error);
  EXPECT_TRUE(parse_json(std::string(5000, '[')).error);
}

TEST(Yaml, DuplicateKeysAreMarkedUpToTheRoot) {
  const ParsedText parsed = parse_yaml("a:\n  b: {c: 1, c: 2}\nd: 1\n");
  EXPECT_TRUE(parsed.documents[0].root->has_duplicate_keys);
  EXPECT_FALSE(parsed.documents[0].root->find("d")->has_duplicate_keys);
}

TEST(Yaml, ErrorsHaveTheirLine) {
  const ParsedText parsed = parse_yaml("a: 1\nb: [1, 2\nc: 3\n");
  ASSERT_TRUE(parsed.error);
  EXPECT_GE(parsed.error->line, 2);
}

TEST(Split, CutsAtMarkersOnlyAtTheStartOfALine) {
  const auto chunks = split_documents("a: 1\n---\nb: |\n  ---\n  x\n--- # c\nc: ---\n----\n");
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[0].text, "a: 1\n");
  EXPECT_EQ(chunks[1].text, "---\nb: |\n  ---\n  x\n");
  EXPECT_EQ(chunks[1].first_line, 2);
  EXPECT_EQ(chunks[2].first_line, 6);
}

TEST(Split, WindowsLineEndsAndMissingLastNewline) {
  const auto chunks = split_documents("a: 1\r\n---\r\nb: 2\r\n---");
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[2].text, "---");
  EXPECT_TRUE(split_documents("").empty());
}

TEST(Json, EscapesNumbersAndLines) {
  const ParsedText parsed = parse_json(
      "{\n \"a\": \"\\u00e9\\ud83d\\ude00\\n\",\n \"b\": 80\n,\n \"c\": true, \"d\": [null,\n 1.5]}");
  ASSERT_FALSE(parsed.error) << parsed.error->text;
  const Value& root = *parsed.documents[0].root;
  EXPECT_EQ(root.find("a")->text, "\xc3\xa9\xf0\x9f\x98\x80\n");
  EXPECT_EQ(root.find("a")->kind, Value::Kind::kString);
  EXPECT_EQ(root.find("b")->text, "80");
  EXPECT_EQ(root.find("b")->kind, Value::Kind::kPlain);
  EXPECT_EQ(root.find("b")->line, 3) << "a number at the end of its line";
  EXPECT_EQ(root.find("c")->line, 5);
  EXPECT_EQ(root.find("d")->items[0]->kind, Value::Kind::kNull);
  EXPECT_EQ(root.find("d")->items[1]->line, 6);
}

TEST(Json, SeveralValuesOneAfterAnother) {
  const ParsedText parsed = parse_json("{\"a\":1}\n{\"a\":2}{\"a\":3}\n");
  ASSERT_FALSE(parsed.error) << parsed.error->text;
  ASSERT_EQ(parsed.documents.size(), 3u);
  EXPECT_EQ(parsed.documents[1].root->line, 2);
}

TEST(Json, ErrorKeepsWhatCameBefore) {
  const ParsedText parsed = parse_json("{\"a\":1}\n{\"b\":\n tru}");
  ASSERT_TRUE(parsed.error);
  EXPECT_EQ(parsed.error->line, 3);
  EXPECT_EQ(parsed.documents.size(), 1u);
}

}  // namespace
}  // namespace bpfnet::sources
