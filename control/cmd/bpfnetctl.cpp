// Shows what the datapath of this node does: from its pinned maps, with names from the agent where one runs.
// Reads and writes the objects that the agent takes its state from.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>

#include "control/cmd/object_commands.h"
#include "control/observe/policy_diff.h"
#include "control/observe/policy_show.h"
#include "control/observe/policy_verdict.h"
#include "control/observe/views.h"

namespace {

using bpfnet::Result;
using bpfnet::observe::FlowFilterText;
using bpfnet::observe::Names;
using bpfnet::observe::View;

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

struct Options {
  std::string socket = "/run/bpfnet/bpfnet.sock";
  std::string bpffs = "/sys/fs/bpf/bpfnet";
  std::string output = "table";
  FlowFilterText filter;
  bool follow = false;
  std::string map;
  bool all = false;
  std::string pod;
  bpfnet::observe::VerdictQuery verdict;
  bpfnet::observe::DiffQuery diff;
  bpfnet::cmd::ObjectOptions objects;
};

std::atomic<bool> ended = false;

void print(const Options& options, const View& view) {
  if (options.output == "json") {
    // One event a line while following, for programs that read lines.
    const std::string text = view.json.dump(options.follow ? -1 : 2);
    std::fprintf(stdout, "%s\n", text.c_str());
  } else {
    std::fputs(view.text.c_str(), stdout);
  }
  std::fflush(stdout);
}

int complain(const bpfnet::Error& error, int status) {
  std::fprintf(stderr, "bpfnetctl: %s\n", error.message.c_str());
  if ((error.code == EPERM || error.code == EACCES) && ::geteuid() != 0)
    std::fputs("bpfnetctl: the maps can be read by root only; try `sudo bpfnetctl ...`\n", stderr);
  return status;
}

int show(const Options& options, const Result<View>& view) {
  if (!view) return complain(view.error(), kFailed);
  print(options, *view);
  return 0;
}

/// The agent's names; without an agent, none, and a word about it.
Names names_of(const Options& options) {
  Names names = Names::ask(options.socket);
  if (!names.problem().empty())
    std::fprintf(stderr, "bpfnetctl: %s; the maps are read directly, numbers stand for names\n",
                 names.problem().c_str());
  return names;
}

int follow(const Options& options, const bpfnet::maps::Maps& maps) {
  struct sigaction action {};
  action.sa_handler = [](int) { ended = true; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  (void)names_of(options);  // tells that there are none
  bpfnet::observe::FreshNames names(options.socket);
  const auto status = bpfnet::observe::follow_drops(
      maps, options.bpffs, names, [&](const View& view) { print(options, view); },
      [] { return !ended && std::ferror(stdout) == 0; });
  return status ? 0 : complain(status.error(), kFailed);
}

int list_flows(const Options& options, const bpfnet::maps::Maps& maps) {
  const Names names = names_of(options);
  const auto filter = bpfnet::observe::parse_filter(options.filter, maps, names);
  if (!filter) return complain(filter.error(), kWrongUsage);
  return show(options, bpfnet::observe::flows_view(maps, names, *filter));
}

int show_status(const Options& options, const bpfnet::maps::Maps& maps) {
  const auto agent = bpfnet::observe::AgentAnswers::ask(options.socket);
  if (!agent.status)
    std::fprintf(stderr, "bpfnetctl: %s; the maps are read directly\n", agent.status.error().message.c_str());
  return show(options, bpfnet::observe::status_view(maps, agent));
}

int show_policy(const Options& options, const bpfnet::maps::Maps& maps) {
  const auto view = bpfnet::observe::policy_show_view(maps, names_of(options), options.socket, options.pod);
  if (!view) return complain(view.error(), kWrongUsage);
  print(options, *view);
  return 0;
}

/// 0: allowed, 1: denied, 2: nobody knows.
int tell_verdict(const Options& options, const bpfnet::maps::Maps& maps) {
  const auto verdict = bpfnet::observe::policy_verdict(maps, names_of(options), options.verdict);
  if (!verdict) return complain(verdict.error(), kWrongUsage);
  print(options, verdict->view);
  return verdict->outcome == bpfnet::observe::Outcome::kDenied ? 1 : 0;
}

/// 0: no live connection would break, 1: some would, 2: it cannot be told.
int tell_diff(const Options& options) {
  const auto diff = bpfnet::observe::policy_diff(options.socket, options.diff);
  if (!diff) return complain(diff.error(), kWrongUsage);
  print(options, diff->view);
  return diff->breaks ? 1 : 0;
}

/// What a subcommand does: with the maps, or with the agent alone.
struct Command {
  int (*run)(const Options&, const bpfnet::maps::Maps&) = nullptr;
  int (*run_without_maps)(const Options&) = nullptr;
  int failed = kFailed;                           ///< exit status when there are no maps
  bpfnet::cmd::RunObjects run_objects = nullptr;  ///< with the objects that the agent reads
};
using NamedView = Result<View> (*)(const bpfnet::maps::Maps&, const Names&);

template <NamedView view>
int named(const Options& options, const bpfnet::maps::Maps& maps) {
  return show(options, view(maps, names_of(options)));
}

using Add = std::function<CLI::App*(CLI::App& parent, const char* name, const char* text, Command run)>;

void describe_policy(CLI::App& policy, Options& options, const Add& add) {
  add(policy, "list", "What each pod is under, and what that compiled to",
      {named<bpfnet::observe::policies_view>});
  add(policy, "show", "What applies to a pod, in the order of judgement, and what it compiled to",
      {show_policy, nullptr, kWrongUsage})
      ->add_option("POD", options.pod, "Pod of this node: NAMESPACE/NAME, index or address")
      ->required();
  CLI::App* verdict =
      add(policy, "verdict", "Whether a connection would be let through now, and why, from the maps",
          {tell_verdict, nullptr, kWrongUsage});
  verdict->footer(
      "Exit status: 0 allowed (or let through by audit mode), 1 denied, 2 not understood or not known.");
  verdict->add_option("SRC", options.verdict.source, "Pod (NAMESPACE/NAME or index), address, host or world")
      ->required();
  verdict
      ->add_option("DST", options.verdict.destination,
                   "The same; of a service's address every backend is judged")
      ->required();
  verdict->add_option("PORT/PROTO", options.verdict.port, "8080/tcp, 53/udp, 99/sctp, icmp or icmpv6")
      ->required();
  CLI::App* diff = add(policy, "diff", "What a file of policies would break and open; nothing is written",
                       {nullptr, tell_diff, kWrongUsage});
  diff->footer("Exit status: 0 no live connection would break, 1 some would, 2 it cannot be told.");
  diff->add_option("-f,--file", options.diff.file,
                   "Manifests of NetworkPolicies, ClusterNetworkPolicies, Pods and Namespaces; - for stdin")
      ->required();
  diff->add_flag("--delete", options.diff.remove, "As if the objects that the file names were deleted");
}

/// The command line: every subcommand sets `command` to what it does.
void describe(CLI::App& app, Options& options, Command& command) {
  namespace observe = bpfnet::observe;
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--socket", options.socket, "The agent's socket")->capture_default_str();
  app.add_option("--bpffs", options.bpffs, "Where the agent pins its maps (its --bpffs)")
      ->capture_default_str();
  app.add_option("-o,--output", options.output, "table, or json for programs")
      ->capture_default_str()
      ->check(CLI::IsMember({"table", "json"}));

  const Add add = [&](CLI::App& parent, const char* name, const char* text, Command run) {
    CLI::App* sub = parent.add_subcommand(name, text);
    sub->callback([&command, run] { command = run; });
    return sub;
  };
  const auto group = [&](const char* name, const char* text) {
    CLI::App* sub = app.add_subcommand(name, text);
    sub->require_subcommand(1);
    sub->fallthrough();
    return sub;
  };

  bpfnet::cmd::describe_objects(options.objects, [&](const char* name, const char* text, auto* run) {
    return add(app, name, text, {.run_objects = run});
  });
  add(app, "status", "The agent, the datapath, and packets by hook and verdict", {show_status});
  add(*group("endpoint", "Pods of this node"), "list", "Pods with addresses, policy and connections",
      {named<observe::endpoints_view>});
  add(*group("node", "The other nodes"), "list", "Nodes with addresses, pod ranges and tunnels",
      {named<observe::nodes_view>});
  add(*group("service", "Services"), "list", "Service addresses with their backends",
      {named<observe::services_view>});
  CLI::App* flows = add(*group("flow", "Connections"), "list",
                        "Live connections, one row for both directions", {list_flows});
  flows->add_option("--src", options.filter.source, "Client address or prefix");
  flows->add_option("--dst", options.filter.destination, "Destination or backend address or prefix");
  flows->add_option("--port", options.filter.port, "Destination or backend port");
  flows->add_option("--proto", options.filter.protocol, "tcp, udp, sctp, icmp, icmpv6 or a number");
  flows->add_option("--state", options.filter.state, "new, replied, established, closing or closed");
  flows->add_option("--endpoint", options.filter.endpoint,
                    "Pod at either end: NAMESPACE/NAME, index or address");
  describe_policy(*group("policy", "Network policy"), options, add);
  add(*group("identity", "Identities"), "list", "Who policies tell apart, with their addresses",
      {named<observe::identities_view>});
  add(app, "drops", "Dropped packets by hook and reason",
      {[](const Options& given, const bpfnet::maps::Maps& maps) {
        return given.follow ? follow(given, maps) : show(given, observe::drops_view(maps));
      }})
      ->add_flag("-f,--follow", options.follow,
                 "Show drops as they happen, until interrupted; one at a time may follow");
  CLI::App* map = group("map", "BPF maps");
  add(*map, "list", "All maps", {[](const Options& given, const bpfnet::maps::Maps& maps) {
    return show(given, observe::map_list_view(maps));
  }});
  CLI::App* dump = add(*map, "dump", "The entries of a map, decoded",
                       {[](const Options& given, const bpfnet::maps::Maps& maps) {
                         return show(given, observe::map_dump_view(maps, given.map, given.all));
                       }});
  dump->add_option("NAME", options.map, "As `bpfnetctl map list` shows it")->required();
  dump->add_flag("--all", options.all, "Unused array elements too");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Command command;
  CLI::App app("Shows what bpfnet does on this node, and keeps the objects it is told by.", "bpfnetctl");
  describe(app, options, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (command.run_objects)
    return command.run_objects(options.objects, options.socket, options.output == "json");
  if (command.run_without_maps) return command.run_without_maps(options);
  auto maps = bpfnet::maps::Maps::open_pinned(options.bpffs);
  if (!maps) return complain(maps.error(), command.failed);
  return command.run(options, *maps);
}
