#include "loader/mounts.h"

#include <fstream>
#include <sstream>

namespace bpfnet::loader {

std::vector<Mount> read_mounts() {
  std::vector<Mount> mounts;
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string word;
    Mount mount;
    for (int i = 0; i < 5 && fields >> word; ++i) mount.point = word;
    while (fields >> word && word != "-") {
    }
    fields >> mount.type >> mount.source;
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

}  // namespace bpfnet::loader
