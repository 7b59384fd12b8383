#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "control/kubernetes/json_cutter.h"
#include "control/kubernetes/object_reader.h"

namespace bpfnet::kubernetes {

/// Aborts unless `holds`, in every build: the fuzzer must see it.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// What a cutter makes of `text` that comes in pieces of `size`; the last entry says whether it was refused.
template <typename Cutter>
std::vector<std::string> pieces_of(std::string_view text, size_t size) {
  Cutter cutter;
  std::vector<std::string> pieces;
  bool fed = true;
  for (; fed && !text.empty(); text.remove_prefix(std::min(size, text.size())))
    fed = cutter
              .feed(text.substr(0, size),
                    [&](std::string_view piece) { return pieces.emplace_back(piece), true; })
              .has_value();
  pieces.emplace_back(fed ? "" : "refused");
  return pieces;
}

/// What must hold for whatever a server sends as the body of a watch or a list.
inline void check_watch(std::string_view text) {
  const auto frames = pieces_of<FrameCutter>(text, SIZE_MAX);
  for (const size_t size : {size_t{1}, size_t{3}, size_t{64}})
    require(pieces_of<FrameCutter>(text, size) == frames);
  const auto items = pieces_of<ListCutter>(text, SIZE_MAX);
  require(pieces_of<ListCutter>(text, 1) == items);

  for (const Resource& resource : resources()) {
    ObjectReader reader(resource, "node-a");
    for (const std::string& frame : frames) {
      const auto event = reader.read_event(frame);
      if (!event) {
        require(!event.error().message.empty());
        (void)ObjectReader::salvage_event(frame, event.error().message);
      }
      if (!event || event->type == WatchEvent::Type::kError) continue;
      for (const sources::Decoded& each : event->object.decoded.objects) {
        require(each.kind == resource.kind);
        require(each.object.has_value() || !each.problems.empty());
      }
    }
    for (const std::string& item : items) {
      const auto object = reader.read(item);
      if (object) require(!object->name.name.empty());
      if (!object) require(!ObjectReader::salvage(item, object.error().message).decoded.problems.empty());
    }
    (void)reader.read_list_end(text);
  }
  (void)read_status(text);
}

}  // namespace bpfnet::kubernetes
