#include "tests/e2e/churn_caller.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e::churn {
namespace {

constexpr size_t kKeptConnections = 5;
constexpr size_t kKeptFlows = 4;
/// Every UDP attempt has a port of its own: a flow that was is met by no other.
constexpr uint16_t kFirstPort = 34000;
/// Somebody's address, but not his port.
constexpr uint16_t kUnservedPort = 99;

/// "Seconds at most" (S45).
constexpr std::chrono::seconds kSeconds{2};

const std::string kHello = "hello";

/// S42, and what the client's address depends on.
std::string affinity_key(const std::string& owner, const Question& question) {
  return fmt::format("{} {} {} {} {}", owner, question.protocol, static_cast<int>(question.family()),
                     question.at, question.to.address.is_loopback());
}

}  // namespace

void Tally::fail(const std::string& text) {
  const std::lock_guard lock(mutex_);
  failed_ = true;
  failures_.push_back(text);
}

std::vector<std::string> Tally::failures() const {
  const std::lock_guard lock(mutex_);
  return failures_;
}

Caller::Caller(const Client& client, const Ground& ground, const History& history, Tally& tally,
               uint64_t seed)
    : client_(client),
      ground_(ground),
      history_(history),
      tally_(tally),
      random_(seed),
      next_port_(kFirstPort),
      thread_([this] { run(); }) {}

Caller::~Caller() {
  stop();
  thread_.join();
}

void Caller::run() {
  while (!stop_ && !tally_.failed()) {
    const size_t what = below(10);
    if (what == 0 && !kept_.empty()) {
      echo_kept();
    } else if (what < 3 && !flows_.empty()) {
      use_flow();
    } else {
      attempt();
    }
  }
}

std::optional<Address> Caller::choose_address(const ServiceManifest& service, Family family,
                                              Question& question) {
  const auto one_of = [&](const std::vector<Address>& addresses) -> std::optional<Address> {
    const auto found = std::ranges::find(addresses, family, &Address::family);
    return found == addresses.end() ? std::nullopt : std::optional(*found);
  };
  question.at = client_.node;
  switch (below(8)) {
    case 0:
      return one_of(service.load_balancer_ips);
    case 1:
      return one_of(service.external_ips);
    case 2:
    case 3: {
      question.to.port = service.ports.front().node_port;
      if (question.to.port == 0) return std::nullopt;
      if (client_.role == Role::kHost && chance(30)) return pick(family, "127.0.0.1", "::1");
      question.at = below(ground_.nodes.size());
      return ground_.node_ip(question.at, family);
    }
    default:
      return one_of(service.cluster_ips);
  }
}

/// Mostly the Service that changed last, as it is or as it was.
std::optional<Question> Caller::choose() {
  const VersionPtr latest = history_.latest();
  const VersionPtr version = chance(80) || latest->number == 0 ? latest : history_.at(latest->number - 1);
  const auto& services = version->world.services;
  if (services.empty()) return std::nullopt;
  auto service = services.find(latest->subject);
  if (service == services.end() || chance(40))
    service = std::next(services.begin(), static_cast<ptrdiff_t>(below(services.size())));
  Question question{
      .client = &client_, .protocol = kProtocols.at(below(kProtocols.size())), .to = {}, .at = 0};
  const auto& ports = service->second.ports;
  question.to.port = chance(95) ? ports.at(below(ports.size())).port : kUnservedPort;
  const auto address = choose_address(service->second, kFamilies.at(below(kFamilies.size())), question);
  if (!address) return std::nullopt;
  question.to.address = *address;
  const Verdict expected = specified(latest->world, ground_, question);
  if (expected.unspecified) return std::nullopt;
  // Silence takes long to hear.
  if (expected.silent && chance(40)) return std::nullopt;
  return question;
}

milliseconds Caller::patience(const Question& question) const {
  const auto now = Clock::now();
  const Versions versions = history_.in_force(question.at, now, now);
  const bool may_be_silent = std::ranges::any_of(versions, [&](const VersionPtr& each) {
    const Verdict verdict = specified(each->world, ground_, question);
    return verdict.silent || verdict.unspecified;
  });
  return may_be_silent ? kSilence : kPatience;
}

Caller::Outcome Caller::connect(const Question& question, milliseconds timeout, std::optional<TcpClient>& tcp,
                                std::optional<UdpClient>& udp) {
  Outcome outcome{.begin = Clock::now(), .end = {}, .code = 0, .seen = {}, .text = {}};
  const auto note = [&](const auto& result) {
    if (!result) {
      outcome.code = result.error().code;
      outcome.text = result.error().message;
    }
    outcome.end = Clock::now();
    return static_cast<bool>(result);
  };
  if (question.protocol == "tcp") {
    auto made = TcpClient::connect(*client_.netns, question.to, {.timeout = timeout});
    if (!note(made)) return outcome;
    tcp = std::move(*made);
    outcome.seen = tcp->seen();
    return outcome;
  }
  auto made = UdpClient::open(*client_.netns, question.to,
                              {.source_port = next_port_++, .timeout = timeout, .connect = chance(50)});
  if (!note(made)) return outcome;
  udp = std::move(*made);
  auto seen = udp->request(kHello);
  if (note(seen)) outcome.seen = *seen;
  return outcome;
}

void Caller::attempt() {
  const auto question = choose();
  if (!question) return std::this_thread::yield();
  std::optional<TcpClient> tcp;
  std::optional<UdpClient> udp;
  const Outcome outcome = connect(*question, patience(*question), tcp, udp);
  const Versions versions = window(*question, outcome);
  if (!judge(*question, outcome, versions)) {
    return report("no state explains this", *question, outcome, versions);
  }
  count(outcome);
  if (outcome.code == 0 && chance(10))
    keep(*question, std::move(tcp), std::move(udp), outcome.seen.server, versions);
}

void Caller::count(const Outcome& outcome) {
  if (outcome.code == 0) tally_.answered++;
  if (outcome.code == ECONNREFUSED) tally_.refused++;
  if (outcome.code == ETIMEDOUT) tally_.silent++;
}

void Caller::keep(const Question& question, std::optional<TcpClient> tcp, std::optional<UdpClient> udp,
                  const std::string& server, const Versions& versions) {
  if (tcp) {
    tcp->timeout(kPatience);
    kept_.push_back({question, std::move(*tcp)});
    if (kept_.size() > kKeptConnections) kept_.pop_front();
    return;
  }
  Flow flow{.question = question, .socket = std::move(*udp), .server = {}};
  if (!settle(flow, server, versions)) return;
  flows_.push_back(std::move(flow));
  if (flows_.size() > kKeptFlows) flows_.pop_front();
}

bool Caller::settle(Flow& flow, const std::string& server, const Versions& versions) {
  flow.since = versions.front()->number;
  if (flow.server == server) return true;
  flow.server = server;
  flow.chosen = flow.since;
  flow.owner = specified(versions.front()->world, ground_, flow.question);
  return std::ranges::all_of(versions, [&](const VersionPtr& each) {
    return specified(each->world, ground_, flow.question).owner == flow.owner.owner;
  });
}

Versions Caller::window(const Question& question, const Outcome& outcome) const {
  // What was dropped was dropped when it was sent, not while its sender waited.
  const auto end = outcome.code == ETIMEDOUT ? std::min(outcome.end, outcome.begin + kSilence) : outcome.end;
  return history_.in_force(question.at, outcome.begin, end);
}

bool Caller::explains(const Version& version, const Question& question, const Outcome& outcome) const {
  const Verdict verdict = specified(version.world, ground_, question);
  if (verdict.unspecified) return true;
  switch (outcome.code) {
    case 0:
      return verdict.servers.contains(outcome.seen.server) &&
             outcome.seen.peer.address == specified_source(ground_, question, outcome.seen.server);
    case ECONNREFUSED:
      return verdict.refused;
    case ETIMEDOUT:
      return verdict.silent;
    default:
      return false;
  }
}

bool Caller::judge(const Question& question, const Outcome& outcome, const Versions& versions) {
  const bool explained = std::ranges::any_of(
      versions, [&](const VersionPtr& each) { return explains(*each, question, outcome); });
  return explained && (outcome.code != 0 || judge_affinity(question, outcome, versions));
}

/// S42-S44. A record binds while in all states since it was made the Service's port had affinity and the
/// server was ready; what else happened to it may or may not have dropped the record.
bool Caller::judge_affinity(const Question& question, const Outcome& outcome, const Versions& versions) {
  const Verdict now = specified(versions.back()->world, ground_, question);
  const auto key = [&](const std::string& owner) { return affinity_key(owner, question); };
  const bool sticky = std::ranges::all_of(versions, [&](const VersionPtr& each) {
    const Verdict verdict = specified(each->world, ground_, question);
    return verdict.affinity && verdict.owner == now.owner;
  });
  if (!sticky) {
    for (const VersionPtr& each : versions)
      bound_.erase(key(specified(each->world, ground_, question).owner));
    return true;
  }
  const auto record = bound_.find(key(now.owner));
  bool binds = record != bound_.end();
  for (size_t i = binds ? record->second.since : 0; binds && i <= versions.back()->number; i++) {
    const Verdict verdict = specified(history_.at(i)->world, ground_, question);
    binds = verdict.affinity && verdict.owner == now.owner && verdict.ready.contains(record->second.server);
  }
  binds = binds && std::ranges::all_of(versions, [&](const VersionPtr& each) {
            return specified(each->world, ground_, question).servers.contains(record->second.server);
          });
  if (binds && record->second.server != outcome.seen.server) return false;
  if (binds) tally_.bound++;
  bound_[key(now.owner)] = {outcome.seen.server, versions.front()->number};
  return true;
}

/// S33: whatever has become of the Service.
void Caller::echo_kept() {
  Kept& kept = kept_[below(kept_.size())];
  Outcome outcome{.begin = Clock::now(), .end = {}, .code = 0, .seen = kept.connection.seen(), .text = {}};
  const Status echoed = kept.connection.echo("still there?");
  outcome.end = Clock::now();
  if (!echoed) {
    outcome.code = echoed.error().code;
    outcome.text = echoed.error().message;
    return report("an established connection was cut", kept.question, outcome,
                  history_.in_force(kept.question.at, outcome.begin, outcome.end));
  }
  tally_.echoes++;
}

void Caller::use_flow() {
  const auto which = flows_.begin() + static_cast<ptrdiff_t>(below(flows_.size()));
  Flow& flow = *which;
  Outcome outcome{.begin = Clock::now(), .end = {}, .code = 0, .seen = {}, .text = {}};
  const auto seen = flow.socket.request(kHello);
  outcome.end = Clock::now();
  if (seen) {
    outcome.seen = *seen;
  } else {
    outcome.code = seen.error().code;
    outcome.text = seen.error().message;
  }
  const Versions versions = window(flow.question, outcome);
  if (!judge_flow(flow, outcome, versions)) {
    return report(fmt::format("a UDP flow that came to {} in #{}, and had its last answer in #{}",
                              flow.server, flow.chosen, flow.since),
                  flow.question, outcome, versions);
  }
  if (outcome.code != 0) {
    flows_.erase(which);
    return;
  }
  tally_.datagrams++;
  if (flow.server != outcome.seen.server) tally_.moved++;
  if (!settle(flow, outcome.seen.server, versions)) flows_.erase(which);
}

/// S45, S46: it moves when its server serves the address no more and another one does; at once within one
/// Service. Where the address has come to another one, or to the same one made anew, it moves within seconds
/// if it must, and may if it need not. Where it moves to is a new connection's matter.
bool Caller::judge_flow(Flow& flow, const Outcome& outcome, const Versions& versions) {
  const auto right = [&](const Version& version) { return specified(version.world, ground_, flow.question); };
  const auto is_stale = [&](const VersionPtr& version) {
    const Verdict verdict = right(*version);
    return !verdict.serving.empty() && !verdict.serving.contains(flow.server);
  };
  const size_t last = versions.back()->number;
  bool same_owner = true;
  for (size_t i = flow.chosen; i <= last; i++) same_owner &= right(*history_.at(i)).owner == flow.owner.owner;
  if (outcome.code == 0 && outcome.seen.server == flow.server) {
    const auto from = same_owner ? outcome.begin : outcome.begin - kSeconds;
    return !std::ranges::all_of(history_.in_force(flow.question.at, from, outcome.end), is_stale);
  }
  bool may_move = false;
  for (size_t i = flow.since; i <= last; i++) {
    const VersionPtr version = history_.at(i);
    const bool owned = !right(*version).owner.empty();
    // Of nobody's address any more: left alone, but refused when its own Service leaves its server.
    const bool left = !specified_serving(version->world, ground_, flow.owner.service, flow.owner.port,
                                         flow.question.family())
                           .contains(flow.server);
    may_move |= is_stale(version) || (owned ? !same_owner : left);
  }
  return may_move && judge(flow.question, outcome, versions);
}

void Caller::report(const std::string& problem, const Question& question, const Outcome& outcome,
                    const Versions& versions) {
  std::string text = fmt::format("{}: {}\n  begun at {} ms, ended at {} ms: ", question.to_string(), problem,
                                 History::milliseconds_since(history_.start(), outcome.begin),
                                 History::milliseconds_since(history_.start(), outcome.end));
  text += outcome.code == 0
              ? fmt::format("{} answered, which saw {}\n", outcome.seen.server, outcome.seen.peer.to_string())
              : outcome.text + "\n";
  for (const VersionPtr& each : versions) {
    const Verdict verdict = specified(each->world, ground_, question);
    text += fmt::format("  in #{} right is {}\n", each->number, verdict.to_string());
    for (const auto& server : verdict.servers) {
      text +=
          fmt::format("    {} to see {}\n", server, specified_source(ground_, question, server).to_string());
    }
    if (const auto record = bound_.find(affinity_key(verdict.owner, question)); record != bound_.end())
      text +=
          fmt::format("    {} is bound to {} since #{}:\n{}", record->first, record->second.server,
                      record->second.since, history_.of(verdict.service, record->second.since, each->number));
  }
  text += "changes, and when nodes showed them (ms):\n" +
          history_.around(versions.front()->number, versions.back()->number);
  for (const VersionPtr& each : {versions.front(), versions.back()}) {
    for (const auto& [name, service] : each->world.services) {
      text += fmt::format("--- #{} {}:\n{}{}", each->number, name, service_text(each->world, name),
                          slices_text(each->world, name));
    }
  }
  tally_.fail(text);
}

}  // namespace bpfnet::e2e::churn
