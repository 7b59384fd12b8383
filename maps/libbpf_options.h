#pragma once

namespace bpfnet::maps {

/// An options record of libbpf, all zero but its size: what LIBBPF_OPTS makes, in standard C++.
template <typename Options>
Options libbpf_options() {
  Options options{};
  options.sz = sizeof(options);
  return options;
}

}  // namespace bpfnet::maps
