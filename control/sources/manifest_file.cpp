#include "control/sources/manifest_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>

#include "base/fd.h"
#include "control/sources/document.h"

namespace bpfnet::sources {
namespace {

constexpr off_t kMaxFileSize = 256 << 20;

// Nobody writes to the file while this lives: a writer that opens it meanwhile waits, as for any lease.
class ReadLease {
 public:
  explicit ReadLease(int fd) : fd_(fd) {
    // The break of a lease would otherwise end us by SIGIO; SIGURG is ignored by default.
    fcntl(fd, F_SETSIG, SIGURG);
    held_ = fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
    // Where no lease is to be had at all (another owner's file, some file systems) we trust in the writer's
    // close.
    denied_ = !held_ && errno == EAGAIN;
  }
  ReadLease(const ReadLease&) = delete;
  ReadLease& operator=(const ReadLease&) = delete;
  ~ReadLease() {
    if (held_) fcntl(fd_, F_SETLEASE, F_UNLCK);
  }
  /// Somebody has the file open for writing.
  [[nodiscard]] bool denied() const { return denied_; }

 private:
  int fd_;
  bool held_ = false;
  bool denied_ = false;
};

int read_all(int fd, size_t size, std::string& text) {
  text.resize(size + 1);  // one more than expected, so that the end is seen by the first read
  size_t filled = 0;
  while (true) {
    if (filled == text.size()) text.resize(text.size() * 2);
    const ssize_t got = ::read(fd, text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled > static_cast<size_t>(kMaxFileSize)) return EFBIG;
  }
  text.resize(filled);
  return 0;
}

}  // namespace

bool ManifestFile::is_link(const std::filesystem::path& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && (S_ISLNK(info.st_mode) || info.st_nlink > 1);
}

void ManifestFile::fail(std::string text, bool busy) {
  failure_ = Problem{{path_.string(), 0}, "", "", std::move(text), Effect::kNotRead};
  busy_ = busy;
}

ManifestFile::State ManifestFile::refresh(Catalog& catalog) {
  struct stat info {};
  // O_NONBLOCK: a FIFO with a fitting name must not stop the agent.
  const Fd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd || fstat(fd.get(), &info) < 0) {
    const int error = errno;
    struct stat link {};
    if (lstat(path_.c_str(), &link) < 0 && errno == ENOENT) {
      clear(catalog);
      return State::kGone;
    }
    fail(fmt::format("cannot be opened: {}", errno_name(error)), false);
    return State::kPresent;
  }
  if (S_ISDIR(info.st_mode)) {
    clear(catalog);
    return State::kGone;
  }
  if (!S_ISREG(info.st_mode)) {
    fail("is not a regular file", false);
    return State::kPresent;
  }
  const ReadLease lease(fd.get());
  if (lease.denied() && !is_link(path_)) {
    fail("is open for writing; it is read when its writer closes it", true);
    return State::kPresent;
  }
  std::string text;
  if (const int error = read_all(fd.get(), static_cast<size_t>(info.st_size), text); error != 0) {
    fail(fmt::format("cannot be read: {}", errno_name(error)), false);
    return State::kPresent;
  }
  failure_.reset();
  busy_ = false;
  read_once_ = true;
  load(catalog, text);
  return State::kPresent;
}

void ManifestFile::clear(Catalog& catalog) {
  for (Document& document : documents_) {
    for (Candidate* candidate : document.candidates) catalog.remove(candidate);
  }
  documents_.clear();
}

// Only the documents between the common head and the common tail of the old and the new text are parsed.
void ManifestFile::load(Catalog& catalog, std::string_view text) {
  std::vector<Chunk> chunks;
  if (path_.extension() == ".json") {
    chunks.push_back({text, 1});
  } else {
    chunks = split_documents(text);
  }
  std::vector<Document> fresh(chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    fresh[i].hash = std::hash<std::string_view>{}(chunks[i].text);
    fresh[i].size = chunks[i].text.size();
    fresh[i].first_line = chunks[i].first_line;
  }
  const auto same = [](const Document& a, const Document& b) { return a.hash == b.hash && a.size == b.size; };
  const size_t shorter = std::min(documents_.size(), fresh.size());
  size_t head = 0;
  while (head < shorter && same(documents_[head], fresh[head])) ++head;
  size_t tail = 0;
  while (tail < shorter - head &&
         same(documents_[documents_.size() - 1 - tail], fresh[fresh.size() - 1 - tail])) {
    ++tail;
  }

  std::multimap<std::pair<Kind, model::ObjectName>, Candidate*> old;
  for (size_t i = head; i < documents_.size() - tail; ++i) {
    for (Candidate* each : documents_[i].candidates) old.emplace(std::pair(each->kind, each->name), each);
  }
  Document* unreadable = nullptr;
  for (size_t i = head; i < fresh.size() - tail; ++i) {
    Document& document = fresh[i];
    DecodedText decoded =
        decode(chunks[i].text, path_.extension() == ".json" ? Format::kJson : Format::kYaml);
    document.complete = decoded.complete;
    if (!decoded.complete && unreadable == nullptr) unreadable = &document;
    document.problems = std::move(decoded.problems);
    for (Problem& problem : document.problems) {
      problem.origin = {path_.string(), document.first_line - 1 + problem.origin.line};
    }
    for (Decoded& object : decoded.objects) {
      const auto known = old.find({object.kind, object.name});
      if (known != old.end()) {
        catalog.update(known->second, document.first_line, std::move(object));
        document.candidates.push_back(known->second);
        old.erase(known);
      } else {
        document.candidates.push_back(catalog.add(path_, document.first_line, std::move(object)));
      }
    }
  }
  for (const auto& [identity, candidate] : old) {
    if (unreadable == nullptr) {
      catalog.remove(candidate);
    } else {  // It may well be what cannot be read.
      catalog.keep(candidate);
      unreadable->candidates.push_back(candidate);
    }
  }
  for (size_t i = 0; i < fresh.size(); ++i) {
    if (i >= head && i < fresh.size() - tail) continue;
    Document& kept = i < head ? documents_[i] : documents_[documents_.size() - (fresh.size() - i)];
    const int lines = fresh[i].first_line - kept.first_line;
    fresh[i] = std::move(kept);
    if (lines != 0) shift(catalog, fresh[i], lines);
  }
  documents_ = std::move(fresh);
}

void ManifestFile::shift(Catalog& catalog, Document& document, int lines) {
  document.first_line += lines;
  for (Problem& problem : document.problems) problem.origin.line += lines;
  for (Candidate* candidate : document.candidates) catalog.move(candidate, lines);
}

void ManifestFile::collect_problems(std::vector<Problem>& into) const {
  if (failure_) into.push_back(*failure_);
  for (const Document& document : documents_)
    into.insert(into.end(), document.problems.begin(), document.problems.end());
}

}  // namespace bpfnet::sources
