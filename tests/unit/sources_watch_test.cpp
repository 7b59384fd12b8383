// The directory as the kernel tells of it: real files, real events.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "tests/unit/sources_directory.h"

namespace bpfnet::sources {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

bool has(const FileSource& source, const std::string& name) {
  return source.state().services.contains({"default", name});
}

bool readable(const FileSource& source) {
  pollfd wait{source.fd(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

void put(int fd, std::string_view text) {
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

TEST(Watch, EmptyDirectoryIsSynced) {
  ManifestDirectory directory;
  const FileSource source = open_source(directory);
  EXPECT_TRUE(source.synced());
  EXPECT_EQ(source.generation(), 0u);
  EXPECT_FALSE(readable(source));
}

TEST(Watch, InitialReadTakesEverything) {
  ManifestDirectory directory;
  directory.write("a.yaml", service("a", "10.96.0.1"));
  directory.write("b.yml", service("b", "10.96.0.2"));
  directory.write("c.json", R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}})");
  directory.write(".hidden.yaml", service("hidden", "10.96.0.3"));
  directory.write("notes.txt", "not a manifest");
  directory.write("a.yaml~", service("backup", "10.96.0.4"));
  fs::create_directory(directory.path() / "dir.yaml");
  const FileSource source = open_source(directory);
  EXPECT_TRUE(source.synced());
  EXPECT_EQ(source.state().services.size(), 2u);
  EXPECT_TRUE(source.state().namespaces.contains("c"));
  EXPECT_THAT(complaints(source), IsEmpty());
}

TEST(Watch, CreateChangeDelete) {
  ManifestDirectory directory;
  FileSource source = open_source(directory);
  directory.write("a.yaml", service("a", "10.96.0.1"));
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "a"); }));
  EXPECT_FALSE(readable(source));
  directory.write("a.yaml", service("b", "10.96.0.1"));
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "b"); }));
  EXPECT_FALSE(has(source, "a"));
  directory.remove("a.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return !has(source, "b"); }));
}

TEST(Watch, MovedIntoPlaceAndAway) {
  ManifestDirectory directory;
  FileSource source = open_source(directory);
  directory.write(".a.tmp", service("a", "10.96.0.1"));
  fs::rename(directory.path() / ".a.tmp", directory.path() / "a.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "a"); }));
  fs::rename(directory.path() / "a.yaml", directory.root() / "a.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return !has(source, "a"); }));
}

TEST(Watch, LinksCountAtOnce) {
  ManifestDirectory directory;
  FileSource source = open_source(directory);
  std::ofstream(directory.root() / "real.yaml") << service("a", "10.96.0.1");
  fs::create_symlink(directory.root() / "real.yaml", directory.path() / "soft.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "a"); }));
  directory.remove("soft.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return !has(source, "a"); }));
  fs::create_hard_link(directory.root() / "real.yaml", directory.path() / "hard.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "a"); }));
}

TEST(Watch, AHalfWrittenFileKeepsWhatItHeld) {
  ManifestDirectory directory;
  directory.write("a.yaml", service("a", "10.96.0.1"));
  FileSource source = open_source(directory);
  {
    const Fd writer(::open((directory.path() / "a.yaml").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    put(writer.get(), "apiVersion: v1\nkind: Serv");
    // Another file's event must not have this one read.
    directory.write("b.yaml", service("b", "10.96.0.2"));
    ASSERT_TRUE(wait_for(source, [&] { return has(source, "b"); }));
    EXPECT_TRUE(has(source, "a"));
    EXPECT_THAT(complaints(source), IsEmpty());
    put(writer.get(), "ice\nmetadata: {name: c}\nspec: {clusterIP: 10.96.0.3}\n");
  }
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "c"); }));
  EXPECT_FALSE(has(source, "a"));
}

TEST(Watch, ARescanDoesNotReadWhatIsBeingWritten) {
  ManifestDirectory directory;
  directory.write("a.yaml", service("a", "10.96.0.1"));
  FileSource source = open_source(directory);
  {
    const Fd writer(::open((directory.path() / "a.yaml").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    fs::create_directory_symlink(directory.root(), directory.path() / "..data");  // has everything read again
    directory.write("b.yaml", service("b", "10.96.0.2"));
    ASSERT_TRUE(wait_for(source, [&] { return has(source, "b"); }));
    EXPECT_TRUE(has(source, "a"));
    EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("a.yaml: is open for writing")));
  }
  ASSERT_TRUE(wait_for(source, [&] { return !has(source, "a"); }));
  EXPECT_THAT(complaints(source), IsEmpty());
}

TEST(Watch, NotSyncedBeforeAFileThatIsBeingWrittenIsRead) {
  ManifestDirectory directory;
  std::optional<Fd> writer(
      Fd(::open((directory.path() / "a.yaml").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)));
  FileSource source = open_source(directory);
  EXPECT_FALSE(source.synced());
  put(writer->get(), service("a", "10.96.0.1"));
  writer.reset();
  ASSERT_TRUE(wait_for(source, [&] { return source.synced(); }));
  EXPECT_TRUE(has(source, "a"));
}

TEST(Watch, UnreadableFileKeepsWhatItHeld) {
  ManifestDirectory directory;
  directory.write("a.yaml", service("a", "10.96.0.1"));
  FileSource source = open_source(directory);
  directory.remove("a.yaml");
  fs::create_symlink("nowhere", directory.path() / "a.yaml");
  ASSERT_TRUE(wait_for(source, [&] { return !complaints(source).empty() || !has(source, "a"); }));
  EXPECT_TRUE(has(source, "a"));
  EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("a.yaml: cannot be opened: ENOENT")));
}

TEST(Watch, AFifoDoesNotBlock) {
  ManifestDirectory directory;
  ASSERT_EQ(mkfifo((directory.path() / "f.yaml").c_str(), 0644), 0);
  const FileSource source = open_source(directory);
  EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("f.yaml: is not a regular file")));
  EXPECT_TRUE(source.synced());
}

TEST(Watch, ConfigMapVolume) {
  ManifestDirectory directory;
  const auto version = [&](const std::string& name, const std::string& ip) {
    fs::create_directory(directory.path() / name);
    std::ofstream(directory.path() / name / "a.yaml") << service("a", ip);
  };
  version("..v1", "10.96.0.1");
  fs::create_directory_symlink("..v1", directory.path() / "..data");
  fs::create_symlink("..data/a.yaml", directory.path() / "a.yaml");
  FileSource source = open_source(directory);
  const auto ip = [&] { return source.state().services.at({"default", "a"}).cluster_ips.at(0).to_string(); };
  EXPECT_EQ(ip(), "10.96.0.1");
  version("..v2", "10.96.0.2");
  fs::create_directory_symlink("..v2", directory.path() / "..data_tmp");
  fs::rename(directory.path() / "..data_tmp", directory.path() / "..data");
  ASSERT_TRUE(wait_for(source, [&] { return ip() == "10.96.0.2"; }));
}

TEST(Watch, DirectoryReplacedByAnother) {
  ManifestDirectory directory;
  directory.write("a.yaml", service("a", "10.96.0.1"));
  directory.write("b.yaml", service("b", "10.96.0.2"));
  FileSource source = open_source(directory);
  (void)source.take_changes();
  const fs::path next = directory.root() / "next";
  fs::create_directory(next);
  std::ofstream(next / "a.yaml") << service("a", "10.96.0.1");
  std::ofstream(next / "c.yaml") << service("c", "10.96.0.3");
  fs::rename(directory.path(), directory.root() / "old");
  ASSERT_TRUE(wait_for(source, [&] { return !source.problems().empty(); }));
  EXPECT_TRUE(has(source, "a") && has(source, "b")) << "an absent directory deletes nothing";
  fs::rename(next, directory.path());
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "c"); }));
  EXPECT_FALSE(has(source, "b"));
  EXPECT_EQ(source.take_changes().services.size(), 2u) << "b and c; a is the same";
  directory.write("d.yaml", service("d", "10.96.0.4"));
  ASSERT_TRUE(wait_for(source, [&] { return has(source, "d"); })) << "the new directory is watched";
}

TEST(Watch, DirectoryBehindALinkReplaced) {
  ManifestDirectory directory;
  const fs::path link = directory.root() / "current";
  fs::create_directory_symlink(directory.path(), link);
  directory.write("a.yaml", service("a", "10.96.0.1"));
  auto source = FileSource::open(link);
  ASSERT_TRUE(source);
  const fs::path next = directory.root() / "next";
  fs::create_directory(next);
  std::ofstream(next / "b.yaml") << service("b", "10.96.0.2");
  fs::create_directory_symlink(next, directory.root() / "new");
  fs::rename(directory.root() / "new", link);
  ASSERT_TRUE(wait_for(*source, [&] { return has(*source, "b"); }));
  EXPECT_FALSE(has(*source, "a"));
}

TEST(Watch, DirectoryThatComesLater) {
  ManifestDirectory directory;
  const fs::path later = directory.root() / "etc" / "bpfnet" / "manifests";
  auto source = FileSource::open(later);
  ASSERT_TRUE(source);
  EXPECT_FALSE(source->synced());
  EXPECT_THAT(complaints(*source), ElementsAre(HasSubstr("manifests: No such file or directory")));
  fs::create_directory(directory.root() / "etc");
  fs::create_directories(later);
  ASSERT_TRUE(wait_for(*source, [&] { return source->synced(); }));
  EXPECT_THAT(complaints(*source), IsEmpty());
  std::ofstream(later / "a.yaml") << service("a", "10.96.0.1");
  ASSERT_TRUE(wait_for(*source, [&] { return has(*source, "a"); }));
}

TEST(Watch, ManyFilesAtOnce) {
  ManifestDirectory directory;
  FileSource source = open_source(directory);
  for (int i = 0; i < 300; ++i) {
    directory.write(
        "s" + std::to_string(i) + ".yaml",
        service("s" + std::to_string(i), "10.96." + std::to_string(i / 200) + "." + std::to_string(i % 200)));
  }
  ASSERT_TRUE(wait_for(source, [&] { return source.state().services.size() == 300; }));
  EXPECT_THAT(complaints(source), IsEmpty());
}

}  // namespace
}  // namespace bpfnet::sources
