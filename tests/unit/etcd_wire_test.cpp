#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "control/etcd/config.h"
#include "control/etcd/wire.h"

namespace bpfnet::etcd {
namespace {

using testing::HasSubstr;

TEST(Base64, IsThatOfRfc4648) {
  EXPECT_EQ(to_base64(""), "");
  EXPECT_EQ(to_base64("f"), "Zg==");
  EXPECT_EQ(to_base64("fo"), "Zm8=");
  EXPECT_EQ(to_base64("foo"), "Zm9v");
  EXPECT_EQ(to_base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(to_base64(std::string("\0\xff\xfe", 3)), "AP/+");
}

TEST(Base64, ReadsWhatItWroteAndRefusesTheRest) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i * 7);
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
  }
  for (const char* wrong : {"Z", "Zm9vY", "Z*==", "Zm 9v", "Zg==Zg=="})
    EXPECT_FALSE(from_base64(wrong)) << wrong;
}

TEST(Ranges, EndAfterTheLastKeyOfThePrefix) {
  EXPECT_EQ(range_end("/bpfnet/"), "/bpfnet0");
  EXPECT_EQ(range_end("a\xff"), "b");
  EXPECT_EQ(range_end("\xff"), std::string(1, '\0'));
}

// As etcd 3.4.23 answers.
TEST(Answers, OfARangeAreRead) {
  const auto answer = parse_range(
      R"({"header":{"cluster_id":"324952591200643719","member_id":"1","revision":"3","raft_term":"2"},"kvs":[{"key":"L2EvMQ==","create_revision":"2","mod_revision":"2","version":"1","value":"b25l"}],"more":true,"count":"2"})");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->header.cluster_id, 324952591200643719U);
  EXPECT_EQ(answer->header.revision, 3);
  EXPECT_TRUE(answer->more);
  EXPECT_EQ(answer->count, 2);
  ASSERT_EQ(answer->values.size(), 1U);
  EXPECT_EQ(answer->values[0].key, "/a/1");
  EXPECT_EQ(answer->values[0].value, "one");
  EXPECT_EQ(answer->values[0].mod_revision, 2);
}

TEST(Answers, MayHaveNumbersAsNumbers) {
  EXPECT_EQ(parse_range(R"({"header":{"revision":3},"count":2})")->header.revision, 3);
}

TEST(Answers, ThatMakeNoSenseAreErrors) {
  for (const char* wrong :
       {"", "[]", "{}", "null", R"({"header":{"revision":"x"}})", R"({"header":{"revision":"3"},"kvs":{}})",
        R"({"header":{"revision":"3"},"kvs":[{"key":"*"}]})", R"({"header":{"revision":"3"},"kvs":[3]})"})
    EXPECT_FALSE(parse_range(wrong)) << wrong;
  for (const char* wrong :
       {"", "[]", "{}", R"({"result":3})", R"({"result":{"events":3}})", R"({"result":{"events":[{}]}})"})
    EXPECT_FALSE(parse_watch_frame(wrong)) << wrong;
  EXPECT_FALSE(parse_authenticate(R"({"token":"a\r\nHost: x"})"));
}

TEST(Answers, ErrorsAreToldApart) {
  const auto compacted = parse_error(
      R"({"error":"etcdserver: mvcc: required revision has been compacted","message":"etcdserver: mvcc: required revision has been compacted","code":11})");
  ASSERT_TRUE(compacted);
  EXPECT_TRUE(is_compacted(*compacted));
  EXPECT_FALSE(wants_token(*compacted));
  EXPECT_TRUE(wants_token(*parse_error(R"({"error":"etcdserver: invalid auth token","code":16})")));
  EXPECT_TRUE(wants_token(*parse_error(R"({"error":"etcdserver: user name is empty","code":3})")));
  EXPECT_FALSE(is_compacted(
      *parse_error(R"({"error":"etcdserver: mvcc: required revision is a future revision","code":11})")));
  EXPECT_TRUE(is_unavailable(*parse_error(R"({"error":"etcdserver: request timed out","code":14})")));
  // 3.3, and what ends a stream
  EXPECT_EQ(
      parse_error(R"({"error":{"grpc_code":14,"http_code":503,"message":"transport is closing"}})")->code,
      14);
  EXPECT_FALSE(parse_error(R"({"header":{}})"));
  EXPECT_FALSE(parse_error("<html>"));
}

TEST(Frames, OfAWatchAreRead) {
  const auto frame = parse_watch_frame(
      R"({"result":{"header":{"cluster_id":"1","revision":"4"},"events":[{"kv":{"key":"L2EvMQ==","create_revision":"2","mod_revision":"4","version":"2","value":"dW5v"}},{"type":"DELETE","kv":{"key":"L2EvMg==","mod_revision":"4"}}]}})");
  ASSERT_TRUE(frame) << frame.error().message;
  ASSERT_EQ(frame->events.size(), 2U);
  EXPECT_FALSE(frame->events[0].deleted);
  EXPECT_EQ(frame->events[0].at.value, "uno");
  EXPECT_TRUE(frame->events[1].deleted);
  EXPECT_EQ(frame->events[1].at.key, "/a/2");
  const auto canceled =
      parse_watch_frame(R"({"result":{"header":{},"canceled":true,"compact_revision":"4"}})");
  EXPECT_TRUE(canceled->canceled);
  EXPECT_EQ(canceled->compact_revision, 4);
  EXPECT_EQ(parse_watch_frame(R"({"error":{"grpc_code":14,"message":"gone"}})")->error->message, "gone");
}

TEST(Frames, AreLinesCutAnywhere) {
  const std::string text = "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    FrameSplitter splitter;
    std::string seen;
    for (size_t at = 0; at < text.size(); at += piece)
      splitter.feed(std::string_view(text).substr(at, piece),
                    [&](std::string_view line) { return seen += line, seen += '|', true; });
    EXPECT_EQ(seen, "{\"a\":1}|{\"b\":2}\r|") << piece;
  }
}

TEST(Frames, ThatNeverEndAreGivenUp) {
  FrameSplitter splitter(10);
  EXPECT_TRUE(splitter.feed("12345", [](std::string_view) { return true; }));
  EXPECT_FALSE(splitter.feed("678901", [](std::string_view) { return true; }));
  EXPECT_TRUE(splitter.too_long());
}

TEST(Transactions, CompareEveryKeyThatTheyWrite) {
  const auto body = nlohmann::json::parse(txn_body({{"/a", 7, "x"}, {"/b", 0, std::nullopt}}));
  EXPECT_EQ(body["compare"][0]["mod_revision"], "7");
  EXPECT_EQ(body["compare"][1]["mod_revision"], "0");
  EXPECT_EQ(body["success"][0]["request_put"]["value"], to_base64("x"));
  EXPECT_EQ(body["success"][1]["request_delete_range"]["key"], to_base64("/b"));
}

std::string refusal(Config config) {
  const auto checked = Config::checked(std::move(config));
  return checked ? "" : checked.error().message;
}

TEST(Configs, AreFilledInOrRefusedByFlag) {
  const auto config = Config::checked(
      {.endpoints = {"https://etcd.example", "http://[fd00::1]/", "http://a:1"}, .prefix = "/x"});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->endpoints,
              testing::ElementsAre("https://etcd.example:2379", "http://[fd00::1]:2379", "http://a:1"));
  EXPECT_EQ(config->prefix, "/x/");
  EXPECT_THAT(refusal({}), HasSubstr("--etcd: is missing"));
  EXPECT_THAT(refusal({.endpoints = {"10.0.0.1:2379"}}), HasSubstr("--etcd 10.0.0.1:2379: is no endpoint"));
  EXPECT_THAT(refusal({.endpoints = {"http://"}}), HasSubstr("is no endpoint"));
  EXPECT_THAT(refusal({.endpoints = {"http://u:p@h:1"}}), HasSubstr("is no endpoint"));
  EXPECT_THAT(refusal({.endpoints = {"http://a"}, .prefix = ""}), HasSubstr("--etcd-prefix"));
  EXPECT_THAT(refusal({.endpoints = {"http://a"}, .certificate = "c"}), HasSubstr("--etcd-key"));
  EXPECT_THAT(refusal({.endpoints = {"http://a"}, .user = "u"}), HasSubstr("--etcd-password-file"));
}

}  // namespace
}  // namespace bpfnet::etcd
