#pragma once

#include <filesystem>
#include <map>

#include "control/objects/file_text.h"
#include "control/objects/store.h"

namespace bpfnet::objects {

/// Objects in a directory of manifests. A new one gets a file of its own, `service.default.web.yaml`, with
/// its text as it was given; one that a file of the directory defines is changed there, its document alone,
/// the rest of the file byte for byte as it was. Two at work at once wait for each other.
class FileStore : public ObjectStore {
 public:
  explicit FileStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  Result<Listing> list() override;
  Result<Changes> apply(const std::vector<Manifest>& manifests, bool dry_run) override;
  Result<Changes> remove(const std::vector<Key>& keys, bool dry_run) override;

  /// `service.default.web.yaml`; overlong names end in a number instead.
  static std::string file_name(const Key& key, sources::Format format);

 private:
  struct File {
    FileText text;
    ManifestText parsed;
  };
  /// A document of a file.
  struct Place {
    File* file = nullptr;
    DocumentText* document = nullptr;
    const Manifest* manifest = nullptr;
    [[nodiscard]] std::string to_string() const;
    /// Why the object cannot be changed there; empty: it can.
    [[nodiscard]] std::string obstacle() const;
  };
  /// What becomes of a document: its new text, or nothing.
  using Edits = std::map<DocumentText*, std::string>;
  struct Directory {
    std::map<std::string, File> files;  ///< by name
    std::map<Key, std::vector<Place>> places;
    std::vector<std::string> notes;
  };
  /// `wanted`: what is looked for; files that cannot hold any of it are passed over. Null: everything.
  Result<Directory> read(const std::vector<std::string>* wanted);
  static Status edit(File& file, const Edits& edits, FileChanges& changes);

  std::filesystem::path directory_;
};

}  // namespace bpfnet::objects
