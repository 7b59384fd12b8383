#include "control/kubernetes/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "control/kubernetes/connections.h"
#include "control/kubernetes/delivery.h"
#include "control/sources/catalog.h"

namespace bpfnet::kubernetes {
namespace {

using sources::Kind;
using std::chrono::milliseconds;

/// What one call of process() takes: a few milliseconds of the loop's time.
constexpr size_t kDeliveriesAtOnce = 256;
/// Where objects come from, in complaints about them.
constexpr const char* kOrigin = "kubernetes";

}  // namespace

class KubernetesSource::Impl {
 public:
  Impl(Options options, std::unique_ptr<DeliveryQueue> queue)
      : options_(std::move(options)), queue_(std::move(queue)) {
    for (const Resource& resource : resources()) kinds_[resource.kind].status.kind = resource.plural;
  }

  ~Impl() {
    queue_->close();  // or the thread might wait for room
    client_.reset();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Status start() {
    auto client = http::Client::start("kubernetes", options_.cluster.access);
    if (!client) return pass(client);
    client_ = std::move(*client);
    connections_ = std::make_unique<Connections>(*client_, *queue_, options_);
    client_->post([this] { connections_->start(); });
    return ok();
  }

  bool process() {
    bool changed = false;
    for (Delivery& delivery : queue_->take(kDeliveriesAtOnce)) changed |= take(delivery);
    for (auto& [kind, status] : queue_->statuses()) {
      sources::KindStatus& known = kinds_[kind].status;
      changed |= known.state != status.state || known.current != status.current;
      known = std::move(status);
    }
    if (changed) catalog_.settle();
    return changed;
  }

  [[nodiscard]] bool synced() const {
    return std::ranges::all_of(kinds_, [](const auto& kind) { return kind.second.synced; });
  }

  [[nodiscard]] std::vector<sources::Problem> problems() const {
    std::vector<sources::Problem> result;
    constexpr std::string_view kWaiting = "waiting: ";
    bool reached = true;
    for (const auto& [kind, each] : kinds_) {
      std::string_view why = each.status.state;
      if (!why.starts_with(kWaiting)) continue;
      why.remove_prefix(kWaiting.size());
      if (why.starts_with(kNotReached)) {
        reached = false;
      } else {
        result.push_back(trouble(each.status.kind, std::string(why)));
      }
    }
    // One trouble of all kinds, in words that stay the same while it lasts: it is logged once.
    if (!reached) result.push_back(trouble("", "is not reached; the status says why, kind by kind"));
    for (const auto& [key, unnamed] : unnamed_) result.insert(result.end(), unnamed.begin(), unnamed.end());
    catalog_.collect_problems(result);
    return result;
  }

  [[nodiscard]] std::vector<sources::KindStatus> kinds() const {
    std::vector<sources::KindStatus> result;
    for (const auto& [kind, each] : kinds_) {
      result.push_back(each.status);
      result.back().objects = each.objects.size();
      result.back().synced = each.synced;
      result.back().version = each.version;
    }
    return result;
  }

  sources::Catalog& catalog() { return catalog_; }
  [[nodiscard]] const sources::Catalog& catalog() const { return catalog_; }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] int fd() const { return queue_->fd(); }
  /// Does `work` with the connections, on their thread.
  template <typename Work>
  void on_thread(Work work) {
    client_->post([this, work = std::move(work)] { work(*connections_); });
  }

 private:
  struct KindState {
    sources::KindStatus status;
    bool synced = false;
    std::string version;
    std::unordered_map<model::ObjectName, sources::Candidate*> objects;
  };

  [[nodiscard]] sources::Problem trouble(std::string who, std::string why) const {
    return {{options_.cluster.server, 0}, "", std::move(who), std::move(why), sources::Effect::kNotRead};
  }

  bool take(Delivery& delivery) {
    KindState& kind = kinds_[delivery.kind];
    if (!delivery.version.empty()) kind.version = delivery.version;
    switch (delivery.what) {
      case Delivery::What::kSynced:
        return !std::exchange(kind.synced, true);
      case Delivery::What::kVersion:
        return false;
      case Delivery::What::kGone:
        return forget(kind, delivery);
      case Delivery::What::kObject:
        store(kind, delivery);
        return true;
    }
    return false;
  }

  static std::pair<Kind, model::ObjectName> unnamed_key(const Delivery& delivery) {
    return {delivery.kind, delivery.name};
  }

  bool forget(KindState& kind, const Delivery& delivery) {
    const bool complained = unnamed_.erase(unnamed_key(delivery)) != 0;
    const auto found = kind.objects.find(delivery.name);
    if (found == kind.objects.end()) return complained;
    catalog_.remove(found->second);
    kind.objects.erase(found);
    return true;
  }

  void store(KindState& kind, Delivery& delivery) {
    unnamed_.erase(unnamed_key(delivery));
    if (delivery.decoded.objects.empty()) {  // not even its metadata is readable: its last good version stays
      std::vector<sources::Problem>& told = unnamed_[unnamed_key(delivery)];
      told = std::move(delivery.decoded.problems);
      for (sources::Problem& problem : told) {
        problem.origin.source = kOrigin;
        problem.object =
            fmt::format("{} {}", sources::to_string(delivery.kind),
                        delivery.name.name.empty() ? "without a name" : delivery.name.to_string());
      }
      return;
    }
    sources::Decoded& decoded = delivery.decoded.objects.front();
    sources::Candidate*& candidate = kind.objects[delivery.name];
    if (candidate) {
      catalog_.update(candidate, 1, std::move(decoded));
    } else {
      candidate = catalog_.add(kOrigin, 1, std::move(decoded));
    }
  }

  Options options_;
  std::unique_ptr<DeliveryQueue> queue_;
  std::unique_ptr<Connections> connections_;  ///< outlives the client, whose thread uses it
  std::unique_ptr<http::Client> client_;
  sources::Catalog catalog_;
  std::map<Kind, KindState> kinds_;
  std::map<std::pair<Kind, model::ObjectName>, std::vector<sources::Problem>> unnamed_;
};

KubernetesSource::KubernetesSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KubernetesSource::~KubernetesSource() = default;

Result<std::unique_ptr<KubernetesSource>> KubernetesSource::start(Options options) {
  auto queue = DeliveryQueue::make();
  if (!queue) return pass(queue);
  auto impl = std::make_unique<Impl>(std::move(options), std::move(*queue));
  BPFNET_TRY(impl->start());
  return std::unique_ptr<KubernetesSource>(new KubernetesSource(std::move(impl)));
}

std::string KubernetesSource::describe() const {
  return fmt::format("API server {} ({})", impl_->options().cluster.server, impl_->options().cluster.origin);
}

int KubernetesSource::fd() const {
  return impl_->fd();
}

bool KubernetesSource::process() {
  return impl_->process();
}

bool KubernetesSource::synced() const {
  return impl_->synced();
}

const model::ClusterState& KubernetesSource::state() const {
  return impl_->catalog().state();
}

uint64_t KubernetesSource::generation() const {
  return impl_->catalog().generation();
}

sources::Changes KubernetesSource::take_changes() {
  return impl_->catalog().take_changes();
}

std::vector<sources::Problem> KubernetesSource::problems() const {
  return impl_->problems();
}

std::vector<sources::KindStatus> KubernetesSource::kinds() const {
  return impl_->kinds();
}

void KubernetesSource::notify(const sources::Notice& notice) {
  impl_->on_thread([notice](Connections& connections) { connections.events().write(notice); });
}

void KubernetesSource::network_ready() {
  impl_->on_thread([](Connections& connections) { connections.condition().network_ready(); });
}

}  // namespace bpfnet::kubernetes
