#include "control/observe/policy_diff.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/fd.h"
#include "base/fd_io.h"
#include "control/compile/explain.h"
#include "control/observe/table.h"

namespace bpfnet::observe {
namespace {

using nlohmann::ordered_json;

/// What the agent takes in one request, with all quoting.
constexpr size_t kMaxBody = 1 << 20;
constexpr size_t kPeersShown = 6;

tl::unexpected<Error> too_large(const std::string& name) {
  return fail("{}: is larger than the {} KiB the agent takes; give the policies that change, or split it",
              name, kMaxBody >> 10);
}

Result<std::string> read_all(int fd, const std::string& name) {
  auto text = read_fd(fd, name, kMaxBody);
  if (!text && text.error().code == EFBIG) return too_large(name);
  return text;
}

Result<std::string> read_file(const std::string& file) {
  if (file == "-") return read_all(STDIN_FILENO, "stdin");
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "{}: open", file);
  return read_all(fd.get(), file);
}

const ordered_json& list_of(const ordered_json& object, const char* key) {
  static const ordered_json kNone = ordered_json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kNone;
}

std::string text_of(const ordered_json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::vector<std::string> texts_of(const ordered_json& object, const char* key) {
  std::vector<std::string> texts;
  for (const ordered_json& each : list_of(object, key))
    if (each.is_string()) texts.push_back(each.get<std::string>());
  return texts;
}

std::string lines(const std::vector<std::string>& texts, std::string_view indent) {
  std::string text;
  for (const std::string& each : texts) text += fmt::format("{}{}\n", indent, each);
  return text;
}

/// `default/client (10.0.1.5:4000)`; an address that has no name once.
std::string end_text(const ordered_json& flow, const std::string& end) {
  const std::string address = text_of(flow, (end + "_address").c_str());
  const auto port = static_cast<uint16_t>(flow.value(end + "_port", 0));
  const std::string name = text_of(flow, end.c_str());
  const std::string socket = socket_text(address, port);
  return name == address ? socket : fmt::format("{} ({})", name, socket);
}

std::string changes_text(const ordered_json& changes, std::string_view head) {
  if (changes.empty()) return "";
  Table table({"  POD", "DIRECTION", "PEERS", "PORTS", "WHY"});
  for (const ordered_json& each : changes)
    table.add({"  " + text_of(each, "pod"), text_of(each, "direction"),
               compile::enumerate(texts_of(each, "peers"), kPeersShown),
               fmt::format("{}", fmt::join(texts_of(each, "ports"), ", ")), text_of(each, "reason")});
  return fmt::format("\n{}\n{}", head, table.text());
}

}  // namespace

DiffView diff_view(const ordered_json& answer) {
  const ordered_json& breaks = list_of(answer, "breaks");
  const ordered_json& closes = list_of(answer, "closes");
  const ordered_json& opens = list_of(answer, "opens");
  DiffView result{{"", answer}, !breaks.empty()};
  std::string& text = result.view.text;
  text = lines(texts_of(answer, "applied"), "");
  text += lines(texts_of(answer, "notes"), "note: ");
  text += lines(texts_of(answer, "warnings"), "warning: ");
  text += fmt::format("\nof {} live connections, {} would break\n", text_of(answer, "flows"), breaks.size());
  for (const ordered_json& flow : breaks)
    text += fmt::format("  {} {} > {}\n    {} of {}: {}\n", text_of(flow, "protocol"),
                        end_text(flow, "source"), end_text(flow, "destination"), text_of(flow, "direction"),
                        text_of(flow, "pod"), text_of(flow, "reason"));
  text += changes_text(closes, "would be denied from then on:");
  text += changes_text(opens, "would be let through from then on:");
  if (closes.empty() && opens.empty()) text += "no verdict changes\n";
  text += "\nnothing was written\n";
  return result;
}

Result<DiffView> policy_diff(const std::string& socket, const DiffQuery& query) {
  auto text = read_file(query.file);
  if (!text) return pass(text);
  const std::string name = query.file == "-" ? "stdin" : query.file;
  const ordered_json body = {{"file", name}, {"manifests", std::move(*text)}, {"delete", query.remove}};
  const std::string request = body.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  if (request.size() > kMaxBody) return too_large(name);
  auto answer = tell_agent(socket, "/v1/policy/diff", request);
  if (!answer) return pass(answer);
  return diff_view(*answer);
}

}  // namespace bpfnet::observe
