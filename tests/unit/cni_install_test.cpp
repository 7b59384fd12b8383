// The plugin and its configuration as files that a runtime reads while they change. C-numbers are those of
// the CNI specification notes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/fd.h"
#include "control/cni/config.h"
#include "control/cni/install.h"

namespace bpfnet::cni {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Install : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "bpfnet-install-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { fs::remove_all(dir_); }

  [[nodiscard]] std::string path(const std::string& name) const { return dir_ / name; }
  static void write(const std::string& file, const std::string& text) { std::ofstream(file) << text; }
  static std::string read(const std::string& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(dir_)) all.push_back(entry.path().filename());
    std::ranges::sort(all);
    return all;
  }

  fs::path dir_;
};

TEST_F(Install, TheConflistIsReadByThePluginInEveryVersion) {
  const auto conf = nlohmann::json::parse(
      conflist_text({.network = "pods", .socket = "/run/x.sock", .state_dir = "/var/lib/x"}));
  EXPECT_EQ(conf.at("cniVersion"), "1.0.0");
  EXPECT_EQ(conf.at("cniVersions").back(), "1.1.0") << "C17";
  for (const auto& version : conf.at("cniVersions")) {
    // As a runtime makes stdin of it (C5).
    auto plugin = conf.at("plugins").at(0);
    plugin["cniVersion"] = version;
    plugin["name"] = conf.at("name");
    const auto parsed = parse_conf(plugin.dump());
    ASSERT_TRUE(parsed) << version << ": " << parsed.error().message;
    EXPECT_EQ(parsed->name, "pods");
    EXPECT_EQ(parsed->socket, "/run/x.sock");
    EXPECT_EQ(parsed->state_dir, "/var/lib/x");
  }
}

/// The events of a directory that containerd looks at (C24), by the name they tell.
std::vector<std::string> reload_events(int inotify) {
  std::vector<std::string> events;
  alignas(inotify_event) char buffer[8192];
  const ssize_t size = ::read(inotify, buffer, sizeof buffer);
  for (ssize_t at = 0; at < size;) {
    const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
    at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    if ((event->mask & (IN_MODIFY | IN_MOVED_FROM | IN_DELETE)) != 0) events.emplace_back(event->name);
  }
  return events;
}

// C24: the last event that counts is a write to the file under its own name; no reader ever sees half of it.
TEST_F(Install, AWrittenConflistIsNoticed) {
  const Fd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  ASSERT_GE(::inotify_add_watch(inotify.get(), dir_.c_str(), IN_ALL_EVENTS), 0);
  const std::string file = path("10-bpfnet.conflist");
  EXPECT_EQ(write_conflist(file, "{\"a\":1}\n").value(), true);
  const auto events = reload_events(inotify.get());
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back(), "10-bpfnet.conflist");
  for (const std::string& name : events)
    EXPECT_TRUE(name == "10-bpfnet.conflist" || name.ends_with(".new"))
        << name << " would be read by a runtime";
  EXPECT_EQ(read(file), "{\"a\":1}\n");
  EXPECT_THAT(names(), ElementsAre("10-bpfnet.conflist")) << "nothing else stays";

  EXPECT_EQ(write_conflist(file, "{\"a\":1}\n").value(), false);
  EXPECT_THAT(reload_events(inotify.get()), ElementsAre()) << "the same text is not written again";
  EXPECT_EQ(write_conflist(file, "{\"a\":2}\n").value(), true);
  EXPECT_EQ(read(file), "{\"a\":2}\n");
}

TEST_F(Install, AConflistGetsItsDirectory) {
  EXPECT_TRUE(write_conflist(path("etc/cni/net.d/x.conflist"), "{}\n"));
  write(path("file"), "");
  const auto failed = write_conflist(path("file/x.conflist"), "{}\n");
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr(path("file/x.conflist")));
}

TEST_F(Install, OnlyOurConflistIsRemoved) {
  const std::string file = path("10-bpfnet.conflist");
  EXPECT_TRUE(remove_conflist(file)) << "none there";
  write(file, R"({"name":"other","plugins":[{"type":"bridge"}]})");
  const auto refused = remove_conflist(file);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(file));
  EXPECT_TRUE(fs::exists(file));
  write(file, "no JSON");
  EXPECT_FALSE(remove_conflist(file));
  ASSERT_TRUE(write_conflist(file, conflist_text({})));
  EXPECT_TRUE(remove_conflist(file));
  EXPECT_FALSE(fs::exists(file));
}

// C23: the lexically first wins, whatever kind it is.
TEST_F(Install, AConfigurationThatStandsBeforeOursIsFound) {
  const std::string own = path("10-bpfnet.conflist");
  write(own, "{}");
  for (const char* name : {"20-later.conf", "00-note.txt", ".00-hidden.new"}) write(path(name), "{}");
  EXPECT_EQ(earlier_conflist(own), "");
  write(path("10-aaa.json"), "{}");
  EXPECT_EQ(earlier_conflist(own), path("10-aaa.json"));
  write(path("05-first.conf"), "{}");
  EXPECT_EQ(earlier_conflist(own), path("05-first.conf"));
}

/// A program that runs until the object goes.
class Running {
 public:
  explicit Running(const std::string& program) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::execl(program.c_str(), program.c_str(), "60", nullptr);
    ::_exit(127);
  }
  ~Running() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

// C18: a plugin that runs just now cannot be written to, but replaced.
TEST_F(Install, ARunningPluginIsReplaced) {
  fs::create_directories(path("bin"));
  const std::string installed = path("bin/bpfnet-cni");
  ASSERT_TRUE(install_plugin("/bin/sleep", path("bin")));
  struct stat first {};
  ASSERT_EQ(::stat(installed.c_str(), &first), 0);
  EXPECT_EQ(first.st_mode & 07777, 0755U);
  EXPECT_EQ(read(installed), read("/bin/sleep"));
  const Running running(installed);
  // exec() has happened when /proc names the program.
  while (fs::read_symlink("/proc/" + std::to_string(running.pid()) + "/exe") != installed) ::usleep(1000);

  EXPECT_EQ(install_plugin("/bin/true", path("bin")).value(), true);
  EXPECT_EQ(read(installed), read("/bin/true"));
  EXPECT_EQ(install_plugin("/bin/true", path("bin")).value(), false) << "nothing to do";
  ::chmod(installed.c_str(), 0600);
  EXPECT_EQ(install_plugin("/bin/true", path("bin")).value(), true) << "it could not be run";
  EXPECT_THAT(install_plugin(path("absent"), path("bin")).error().message, HasSubstr(path("absent")));
  EXPECT_EQ(read(installed), read("/bin/true")) << "a failure loses nothing";
  EXPECT_TRUE(remove_plugin(path("bin")));
  EXPECT_TRUE(remove_plugin(path("bin"))) << "again";
  EXPECT_TRUE(fs::is_empty(path("bin")));
}

}  // namespace
}  // namespace bpfnet::cni
