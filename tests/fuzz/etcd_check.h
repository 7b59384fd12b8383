#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/base64.h"
#include "control/etcd/keys.h"
#include "control/etcd/values.h"
#include "control/etcd/wire.h"

namespace bpfnet::etcd {

inline void require(bool holds) {
  if (!holds) std::abort();
}

inline std::vector<std::string> frames_of(std::string_view stream, size_t piece) {
  FrameSplitter splitter;
  std::vector<std::string> frames;
  for (size_t at = 0; at < stream.size(); at += piece)
    splitter.feed(stream.substr(at, piece), [&](std::string_view line) {
      frames.emplace_back(line);
      return true;
    });
  return frames;
}

inline void check_event(const Event& event) {
  require(!event.at.key.empty());
  const auto name = parse_key("/bpfnet/", event.at.key);
  if (!name) return;
  require(key_of("/bpfnet/", *name) == event.at.key);
  const DecodedValue value = decode_value(*name, event.at.value);
  require(value.object.kind == name->kind && value.object.name == name->name);
  // It is used, or somebody hears why not.
  require(value.left_out || value.object.object.has_value() || !value.object.problems.empty());
  require(!value.unreadable || !value.object.object.has_value());
}

/// What a gateway, or whoever stands in its place, may send: a stream of frames, and each of them as any
/// answer.
inline void check_etcd(std::string_view bytes) {
  const auto frames = frames_of(bytes, bytes.size() + 1);
  require(frames == frames_of(bytes, 1) && frames == frames_of(bytes, 7));
  for (const std::string& frame : frames) {
    if (const auto read = parse_watch_frame(frame))
      for (const Event& event : read->events) check_event(event);
    (void)parse_range(frame);
    (void)parse_txn(frame);
    if (const auto token = parse_authenticate(frame)) require(token->find('\n') == std::string::npos);
    if (const auto error = parse_error(frame))
      (void)(is_compacted(*error) || wants_token(*error) || is_unavailable(*error));
  }
  require(from_base64(to_base64(bytes)) == bytes);
  if (const auto decoded = from_base64(bytes)) require(decoded->size() <= bytes.size());
}

}  // namespace bpfnet::etcd
