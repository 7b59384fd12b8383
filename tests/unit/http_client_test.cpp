// The client against a server that does what servers do to clients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>

#include "control/http/client.h"
#include "tests/support/http/http_server.h"
#include "tests/support/must.h"
#include "tests/support/temp_directory.h"

namespace bpfnet::http {
namespace {

using test::HttpConnection;
using test::HttpRequest;
using test::HttpServer;
using namespace std::chrono_literals;

/// One request from beginning to end.
struct Told {
  Head head;
  std::string body;
  Outcome outcome;
};

Told run(Client& client, Request request) {
  auto told = std::make_shared<Told>();
  std::promise<void> ended;
  client.post([&] {
    client.send(std::move(request),
                {.head = [told](const Head& head) { told->head = head; },
                 .data = [told](std::string_view data) { return told->body.append(data), true; },
                 .done =
                     [told, &ended](const Outcome& outcome) {
                       told->outcome = outcome;
                       ended.set_value();
                     }});
  });
  ended.get_future().get();
  return *told;
}

std::unique_ptr<Client> client_for(ServerAccess access = {}) {
  return test::must(Client::start("test", std::move(access)));
}

TEST(HttpClient, AsksAndTakesTheAnswer) {
  HttpRequest seen;
  HttpServer server({}, [&](const HttpRequest& request, HttpConnection& connection) {
    seen = request;
    connection.answer(201, "made", "Content-Type: Text/Plain; charset=utf-8\r\nRetry-After: 7\r\n");
  });
  const auto client = client_for();
  const Told told = run(*client, {.method = "POST",
                                  .url = server.url() + "/a/" + encode("b c?") + "?x=" + encode("!a,b=c"),
                                  .headers = {{"X-Thing", "some"}},
                                  .body = "hello"});
  EXPECT_EQ(told.outcome.failure, Failure::kNone) << told.outcome.message;
  EXPECT_EQ(told.head.status, 201);
  EXPECT_EQ(told.head.content_type, "text/plain");
  EXPECT_EQ(told.head.retry_after, 7s);
  EXPECT_EQ(told.body, "made");
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.path, "/a/b c?");
  EXPECT_EQ(seen.parameter("x"), "!a,b=c");
  EXPECT_EQ(seen.header("x-thing"), "some");
  EXPECT_EQ(seen.body, "hello");
}

TEST(HttpClient, FetchWaitsAndBoundsTheAnswer) {
  HttpServer server(
      {}, [&](const HttpRequest&, HttpConnection& connection) { connection.answer(500, "0123456789"); });
  const auto client = client_for();
  const auto reply = client->fetch({.url = server.url()});
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->head.status, 500);
  EXPECT_EQ(reply->body, "0123456789");
  const auto bounded = client->fetch({.url = server.url()}, 9);
  ASSERT_FALSE(bounded);
  EXPECT_THAT(bounded.error().message, testing::HasSubstr("larger than 9 bytes"));
}

TEST(HttpClient, StreamsWhatComes) {
  std::promise<void> first_seen;
  HttpServer server({}, [&](const HttpRequest&, HttpConnection& connection) {
    connection.start_chunked(200);
    connection.chunk("first");
    first_seen.get_future().wait();  // the rest comes only when this was taken
    connection.chunk("second");
    connection.end_chunked();
  });
  const auto client = client_for();
  std::string body;
  std::promise<Outcome> ended;
  client->post([&] {
    client->send({.url = server.url()}, {.data =
                                             [&](std::string_view data) {
                                               body += data;
                                               if (body == "first") first_seen.set_value();
                                               return true;
                                             },
                                         .done = [&](const Outcome& outcome) { ended.set_value(outcome); }});
  });
  EXPECT_EQ(ended.get_future().get().failure, Failure::kNone);
  EXPECT_EQ(body, "firstsecond");
}

TEST(HttpClient, HeadIsToldBeforeABodyComes) {
  std::promise<void> told;
  HttpServer server({}, [&](const HttpRequest&, HttpConnection& connection) {
    connection.start_chunked(200);
    told.get_future().wait();
    connection.end_chunked();
  });
  const auto client = client_for();
  std::promise<Outcome> ended;
  client->post([&] {
    client->send({.url = server.url()}, {.head =
                                             [&](const Head& head) {
                                               EXPECT_EQ(head.status, 200);
                                               told.set_value();
                                             },
                                         .done = [&](const Outcome& outcome) { ended.set_value(outcome); }});
  });
  EXPECT_EQ(ended.get_future().get().failure, Failure::kNone);
}

// A curl call may be on the stack: what is sent then begins after it.
TEST(HttpClient, RequestsMayBeSentFromWithinAnAnswer) {
  HttpServer server({}, [&](const HttpRequest& request, HttpConnection& connection) {
    connection.answer(200, request.path);
  });
  const auto client = client_for();
  std::promise<std::string> second;
  client->post([&] {
    client->send({.url = server.url() + "/1"}, {.data = [&](std::string_view) {
                   client->ask({.url = server.url() + "/2"}, 100, [&](const Result<Reply>& reply) {
                     second.set_value(reply ? reply->body : reply.error().message);
                   });
                   return true;
                 }});
  });
  EXPECT_EQ(second.get_future().get(), "/2");
}

TEST(HttpClient, KeepsItsConnection) {
  HttpServer server({},
                    [&](const HttpRequest&, HttpConnection& connection) { connection.answer(200, "{}"); });
  const auto client = client_for();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(client->fetch({.url = server.url()}));
  EXPECT_EQ(server.accepted(), 1u);
}

TEST(HttpClient, TellsHowItFailed) {
  HttpServer server({}, [&](const HttpRequest& request, HttpConnection& connection) {
    if (request.path == "/garbage") connection.raw("%%%\r\n\r\n");
    if (request.path == "/cut")
      connection.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf");
    if (request.path == "/short") connection.raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    if (request.path == "/still") connection.wait(-1, 60s);
    connection.end();
  });
  const auto client = client_for();
  EXPECT_EQ(run(*client, {.url = server.url() + "/garbage"}).outcome.failure, Failure::kBroken);
  const Told cut = run(*client, {.url = server.url() + "/cut"});
  EXPECT_EQ(cut.outcome.failure, Failure::kBroken);
  EXPECT_EQ(cut.outcome.status, 200);
  EXPECT_EQ(cut.body, "half");
  EXPECT_EQ(run(*client, {.url = server.url() + "/short"}).outcome.failure, Failure::kBroken);
  EXPECT_EQ(run(*client, {.url = server.url() + "/still", .deadline = 50ms}).outcome.failure,
            Failure::kTimeout);
  EXPECT_EQ(run(*client, {.url = "no url"}).outcome.status, 0);
  server.stop();
  const Told refused = run(*client, {.url = server.url()});
  EXPECT_EQ(refused.outcome.failure, Failure::kRefused) << refused.outcome.message;
  EXPECT_FALSE(refused.outcome.message.empty());
}

// A listener whose queue is full answers no SYN, as a network that loses them.
TEST(HttpClient, ConnectionThatNeverStandsIsUnreached) {
  const Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(name);
  auto* any = reinterpret_cast<sockaddr*>(&name);
  ASSERT_EQ(bind(listener.get(), any, length), 0);
  ASSERT_EQ(listen(listener.get(), 0), 0);
  ASSERT_EQ(getsockname(listener.get(), any, &length), 0);
  const Fd in_the_queue(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(in_the_queue.get(), any, length), 0);
  const auto client = client_for();
  const Told told = run(
      *client, {.url = fmt::format("http://127.0.0.1:{}", ntohs(name.sin_port)), .connect_timeout = 50ms});
  EXPECT_EQ(told.outcome.failure, Failure::kUnreached) << told.outcome.message;
}

TEST(HttpClient, StallIsSilenceNotLength) {
  HttpServer server({}, [&](const HttpRequest&, HttpConnection& connection) {
    connection.start_chunked(200);
    connection.chunk("x");
    connection.wait(-1, 60s);
  });
  const auto client = client_for();
  const Told told = run(*client, {.url = server.url(), .stall = 1s});
  EXPECT_EQ(told.outcome.failure, Failure::kTimeout);
  EXPECT_EQ(told.body, "x");
}

TEST(HttpClient, CancelIsSilentAlsoFromWithinItsOwnCall) {
  HttpServer server({}, [&](const HttpRequest&, HttpConnection& connection) {
    connection.start_chunked(200);
    while (connection.chunk("x")) continue;
  });
  const auto client = client_for();
  std::promise<void> cancelled;
  std::atomic<int> done = 0;
  Client::Id id = 0;
  client->post([&] {
    id = client->send({.url = server.url()}, {.data =
                                                  [&](std::string_view) {
                                                    client->cancel(id);
                                                    client->after(0ms, [&] { cancelled.set_value(); });
                                                    return true;
                                                  },
                                              .done = [&](const Outcome&) { ++done; }});
  });
  cancelled.get_future().get();
  while (server.connections() != 0) std::this_thread::yield();  // and the server hears of it
  EXPECT_EQ(done, 0);
}

TEST(HttpClient, WaitsComeInOrderAndCanBeCancelled) {
  const auto client = client_for();
  std::promise<std::string> all;
  std::string order;
  client->post([&] {
    client->after(20ms, [&] { order += "c"; });
    const Client::Id never = client->after(15ms, [&] { order += "!"; });
    client->after(5ms, [&, never] {
      order += "a";
      client->cancel(never);
    });
    client->after(10ms, [&] { order += "b"; });
    client->after(25ms, [&] { all.set_value(order); });
  });
  EXPECT_EQ(all.get_future().get(), "abc");
}

TEST(HttpClient, AuthorizesEachRequestAnew) {
  std::vector<std::string> seen;
  HttpServer server({}, [&](const HttpRequest& request, HttpConnection& connection) {
    seen.push_back(request.header("authorization"));
    connection.answer(200, "");
  });
  int asked = 0;
  const auto client = client_for({.authorize = [&]() -> Result<Authorization> {
    switch (++asked) {
      case 1:
        return BearerToken{"t1"};
      case 2:
        return BasicLogin{"user", "pass"};
      case 3:
        return Authorization{};
      default:
        return fail("token: is empty");
    }
  }});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client->fetch({.url = server.url()}));
  EXPECT_THAT(seen, testing::ElementsAre("Bearer t1", "Basic dXNlcjpwYXNz", ""));
  const Told refused = run(*client, {.url = server.url()});
  EXPECT_EQ(refused.outcome.failure, Failure::kSecret);
  EXPECT_EQ(refused.outcome.message, "token: is empty");
  EXPECT_EQ(seen.size(), 3u);
}

TEST(HttpClient, GoesThroughAProxy) {
  std::string target;
  HttpServer proxy({}, [&](const HttpRequest& request, HttpConnection& connection) {
    target = request.path;
    connection.answer(200, "by proxy");
  });
  const auto client = client_for({.proxy = proxy.url()});
  const auto reply = client->fetch({.url = "http://192.0.2.1:8080/x"});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "by proxy");
  EXPECT_EQ(target, "http://192.0.2.1:8080/x");
}

TEST(HttpClient, EndsWithRequestsUnderWay) {
  HttpServer server({}, [&](const HttpRequest&, HttpConnection& connection) { connection.wait(-1, 60s); });
  auto client = client_for();
  std::atomic<int> done = 0;
  client->post([&] { client->send({.url = server.url()}, {.done = [&](const Outcome&) { ++done; }}); });
  while (server.connections() == 0) std::this_thread::yield();
  client.reset();
  EXPECT_EQ(done, 0);
}

TEST(HttpSecret, IsTrimmedAndNeverEmpty) {
  const test::TempDirectory directory;
  const std::filesystem::path path = directory / "secret";
  std::ofstream(path) << "  word\n\n";
  EXPECT_EQ(*Secret{.file = path}.read(), "word");
  std::ofstream(path) << "\n";
  EXPECT_THAT(Secret{.file = path}.read().error().message, testing::HasSubstr("is empty"));
  std::filesystem::remove(path);
  EXPECT_THAT(Secret{.file = path}.read().error().message, testing::HasSubstr("ENOENT"));
}

}  // namespace
}  // namespace bpfnet::http
