#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "control/api/server.h"
#include "control/api/unix_client.h"

namespace bpfnet::api {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class ServerTest : public testing::Test {
 protected:
  ServerTest() { std::filesystem::create_directories(directory_); }
  ~ServerTest() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  void start() {
    server_ = Server::listen(path_).value();
    server_->get("/v1/hello", [](const Request& request) {
      return Answer::json(json{{"name", request.parameter("name")}});
    });
    server_->post("/v1/echo",
                  [](const Request& request) { return Answer{.status = 200, .body = request.body}; });
    server_->get("/v1/throws", [](const Request&) -> Answer { throw std::runtime_error("a bug"); });
    server_->start();
  }
  [[nodiscard]] UnixClient client() const {
    return UnixClient({.socket = path_, .timeout = std::chrono::seconds(5)});
  }

  std::string directory_ =
      std::filesystem::temp_directory_path() / ("bpfnet-api-test-" + std::to_string(getpid()));
  std::string path_ = directory_ + "/run/agent.sock";
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersOnASocketOfItsGroupOnly) {
  start();
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660U);
  const auto answer = client().get("/v1/hello?name=a%20b");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(json::parse(answer->body)["name"], "a b");
  EXPECT_EQ(client().post("/v1/echo", "{\"x\":1}")->body, "{\"x\":1}");
}

TEST_F(ServerTest, ErrorsAreJson) {
  start();
  const auto missing = client().get("/v1/nope");
  EXPECT_EQ(missing->status, 404);
  EXPECT_THAT(json::parse(missing->body)["error"]["message"].get<std::string>(), HasSubstr("GET /v1/nope"));
  const auto thrown = client().get("/v1/throws");
  EXPECT_EQ(thrown->status, 500);
  EXPECT_THAT(json::parse(thrown->body)["error"]["message"].get<std::string>(), HasSubstr("a bug"));
}

TEST_F(ServerTest, BodyOverTheLimitIsRefused) {
  start();
  const auto answer = client().post("/v1/echo", std::string((1 << 20) + 1, 'x'));
  if (answer) {  // or the connection ended while the body was being sent
    EXPECT_EQ(answer->status, 413);
  }
  EXPECT_EQ(client().get("/v1/hello")->status, 200);
}

TEST_F(ServerTest, StaleSocketIsReplacedAndALiveOneRefused) {
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path());
  {
    const Fd dead(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  start();
  EXPECT_EQ(client().get("/v1/hello")->status, 200);
  const auto second = Server::listen(path_);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("another agent answers there"));
  EXPECT_EQ(client().get("/v1/hello")->status, 200);
}

TEST_F(ServerTest, OrdinaryFileInTheWayIsNotTouched) {
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path());
  std::ofstream(path_) << "mine";
  const auto server = Server::listen(path_);
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message, HasSubstr("no socket is in the way"));
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(ServerTest, SlowHandlerDelaysNobodyElse) {
  std::promise<void> release;
  auto released = release.get_future().share();
  server_ = Server::listen(path_).value();
  server_->get("/slow", [released](const Request&) {
    released.wait();
    return Answer{};
  });
  server_->get("/quick", [](const Request&) { return Answer{.status = 200, .body = "{}"}; });
  server_->start();
  auto slow = std::async(std::launch::async, [this] { return client().get("/slow")->status; });
  EXPECT_EQ(client().get("/quick")->status, 200);
  release.set_value();
  EXPECT_EQ(slow.get(), 200);
}

TEST_F(ServerTest, StopTakesTheSocketAway) {
  start();
  server_->stop();
  EXPECT_FALSE(std::filesystem::exists(path_));
  const auto answer = client().get("/v1/hello");
  ASSERT_FALSE(answer);
  EXPECT_TRUE(agent_is_down(answer.error()));
}

}  // namespace
}  // namespace bpfnet::api
