#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "control/sources/files.h"

namespace bpfnet::sources {

/// A directory of manifests that goes when the test ends.
class ManifestDirectory {
 public:
  ManifestDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "bpfnet-sources-XXXXXX").string();
    root_ = mkdtemp(name.data());
    path_ = root_ / "manifests";
    std::filesystem::create_directory(path_);
  }
  ~ManifestDirectory() { std::filesystem::remove_all(root_); }
  ManifestDirectory(const ManifestDirectory&) = delete;
  ManifestDirectory& operator=(const ManifestDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const std::filesystem::path& root() const { return root_; }

  void write(const std::string& name, std::string_view text) const { std::ofstream(path_ / name) << text; }
  void remove(const std::string& name) const { std::filesystem::remove(path_ / name); }

 private:
  std::filesystem::path root_;
  std::filesystem::path path_;
};

inline FileSource open_source(const ManifestDirectory& directory) {
  auto source = FileSource::open(directory.path());
  EXPECT_TRUE(source) << source.error().message;
  return std::move(*source);
}

/// Processes events until `done`; false after ten seconds without.
template <typename Done>
bool wait_for(FileSource& source, Done done) {
  while (!done()) {
    if (!source.poll(std::chrono::seconds(10))) return done();
  }
  return true;
}

/// The problems as a user sees them, file names without their directory.
inline std::vector<std::string> complaints(const FileSource& source) {
  std::vector<std::string> result;
  for (Problem problem : source.problems()) {
    problem.origin.source = std::filesystem::path(problem.origin.source.view()).filename().string();
    result.push_back(problem.to_string());
  }
  return result;
}

inline std::string service(const std::string& name, const std::string& ip, const std::string& port = "80") {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec:\n  clusterIP: " + ip +
         "\n  ports: [{port: " + port + "}]\n";
}

}  // namespace bpfnet::sources
