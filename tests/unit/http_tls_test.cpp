// Who trusts whom, and that a certificate which is replaced counts from the next request on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "control/http/client.h"
#include "tests/support/http/http_server.h"
#include "tests/support/must.h"
#include "tests/support/temp_directory.h"

namespace bpfnet::http {
namespace {

using test::Authority;
using test::HttpConnection;
using test::HttpRequest;
using test::HttpServer;
using test::KeyPair;

class HttpTls : public testing::Test {
 protected:
  HttpServer& serve(const KeyPair& own, bool must_show = false) {
    server_.emplace(HttpServer::Options{.tls = HttpServer::Tls{own, authority_.certificate(), must_show}},
                    [](const HttpRequest& request, HttpConnection& connection) {
                      connection.answer(200, request.client);
                    });
    return *server_;
  }
  Result<Reply> get(ServerAccess access, const std::string& url) {
    return test::must(Client::start("test", std::move(access)))->fetch({.url = url});
  }
  [[nodiscard]] ServerAccess trusting() const { return {.ca = {.text = authority_.certificate()}}; }

  Authority authority_{"the authority"};
  std::optional<HttpServer> server_;
};

TEST_F(HttpTls, ServerOfOurAuthorityIsTrustedOthersAreNot) {
  const std::string url = serve(authority_.server({"127.0.0.1"})).url();
  EXPECT_TRUE(get(trusting(), url));
  EXPECT_FALSE(get({}, url));
  const Authority other("another");
  const auto distrusted = get({.ca = {.text = other.certificate()}}, url);
  ASSERT_FALSE(distrusted);
  EXPECT_THAT(distrusted.error().message, testing::HasSubstr("certificate"));
  EXPECT_TRUE(get({.insecure = true}, url));
}

TEST_F(HttpTls, ServerNameStandsForTheHost) {
  const std::string url = serve(authority_.server({"api.example"})).url();
  EXPECT_FALSE(get(trusting(), url)) << "its certificate is for another name";
  ServerAccess access = trusting();
  access.server_name = "api.example";
  const auto reply = get(access, url);
  EXPECT_TRUE(reply) << reply.error().message;
  access.server_name = "other.example";
  EXPECT_FALSE(get(access, url));
}

TEST_F(HttpTls, ClientShowsItsCertificate) {
  const std::string url = serve(authority_.server({"127.0.0.1"}), true).url();
  EXPECT_FALSE(get(trusting(), url));
  const KeyPair pair = authority_.client("node-a");
  ServerAccess access = trusting();
  access.certificate.text = pair.certificate;
  const auto half = get(access, url);
  ASSERT_FALSE(half);
  EXPECT_THAT(half.error().message, testing::HasSubstr("go together"));
  access.key.text = pair.key;
  const auto reply = get(access, url);
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "node-a");
}

// K12: the very next request shows the new one, though a connection with the old one is still open.
TEST_F(HttpTls, ReplacedFilesCountAtOnce) {
  const test::TempDirectory directory;
  const auto put = [&](const std::string& name, const std::string& text) {
    std::ofstream(directory / "new") << text;
    std::filesystem::rename(directory / "new", directory / name);
    return (directory / name).string();
  };
  const auto put_pair = [&](const std::string& who) {
    const KeyPair pair = authority_.client(who);
    put("tls.crt", pair.certificate);
    put("tls.key", pair.key);
  };
  HttpServer& server = serve(authority_.server({"127.0.0.1"}));
  put_pair("first");
  const auto client =
      test::must(Client::start("test", {.ca = {.file = put("ca.crt", authority_.certificate())},
                                        .certificate = {.file = directory / "tls.crt"},
                                        .key = {.file = directory / "tls.key"}}));
  EXPECT_EQ(test::must(client->fetch({.url = server.url()})).body, "first");
  put_pair("second");
  EXPECT_EQ(test::must(client->fetch({.url = server.url()})).body, "second");

  const Authority next("the next authority");
  server.set_certificate(next.server({"127.0.0.1"}));
  put("ca.crt", next.certificate());
  EXPECT_EQ(test::must(client->fetch({.url = server.url()})).body, "second");
  std::filesystem::remove(directory / "tls.key");
  EXPECT_THAT(client->fetch({.url = server.url()}).error().message, testing::HasSubstr("tls.key"));
}

}  // namespace
}  // namespace bpfnet::http
