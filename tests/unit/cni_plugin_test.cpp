// The plugin as a whole: order of checks and codes, and the real binary against a socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "control/cni/delegate.h"
#include "tests/unit/cni_fixture.h"

namespace bpfnet::cni::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// An agent that answers every call with the same words.
class CannedLink final : public AgentLink {
 public:
  explicit CannedLink(Result<api::UnixResponse> answer, std::vector<std::string>* calls = nullptr)
      : answer_(std::move(answer)), calls_(calls) {}
  Result<api::UnixResponse> post(std::string_view call, std::string_view) override { return record(call); }
  Result<api::UnixResponse> get(std::string_view call) override { return record(call); }

 private:
  Result<api::UnixResponse> record(std::string_view call) {
    if (calls_ != nullptr) calls_->emplace_back(call);
    return answer_;
  }
  Result<api::UnixResponse> answer_;
  std::vector<std::string>* calls_;
};

PluginOutcome run(const Variables& variables, const std::string& input,
                  Result<api::UnixResponse> answer = api::UnixResponse{200, "{}"},
                  std::vector<std::string>* calls = nullptr) {
  return run_plugin(variables, input,
                    [&](const NetConf&) { return std::make_unique<CannedLink>(answer, calls); });
}

Variables variables_of(const char* command) {
  return {{"CNI_COMMAND", command},
          {"CNI_CONTAINERID", "c1"},
          {"CNI_NETNS", "/run/netns/bn-cni-none"},
          {"CNI_IFNAME", "eth0"},
          {"CNI_PATH", "/usr/lib/cni"}};
}

constexpr const char* kConf = R"({"cniVersion":"1.1.0","name":"n","type":"bpfnet-cni"})";

// C3, C15: Podman sets CNI_NETNS and CNI_IFNAME to `dummy`.
TEST(Plugin, VersionNeedsNothingButTheCommand) {
  const auto outcome = run({{"CNI_COMMAND", "VERSION"}, {"CNI_NETNS", "dummy"}, {"CNI_IFNAME", "dummy"}},
                           R"({"cniVersion":"0.4.0"})", fail("no agent is asked"));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(json::parse(outcome.output)["cniVersion"], "0.4.0");
  EXPECT_EQ(json::parse(outcome.output)["supportedVersions"].size(), 7U);
}

// C8
TEST(Plugin, OldVersionsHaveNoCheckGcAndStatus) {
  for (const char* version : {"0.1.0", "0.2.0", "0.3.0", "0.3.1"}) {
    EXPECT_EQ(
        code_of(run(variables_of("CHECK"), fmt::format(R"({{"cniVersion":"{}","name":"n"}})", version))), 1);
  }
  for (const char* command : {"GC", "STATUS"}) {
    for (const char* version : {"0.4.0", "1.0.0"}) {
      EXPECT_EQ(
          code_of(run(variables_of(command), fmt::format(R"({{"cniVersion":"{}","name":"n"}})", version))),
          1);
    }
  }
}

// C7
TEST(Plugin, ErrorsAreJsonInTheVersionOfTheQuestion) {
  const auto outcome = run({{"CNI_COMMAND", "ADD"}}, R"({"cniVersion":"0.3.1","name":"n"})");
  const json error = json::parse(outcome.output);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(error["cniVersion"], "0.3.1");
  EXPECT_EQ(error["code"], 4);
  EXPECT_EQ(json::parse(run(variables_of("ADD"), "rubbish").output)["code"], 6);
  EXPECT_EQ(json::parse(run(variables_of("ADD"), R"({"cniVersion":"3.0.0","name":"n"})").output)["code"], 1);
}

TEST(Plugin, AgentErrorsKeepTheirCode) {
  const api::UnixResponse refused{503, R"({"error":{"code":11,"message":"pool is empty","details":"more"}})"};
  const auto outcome = run(variables_of("ADD"), kConf, refused);
  EXPECT_EQ(code_of(outcome), 11);
  EXPECT_EQ(json::parse(outcome.output)["details"], "more");
  EXPECT_EQ(code_of(run(variables_of("ADD"), kConf, api::UnixResponse{500, "<html>"})), 999);
}

TEST(Plugin, AnAgentThatIsDownIsTryAgainWithAHint) {
  const auto outcome = run(variables_of("ADD"), kConf, fail_errno(ECONNREFUSED, "connect"));
  EXPECT_EQ(code_of(outcome), 11);
  EXPECT_THAT(message_of(outcome), HasSubstr("bpfnetd"));
  EXPECT_EQ(code_of(run(variables_of("STATUS"), kConf, fail_errno(ENOENT, "connect"))), 50);
}

// C9: the agent may have made the endpoint before the answer was lost.
TEST(Plugin, AnUnclearAddIsTakenBack) {
  std::vector<std::string> calls;
  EXPECT_NE(code_of(run(variables_of("ADD"), kConf, fail_errno(ETIMEDOUT, "receive"), &calls)), 0);
  EXPECT_THAT(calls, ::testing::ElementsAre("add", "del"));
  calls.clear();
  EXPECT_NE(code_of(run(variables_of("ADD"), kConf, api::UnixResponse{200, "half an answ"}, &calls)), 0);
  EXPECT_THAT(calls, ::testing::ElementsAre("add", "del"));
}

// C11
TEST(Plugin, ADelThatCannotBeNotedIsTryAgain) {
  const std::string conf = R"({"cniVersion":"1.1.0","name":"n","stateDir":"/proc/no-such-place"})";
  EXPECT_EQ(code_of(run(variables_of("DEL"), conf, fail_errno(ECONNREFUSED, "connect"))), 11);
}

// --- over the real binary and a real socket ---

/// Serves the endpoint manager's API on a unix socket, one connection after the other.
class TinyServer {
 public:
  explicit TinyServer(const std::string& path) : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
    if (::listen(listener_.get(), 64) != 0) std::abort();
  }
  ~TinyServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }
  TinyServer(const TinyServer&) = delete;
  TinyServer& operator=(const TinyServer&) = delete;

  /// Answers each request with the given text, raw.
  void answer_with(std::string response) {
    thread_ = std::thread([this, text = std::move(response)] {
      for (;;) {
        const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) return;
        char buffer[65536];
        const ssize_t got = ::recv(client.get(), buffer, sizeof buffer, 0);
        request.assign(buffer, got > 0 ? static_cast<size_t>(got) : 0);
        (void)!::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
      }
    });
  }

  std::string request;

 private:
  Fd listener_;
  std::thread thread_;
};

class BinaryTest : public NodeTest {
 protected:
  ProgramOutput run_binary(const Variables& variables, const json& conf) {
    return run_program(BPFNET_CNI_BINARY, variables, conf.dump()).value();
  }
  json conf() { return {{"cniVersion", "1.1.0"}, {"name", "n"}, {"socket", (directory_ / "sock").string()}}; }
};

TEST_F(BinaryTest, SpeaksHttpOverTheSocketOfItsConfiguration) {
  TinyServer server(directory_ / "sock");
  const std::string body = R"({"error":{"code":51,"message":"pool is gone"}})";
  server.answer_with(
      fmt::format("HTTP/1.1 503 Service Unavailable\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  const ProgramOutput run = run_binary(variables_of("STATUS"), conf());
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(json::parse(run.output)["code"], 51);
  EXPECT_THAT(server.request, HasSubstr("GET /v1/cni/status HTTP/1.1\r\n"));
}

TEST_F(BinaryTest, WithoutAgentAddIsTryAgain) {
  const ProgramOutput run = run_binary(variables_of("ADD"), conf());
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(json::parse(run.output)["code"], 11);
}

// Podman asks for the version of every plugin at nearly every command.
TEST_F(BinaryTest, VersionIsFast) {
  std::vector<double> milliseconds;
  for (int i = 0; i < 21; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(run_binary({{"CNI_COMMAND", "VERSION"}}, {{"cniVersion", "1.0.0"}}).exit_code, 0);
    milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(milliseconds.begin(), milliseconds.begin() + 10, milliseconds.end());
  RecordProperty("median_ms", std::to_string(milliseconds[10]));
  EXPECT_LT(milliseconds[10], 100.0) << "a sanity bound: machines and sanitizers differ";
}

// --- the client's reading of answers ---

TEST(UnixClient, ReadsLengthChunksAndToTheEnd) {
  EXPECT_EQ(api::parse_response("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi!")->body, "hi");
  EXPECT_EQ(api::parse_response("HTTP/1.1 200 OK\r\n\r\nall of it")->body, "all of it");
  EXPECT_EQ(api::parse_response(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n")
                ->body,
            "hi!");
  EXPECT_EQ(api::parse_response("HTTP/1.1 404 Not Found\r\n\r\n")->status, 404);
}

TEST(UnixClient, RefusesBrokenAnswers) {
  for (const char* text :
       {"", "HTTP/1.1 200 OK\r\n", "SMTP ready\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhi\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhi\r\n"}) {
    EXPECT_FALSE(api::parse_response(text)) << text;
  }
}

}  // namespace
}  // namespace bpfnet::cni::test
