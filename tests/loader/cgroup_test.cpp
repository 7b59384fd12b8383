// Programs at a cgroup: attached, taken over in place, moved, removed. What they do to sockets is in
// tests/e2e/sockets_setup_test.cpp and its neighbours.
#include "loader/cgroup.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "loader/bpffs.h"
#include "tests/loader/datapath_fixture.h"

namespace bpfnet::loader {
namespace {

using testing::HasSubstr;

class CgroupTest : public DatapathTest {
 protected:
  void SetUp() override {
    DatapathTest::SetUp();
    for (const char* mount : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (!open_cgroup(mount)) continue;
      for (const char* name : {"one", "two"}) {
        cgroups_.push_back(fmt::format("{}/bn-loader-{}-{}", mount, getpid(), name));
        ASSERT_EQ(mkdir(cgroups_.back().c_str(), 0755), 0);
      }
      return;
    }
    GTEST_SKIP() << "no cgroup2 is mounted here";
  }
  void TearDown() override {
    for (const std::string& cgroup : cgroups_) rmdir(cgroup.c_str());
    DatapathTest::TearDown();
  }

  static uint64_t id_of(const std::string& cgroup) {
    struct stat stat {};
    EXPECT_EQ(::stat(cgroup.c_str(), &stat), 0);
    return stat.st_ino;
  }
  [[nodiscard]] std::vector<CgroupAttachment> attached() const {
    auto list =
        cgroup_attachments(fmt::format("{}/v{}/sockets", pin_dir, static_cast<int>(ABI_LAYOUT_VERSION)));
    EXPECT_TRUE(list);
    return list ? *list : std::vector<CgroupAttachment>{};
  }
  void expect_all_at(const std::string& cgroup) const {
    EXPECT_EQ(attached().size(), 10U);
    for (const CgroupAttachment& each : attached()) EXPECT_EQ(each.cgroup, id_of(cgroup)) << each.program;
  }

  std::vector<std::string> cgroups_;
};

TEST_F(CgroupTest, LinksOutliveTheAgentAndGetTheNextOnesPrograms) {
  std::vector<CgroupAttachment> first;
  {
    auto datapath = open();
    ASSERT_TRUE(datapath) << datapath.error().message;
    const auto done = datapath->attach_sockets(cgroups_[0]);
    ASSERT_TRUE(done) << done.error().message;
    ASSERT_TRUE(datapath->attach_sockets(cgroups_[0])) << "twice is the same as once";
    expect_all_at(cgroups_[0]);
    first = attached();
  }
  expect_all_at(cgroups_[0]);
  auto datapath = open();
  ASSERT_TRUE(datapath);
  ASSERT_TRUE(datapath->attach_sockets(cgroups_[0]));
  expect_all_at(cgroups_[0]);
  const auto second = attached();
  for (size_t i = 0; i < first.size(); i++) EXPECT_NE(first[i].id, second[i].id) << first[i].program;
}

// They would cost a start the verifier's time.
TEST_F(CgroupTest, ProgramsThatNobodyWantsAreNotLoaded) {
  DatapathOptions wanted = options();
  wanted.sockets = false;
  auto datapath = Datapath::open(wanted);
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_GE(datapath->program_fd("from_pod"), 0);
  EXPECT_LT(datapath->program_fd("sock_connect4"), 0);
  EXPECT_FALSE(datapath->attach_sockets(cgroups_[0]));
  EXPECT_TRUE(attached().empty());
  EXPECT_TRUE(datapath->detach_sockets()) << "those of an earlier start go all the same";
}

TEST_F(CgroupTest, AnotherCgroupTakesTheLinks) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  ASSERT_TRUE(datapath->attach_sockets(cgroups_[0]));
  ASSERT_TRUE(datapath->attach_sockets(cgroups_[1]));
  expect_all_at(cgroups_[1]);
  // One that is gone is no obstacle.
  ASSERT_EQ(rmdir(cgroups_[1].c_str()), 0);
  ASSERT_TRUE(datapath->attach_sockets(cgroups_[0]));
  expect_all_at(cgroups_[0]);
  ASSERT_TRUE(datapath->detach_sockets());
  EXPECT_TRUE(attached().empty());
  EXPECT_TRUE(datapath->detach_sockets()) << "nothing to do";
}

TEST_F(CgroupTest, WhatIsNoCgroup2IsRefusedByName) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const auto elsewhere = datapath->attach_sockets("/run");
  ASSERT_FALSE(elsewhere);
  EXPECT_THAT(elsewhere.error().message,
              HasSubstr("cgroup /run: is not of a cgroup2 hierarchy; cgroup2 is mounted at /sys/fs/cgroup"));
  const auto nowhere = datapath->attach_sockets("/run/none");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, ENOENT);
  EXPECT_TRUE(attached().empty());
}

TEST(Cgroup2Mount, IsMadeOnceAndGoesAgain) {
  std::string dir = "/run/bpfnet-test-cgroup2-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const std::string path = dir + "/a/cgroup";
  const auto made = ensure_cgroup2(path);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(open_cgroup(path));
  EXPECT_TRUE(is_own_mount(path, "cgroup2"));
  EXPECT_TRUE(ensure_cgroup2(path)) << "it is there";
  EXPECT_TRUE(unmount_cgroup2(path));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(unmount_cgroup2(path)) << "nothing to do";

  // A hierarchy of version 1, or anything else, is not hidden under a mount.
  std::filesystem::create_directories(dir + "/cpu");
  const auto refused = ensure_cgroup2(dir);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("is not of a cgroup2 hierarchy"));
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace bpfnet::loader
