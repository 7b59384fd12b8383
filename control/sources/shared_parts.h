#pragma once

#include <set>

#include "control/model/objects.h"

namespace bpfnet::sources {

/// Keeps one copy of what many objects have alike: the labels and ports of the pods of a deployment, the name
/// of their node, the resource they were read from.
class SharedParts {
 public:
  void share(SharedText& text) { texts_.share(text); }
  void share(model::Pod& pod) {
    labels_.share(pod.labels);
    ports_.share(pod.ports);
    texts_.share(pod.node_name);
  }

 private:
  template <typename Part>
  class Pool {
   public:
    /// Makes `part` a copy of the one that is there already, if there is one.
    void share(Part& part) {
      if (part.empty()) return;
      const auto [known, is_new] = parts_.insert(part);
      if (!is_new) part = *known;
      if (parts_.size() < limit_) return;
      std::erase_if(parts_, [](const Part& each) { return each.unshared(); });
      limit_ = 2 * parts_.size() + kFirstLimit;
    }

   private:
    static constexpr size_t kFirstLimit = 64;
    std::set<Part> parts_;
    size_t limit_ = kFirstLimit;  ///< then it is looked for parts that nobody has any more
  };

  Pool<model::Labels> labels_;
  Pool<model::SharedList<model::ContainerPort>> ports_;
  Pool<SharedText> texts_;
};

}  // namespace bpfnet::sources
