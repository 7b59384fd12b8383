// Where the server is and as whom it is asked: kubeconfig, service account, explicit endpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "control/kubernetes/access.h"

namespace bpfnet::kubernetes {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class Access : public testing::Test {
 protected:
  Access() { fs::create_directories(directory_); }
  ~Access() override { fs::remove_all(directory_); }
  std::string put(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name) << text;
    return (directory_ / name).string();
  }
  /// A kubeconfig with one cluster and one user of these fields.
  std::string kubeconfig(const std::string& cluster, const std::string& user) {
    return put("config",
               "current-context: c\ncontexts:\n- name: c\n  context: {cluster: one, user: me}\n"
               "clusters:\n- name: other\n  cluster: {server: 'https://other'}\n- name: one\n  cluster: {" +
                   cluster + "}\nusers:\n- name: me\n  user: {" + user + "}\n");
  }
  std::string mistake(const std::string& cluster, const std::string& user) {
    const auto access = read_kubeconfig(kubeconfig(cluster, user));
    return access ? "" : access.error().message;
  }
  static std::string token_of(const ClusterAccess& access) {
    if (!access.access.authorize) return "nobody";
    const auto authorization = access.access.authorize();
    if (!authorization) return authorization.error().message;
    if (const auto* basic = std::get_if<http::BasicLogin>(&*authorization))
      return basic->user + ":" + basic->password;
    return std::get<http::BearerToken>(*authorization).token;
  }

  fs::path directory_ = fs::path(testing::TempDir()) / ("bpfnet-access-" + std::to_string(getpid()));
};

constexpr const char* kServer = "server: 'https://192.0.2.1:6443/'";

// K13
TEST_F(Access, KubeconfigNamesServerTrustAndUser) {
  put("ca.crt", "authority");
  const auto access = read_kubeconfig(kubeconfig(
      std::string(kServer) + ", certificate-authority: ca.crt, tls-server-name: api, proxy-url: 'http://p:1'",
      "client-certificate-data: Y2VydA==, client-key-data: a2V5, token: t"));
  ASSERT_TRUE(access) << access.error().message;
  EXPECT_EQ(access->access.ca.file, (directory_ / "ca.crt").string()) << "relative to the kubeconfig";
  EXPECT_EQ(access->access.server_name, "api");
  EXPECT_EQ(access->access.proxy, "http://p:1");
  EXPECT_EQ(access->access.certificate.text, "cert");
  EXPECT_EQ(access->access.key.text, "key");
  EXPECT_FALSE(access->access.insecure);
  EXPECT_EQ(token_of(*access), "t");
  const auto opened = open_access({.kubeconfig = (directory_ / "config").string()});
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->server, "https://192.0.2.1:6443");
}

// K13, K14
TEST_F(Access, KubeconfigUsers) {
  put("token", " from-file\n");
  const auto token = [&](const std::string& user) {
    return token_of(*read_kubeconfig(kubeconfig(kServer, user)));
  };
  EXPECT_EQ(token("tokenFile: token, token: other"), "from-file");
  EXPECT_EQ(token("username: u, password: p"), "u:p");
  EXPECT_EQ(token(""), "nobody");
  EXPECT_TRUE(read_kubeconfig(kubeconfig(std::string(kServer) + ", insecure-skip-tls-verify: true", ""))
                  ->access.insecure);
}

TEST_F(Access, KubeconfigMistakesAreNamed) {
  EXPECT_THAT(mistake("", ""), HasSubstr("cluster one: server is missing"));
  EXPECT_THAT(mistake(kServer, "client-key: k"), HasSubstr("go together"));
  EXPECT_THAT(mistake(kServer, "exec: {command: aws}"), HasSubstr("user me: exec: is not supported"));
  EXPECT_THAT(mistake(std::string(kServer) + ", certificate-authority-data: '%'", ""),
              HasSubstr("certificate-authority-data: is no base64"));
  EXPECT_THAT(mistake(std::string(kServer) + ", insecure-skip-tls-verify: maybe", ""),
              HasSubstr("expected true or false"));
  EXPECT_EQ(mistake(kServer, "exec: {command: aws}, token: t"), "");
  EXPECT_THAT(read_kubeconfig(put("bad", "current-context: x\n")).error().message,
              HasSubstr("current-context \"x\" is none of contexts"));
  EXPECT_THAT(read_kubeconfig(put("bad", "a: [\n")).error().message, HasSubstr("bad:"));
  EXPECT_THAT(read_kubeconfig(put("bad", "")).error().message, HasSubstr("is empty"));
  EXPECT_THAT(read_kubeconfig("/nowhere").error().message, HasSubstr("/nowhere"));
}

// K9
TEST_F(Access, ServiceAccountOfThePod) {
  put("token", "secret\n");
  put("ca.crt", "authority\n");
  const auto environment = [](const char* name) -> const char* {
    return std::string_view(name) == "KUBERNETES_SERVICE_HOST" ? "fd00:10:96::1" : "443";
  };
  const auto access = open_access({.service_account = directory_, .environment = environment});
  ASSERT_TRUE(access);
  EXPECT_EQ(access->server, "https://[fd00:10:96::1]:443");
  EXPECT_EQ(access->access.ca.file, (directory_ / "ca.crt").string());
  EXPECT_EQ(token_of(*access), "secret");
  const auto outside = open_access(
      {.service_account = directory_, .environment = [](const char*) -> const char* { return nullptr; }});
  ASSERT_FALSE(outside);
  EXPECT_THAT(outside.error().message, HasSubstr("--kubeconfig or --api-server"));
}

// K10
TEST_F(Access, ExplicitEndpointCountsInsteadOfTheServiceAddress) {
  put("token", "secret\n");
  const auto access = open_access({.api_server = "https://192.0.2.9:6443", .service_account = directory_});
  ASSERT_TRUE(access);
  EXPECT_EQ(access->server, "https://192.0.2.9:6443");
  EXPECT_EQ(token_of(*access), "secret");
  const auto kube =
      open_access({.kubeconfig = kubeconfig(kServer, "token: t"), .api_server = "https://192.0.2.9:6443/"});
  ASSERT_TRUE(kube);
  EXPECT_EQ(kube->server, "https://192.0.2.9:6443");
  EXPECT_EQ(token_of(*kube), "t");
  const auto bare = open_access({.api_server = "http://127.0.0.1:1", .service_account = "/nowhere"});
  ASSERT_TRUE(bare);
  EXPECT_EQ(token_of(*bare), "nobody");
  EXPECT_THAT(open_access({.api_server = "192.0.2.9:6443"}).error().message,
              HasSubstr("--api-server: \"192.0.2.9:6443\" is no URL"));
}

// K11
TEST_F(Access, TokenIsReadAgainTrimmedAndNeverEmpty) {
  const auto token = token_from(put("token", "  one\n"));
  EXPECT_EQ(std::get<http::BearerToken>(*token()).token, "one");
  put("token", "two");
  EXPECT_EQ(std::get<http::BearerToken>(*token()).token, "two");
  put("token", "\n");
  EXPECT_THAT(token().error().message, HasSubstr("is empty"));
}

TEST(Base64, Decodes) {
  EXPECT_EQ(*decode_base64(""), "");
  EXPECT_EQ(*decode_base64("YQ=="), "a");
  EXPECT_EQ(*decode_base64("YWI="), "ab");
  EXPECT_EQ(*decode_base64("YW\nJj"), "abc");
  EXPECT_EQ(*decode_base64("+/8="), "\xfb\xff");
  for (const auto* bad : {"Y", "Y*==", "YQ==YQ==", "===="}) EXPECT_FALSE(decode_base64(bad)) << bad;
}

}  // namespace
}  // namespace bpfnet::kubernetes
