#include "control/agent/kube_proxy.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "control/agent/tool.h"

namespace bpfnet::agent {
namespace {

/// KUBE-* of others: kubelet's firewall, its canaries and hints; kube-router's network policy.
bool is_foreign(std::string_view chain) {
  constexpr std::string_view kChains[] = {"KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"};
  constexpr std::string_view kPrefixes[] = {"KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-"};
  return std::ranges::find(kChains, chain) != std::end(kChains) ||
         std::ranges::any_of(kPrefixes, [&](std::string_view prefix) { return chain.starts_with(prefix); });
}

bool is_kube_proxys(std::string_view chain) {
  return chain.starts_with("KUBE-") && !is_foreign(chain);
}

/// Where a rule leads (-j, -g); empty: nowhere. A comment in quotes may say anything.
std::string target_of(std::string_view rule) {
  std::string word;
  std::string before;
  bool quoted = false;
  for (size_t i = 0; i <= rule.size(); ++i) {
    const char c = i < rule.size() ? rule[i] : ' ';
    if (c == '\\' && quoted && i + 1 < rule.size()) {
      word += rule[++i];
    } else if (c == '"') {
      quoted = !quoted;
      word += c;  // a word in quotes is no option
    } else if (c == ' ' && !quoted) {
      if (before == "-j" || before == "-g") return word;
      before = std::exchange(word, "");
    } else {
      word += c;
    }
  }
  return "";
}

/// One table of iptables-save.
struct Table {
  std::string name;
  std::set<std::string> chains;  ///< to be removed
  std::string rules;             ///< of other chains, to be removed

  void read(const std::string& line) {
    const size_t end = line.find(' ', line.starts_with("-A ") ? 3 : 0);
    if (line.starts_with(":")) {
      const std::string chain = line.substr(1, end - 1);
      if (is_kube_proxys(chain)) chains.insert(chain);
    } else if (line.starts_with("-A ")) {
      if (!chains.contains(line.substr(3, end - 3)) && chains.contains(target_of(line)))
        rules += "-D" + line.substr(2) + "\n";
    }
  }

  /// A chain that is declared is emptied; in the order in which nothing refers to what goes.
  [[nodiscard]] std::string removal() const {
    if (chains.empty()) return "";
    std::string text = "*" + name + "\n";
    for (const std::string& chain : chains) text += ":" + chain + " - [0:0]\n";
    text += rules;
    for (const std::string& chain : chains) text += "-X " + chain + "\n";
    return text + "COMMIT\n";
  }
};

class Removal {
 public:
  Status run() {
    remove_nft_tables();
    for (const std::string family : {"iptables", "ip6tables"}) {
      if (has_legacy_tables(family)) remove_chains(family + "-legacy");
      remove_chains(family + "-nft");
    }
    if (errors_.empty()) return ok();
    std::string all;
    for (const std::string& error : errors_) all += (all.empty() ? "" : "; ") + error;
    return fail("cleanup of kube-proxy's rules: {}", all);
  }

 private:
  /// What the tool printed; nothing after an error, which is noted.
  std::optional<std::string> ask(const std::vector<std::string>& argv, const char* package,
                                 const std::string& input = "") {
    auto output = run_tool(argv, input);
    std::string said;
    for (const std::string& word : argv) said += (said.empty() ? "" : " ") + word;
    if (!output) {
      errors_.push_back(output.error().message);
    } else if (!*output) {
      errors_.push_back(fmt::format(
          "{}: not installed, so what it would show was not looked for (Debian: apt-get install {})",
          argv.front(), package));
    } else if ((*output)->status != 0) {
      std::string why = (*output)->err.empty() ? (*output)->out : (*output)->err;
      while (why.ends_with('\n')) why.pop_back();
      errors_.push_back(fmt::format("`{}` ended with {}: {}", said, (*output)->status, why));
    } else {
      return std::move((*output)->out);
    }
    return std::nullopt;
  }

  void remove_nft_tables() {
    const auto tables = ask({"nft", "list", "tables"}, "nftables");
    if (!tables) return;
    std::istringstream lines(*tables);
    for (std::string line; std::getline(lines, line);) {
      for (const std::string family : {"ip", "ip6"}) {
        if (line != "table " + family + " kube-proxy") continue;
        if (ask({"nft", "delete", "table", family, "kube-proxy"}, "nftables"))
          spdlog::info("nftables: table {} kube-proxy is removed", family);
      }
    }
  }

  /// Asking the legacy tool would make tables where there are none.
  static bool has_legacy_tables(const std::string& family) {
    std::ifstream names(family == "iptables" ? "/proc/thread-self/net/ip_tables_names"
                                             : "/proc/thread-self/net/ip6_tables_names");
    std::string name;
    return static_cast<bool>(names >> name);
  }

  void remove_chains(const std::string& tool) {
    const auto saved = ask({tool + "-save"}, "iptables");
    if (!saved) return;
    std::istringstream lines(*saved);
    for (std::string line; std::getline(lines, line);)  // `# Table `nat' is incompatible, use 'nft' tool.`
      if (line.starts_with("# ") && line.find("incompatible") != std::string::npos)
        errors_.push_back(fmt::format("{}-save says: {}", tool, line.substr(2)));
    const std::string removal = kube_proxy_removal(*saved);
    if (removal.empty()) return;
    if (ask({tool + "-restore", "--noflush", "--wait=10"}, "iptables", removal))
      spdlog::info("{}: chains KUBE-* and the rules that lead to them are removed", tool);
  }

  std::vector<std::string> errors_;
};

}  // namespace

std::string kube_proxy_removal(std::string_view saved) {
  std::istringstream lines{std::string(saved)};
  std::string all;
  Table table;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("*")) table = {.name = line.substr(1), .chains = {}, .rules = ""};
    table.read(line);
    if (line == "COMMIT") all += table.removal();
  }
  return all;
}

Status remove_kube_proxy_rules() {
  return Removal().run();
}

}  // namespace bpfnet::agent
