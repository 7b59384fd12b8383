#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/kubernetes/access.h"
#include "control/sources/document.h"

namespace bpfnet::kubernetes {
namespace {

using sources::Value;

/// A kubeconfig as far as it was found right; the first mistake ends the reading.
class Kubeconfig {
 public:
  Kubeconfig(std::string path, const Value& root) : path_(std::move(path)), root_(root) {}

  Result<ClusterAccess> read() {
    const std::string current = text(&root_, "current-context");
    if (current.empty()) return fail("{}: current-context is missing, expected the name of a context", path_);
    const Value* context = named("contexts", "context", current);
    if (!context) return fail("{}: current-context \"{}\" is none of contexts", path_, current);
    const std::string cluster_name = text(context, "cluster");
    const Value* cluster = named("clusters", "cluster", cluster_name);
    if (!cluster)
      return fail("{}: context {}: cluster \"{}\" is none of clusters", path_, current, cluster_name);
    ClusterAccess access;
    access.origin = fmt::format("kubeconfig {}", path_);
    BPFNET_TRY(read_cluster(*cluster, cluster_name, access));
    const std::string user_name = text(context, "user");
    if (user_name.empty()) return access;
    const Value* user = named("users", "user", user_name);
    if (!user) return fail("{}: context {}: user \"{}\" is none of users", path_, current, user_name);
    BPFNET_TRY(read_user(*user, user_name, access));
    return access;
  }

 private:
  static std::string text(const Value* map, std::string_view key) {
    const Value* value = map ? map->find(key) : nullptr;
    return value ? value->text : std::string();
  }

  const Value* named(std::string_view list, std::string_view what, const std::string& name) const {
    const Value* all = root_.find(list);
    if (!all) return nullptr;
    for (const Value* each : all->items)
      if (text(each, "name") == name) return each->find(what);
    return nullptr;
  }

  [[nodiscard]] std::string resolved(const std::string& file) const {
    if (file.empty()) return {};
    return (std::filesystem::path(path_).parent_path() / file).lexically_normal().string();
  }

  /// `key` names a file, `key-data` is the text itself, which goes first, as kubectl has it.
  Status secret(const Value& map, const std::string& where, const std::string& key,
                http::Secret& into) const {
    if (const std::string data = text(&map, key + "-data"); !data.empty()) {
      auto decoded = decode_base64(data);
      if (!decoded) return fail("{}: {}: {}-data: {}", path_, where, key, decoded.error().message);
      into.text = std::move(*decoded);
      return ok();
    }
    into.file = resolved(text(&map, key));
    return ok();
  }

  Status read_cluster(const Value& cluster, const std::string& name, ClusterAccess& into) const {
    const std::string where = fmt::format("cluster {}", name);
    into.server = text(&cluster, "server");
    if (into.server.empty())
      return fail("{}: {}: server is missing, expected https://HOST:PORT", path_, where);
    into.access.server_name = text(&cluster, "tls-server-name");
    into.access.proxy = text(&cluster, "proxy-url");
    const std::string insecure = text(&cluster, "insecure-skip-tls-verify");
    if (!insecure.empty() && insecure != "true" && insecure != "false")
      return fail("{}: {}: insecure-skip-tls-verify: is {}, expected true or false", path_, where, insecure);
    into.access.insecure = insecure == "true";
    BPFNET_TRY(secret(cluster, where, "certificate-authority", into.access.ca));
    if (into.access.insecure && into.access.ca.given())
      return fail("{}: {}: certificate-authority and insecure-skip-tls-verify exclude each other", path_,
                  where);
    return ok();
  }

  Status read_user(const Value& user, const std::string& name, ClusterAccess& into) const {
    const std::string where = fmt::format("user {}", name);
    http::ServerAccess& access = into.access;
    BPFNET_TRY(secret(user, where, "client-certificate", access.certificate));
    BPFNET_TRY(secret(user, where, "client-key", access.key));
    if (access.certificate.given() != access.key.given())
      return fail("{}: {}: client-certificate and client-key go together, one of them is missing", path_,
                  where);
    const std::string token = text(&user, "token");
    const std::string username = text(&user, "username");
    if (const std::string file = resolved(text(&user, "tokenFile")); !file.empty()) {
      access.authorize = token_from(file);  // K14: goes before `token`
    } else if (!token.empty()) {
      access.authorize = [token]() -> Result<http::Authorization> {
        return http::Authorization(http::BearerToken{token});
      };
    } else if (!username.empty()) {
      access.authorize = [username, password = text(&user, "password")]() -> Result<http::Authorization> {
        return http::Authorization(http::BasicLogin{username, password});
      };
    }
    for (const char* plugin : {"exec", "auth-provider"}) {
      if (user.find(plugin) && !access.authorize && !access.certificate.given())
        return fail(
            "{}: {}: {}: is not supported, no program is run for a token; use token, tokenFile or "
            "client-certificate",
            path_, where, plugin);
    }
    return ok();
  }

  std::string path_;
  const Value& root_;
};

}  // namespace

Result<ClusterAccess> read_kubeconfig(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail("kubeconfig {}: cannot be read", path);
  std::stringstream stream;
  stream << file.rdbuf();
  const std::string text = std::move(stream).str();
  const sources::ParsedText parsed = sources::parse_yaml(text);
  if (parsed.error) return fail("kubeconfig {}:{}: {}", path, parsed.error->line, parsed.error->text);
  if (parsed.documents.empty() || parsed.documents.front().root->kind != Value::Kind::kMap)
    return fail("kubeconfig {}: is empty, expected clusters, users and contexts", path);
  return Kubeconfig(path, *parsed.documents.front().root).read();
}

}  // namespace bpfnet::kubernetes
