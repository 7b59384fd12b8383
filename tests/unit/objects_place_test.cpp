// Where an agent says that objects are, and when it says that they have arrived.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "control/api/server.h"
#include "control/objects/input.h"
#include "control/objects/place.h"
#include "tests/unit/sources_directory.h"

namespace bpfnet::objects {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Places : public testing::Test {
 protected:
  Places() : server(api::Server::listen(socket).value()) {}

  void says(const json& source) {
    server->get("/v1/source", [source](const api::Request&) { return api::Answer::json(source); });
    server->start();
  }
  [[nodiscard]] std::string refusal() const {
    const auto store = open_store({.socket = socket});
    return store ? "" : store.error().message;
  }

  sources::ManifestDirectory directory;
  std::string socket = (directory.root() / "agent.sock").string();
  std::unique_ptr<api::Server> server;
  Key web{sources::Kind::kService, {"default", "web"}};
};

TEST_F(Places, AreTheAgentsDirectory) {
  says({{"source", "files"}, {"manifests", directory.path()}});
  const auto store = open_store({.socket = socket});
  ASSERT_TRUE(store) << store.error().message;
  const auto input = read_input_text(sources::service("web", "10.96.0.1"), "in.yaml", false);
  ASSERT_TRUE((*store)->apply(input->manifests, false));
  EXPECT_EQ(sources::open_source(directory).state().services.size(), 1U);
}

TEST_F(Places, UnderAnApiServerAreForKubectl) {
  says({{"source", "kubernetes"}});
  EXPECT_THAT(refusal(), HasSubstr("has its objects from the API server: use kubectl"));
}

TEST_F(Places, OfALaterAgentAreNotGuessed) {
  says({{"source", "tea leaves"}});
  EXPECT_THAT(refusal(), HasSubstr("`tea leaves`, which this bpfnetctl does not know"));
}

TEST_F(Places, InEtcdHaveTheAgentsFlagsAndThoseOfTheCommandLine) {
  says({{"source", "etcd"},
        {"etcd",
         {{"endpoints", {"http://127.0.0.1:1"}},
          {"prefix", "/x/"},
          {"user", "agent"},
          {"passwordFile", "/nonexistent/agent"}}}});
  const auto as_agent = open_store({.socket = socket});
  ASSERT_TRUE(as_agent) << as_agent.error().message;
  EXPECT_THAT((*as_agent)->list().error().message, HasSubstr("/nonexistent/agent"));
  const auto as_me =
      open_store({.socket = socket, .etcd = {.user = "me", .password_file = "/nonexistent/me"}});
  ASSERT_TRUE(as_me) << as_me.error().message;
  EXPECT_THAT((*as_me)->list().error().message, HasSubstr("/nonexistent/me"));
}

TEST_F(Places, AreOneOfTwo) {
  const auto store = open_store({.manifests = "m", .etcd = {.endpoints = {"http://a"}}});
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr("--manifests and --etcd"));
}

TEST_F(Places, AreWaitedForUntilTheAgentHasThemAndThenItsComplaintsAreTold) {
  std::atomic<int> asked = 0;
  server->post("/v1/source/wait", [&](const api::Request& request) {
    EXPECT_EQ(request.parameter("revision"), "7");
    if (++asked == 1) return api::Answer::error(503, 503, "others wait already: try again");
    return api::Answer::json(json{{"arrived", asked > 2}});
  });
  server->get("/v1/problems", [](const api::Request&) {
    return api::Answer::json(json{{"problems",
                                   {{{"object", "Service default/web"}, {"text", "no"}},
                                    {{"object", "Service default/webb"}, {"text", "of another"}}}}});
  });
  server->start();
  const auto problems = await_agent(socket, 7, {web}, std::chrono::seconds(20));
  ASSERT_TRUE(problems) << problems.error().message;
  EXPECT_THAT(*problems, ElementsAre("no"));
  EXPECT_EQ(asked, 3);
}

TEST_F(Places, ThatNeverArriveAreToldAfterTheTime) {
  server->post("/v1/source/wait", [](const api::Request&) {
    return api::Answer::json(json{{"arrived", false}});
  });
  server->start();
  const auto problems = await_agent(socket, 0, {web}, std::chrono::seconds(0));
  ASSERT_FALSE(problems);
  EXPECT_THAT(problems.error().message, HasSubstr("not in the maps after 0 s"));
}

}  // namespace
}  // namespace bpfnet::objects
