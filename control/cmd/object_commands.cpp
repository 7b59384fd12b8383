#include "control/cmd/object_commands.h"

#include <algorithm>
#include <cstdio>

#include "control/objects/input.h"
#include "control/objects/kinds.h"
#include "control/objects/show.h"

namespace bpfnet::cmd {
namespace {

using nlohmann::ordered_json;
using objects::Changes;
using objects::Form;
using objects::Key;

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

int complain(const Error& error, int status = kFailed) {
  std::fprintf(stderr, "bpfnetctl: %s\n", error.message.c_str());
  return status;
}

void tell(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) std::fprintf(stderr, "note: %s\n", note.c_str());
}

Result<std::unique_ptr<objects::ObjectStore>> open_store(const ObjectOptions& options,
                                                         const std::string& socket) {
  objects::Place place = options.place;
  place.socket = socket;
  return objects::open_store(place);
}

ordered_json to_json(const objects::Change& change) {
  return {{"kind", sources::to_string(change.key.kind)},
          {"namespace", change.key.name.ns},
          {"name", change.key.name.name},
          {"action", objects::to_string(change.action)},
          {"where", change.where}};
}

void print(const Changes& changes, bool json, bool dry_run) {
  if (json) {
    ordered_json list = ordered_json::array();
    for (const objects::Change& change : changes.changes) list.push_back(to_json(change));
    std::printf("%s", objects::json_text({{"changes", std::move(list)}, {"dryRun", dry_run}}).c_str());
    return;
  }
  for (const objects::Change& change : changes.changes)
    std::printf("%s %s%s\n", objects::resource_name(change.key).c_str(),
                std::string(objects::to_string(change.action)).c_str(), dry_run ? " (dry run)" : "");
}

/// After the answer: what was written stays written, whatever the agent says.
int wait_if_asked(const ObjectOptions& options, const std::string& socket, const Changes& changes) {
  std::fflush(stdout);
  if (!options.wait || options.dry_run) return kDone;
  std::vector<Key> keys;
  for (const objects::Change& change : changes.changes) keys.push_back(change.key);
  const auto problems =
      objects::await_agent(socket, changes.revision, keys, std::chrono::seconds(options.timeout));
  if (!problems) return complain(problems.error().wrap("--wait"));
  for (const std::string& problem : *problems) std::fprintf(stderr, "bpfnetctl: %s\n", problem.c_str());
  return problems->empty() ? kDone : kFailed;
}

int apply(const ObjectOptions& options, const std::string& socket, bool json) {
  auto input = objects::read_input(options.files, options.skip_unknown);
  if (!input) return complain(input.error());
  tell(input->notes);
  auto store = open_store(options, socket);
  if (!store) return complain(store.error());
  const auto changes = (*store)->apply(input->manifests, options.dry_run);
  if (!changes) return complain(changes.error());
  tell(changes->notes);
  print(*changes, json, options.dry_run);
  return wait_if_asked(options, socket, *changes);
}

Form form_of(const std::string& text, bool json) {
  if (text == "wide") return Form::kWide;
  if (text == "yaml") return Form::kYaml;
  if (text == "name") return Form::kName;
  return text == "json" || (text.empty() && json) ? Form::kJson : Form::kTable;
}

bool is_selected(const objects::Stored& object, const objects::Selection& selection,
                 const ObjectOptions& options) {
  if (!selection.named.empty())
    return std::ranges::find(selection.named, object.key) != selection.named.end();
  if (std::ranges::find(selection.kinds, object.key.kind) == selection.kinds.end()) return false;
  return options.all_namespaces || object.key.name.ns.empty() || object.key.name.ns == options.ns;
}

/// Names that a list of kinds has in none of them; one kind each for KIND/NAME.
std::vector<Key> missing_of(const std::vector<Key>& wanted, const std::vector<Key>& found) {
  std::vector<Key> missing;
  for (const Key& key : wanted)
    if (std::ranges::find(found, key) == found.end()) missing.push_back(key);
  return missing;
}

int tell_missing(const std::vector<Key>& missing) {
  for (const Key& key : missing) std::fprintf(stderr, "bpfnetctl: %s: not found\n", key.to_string().c_str());
  return missing.empty() ? kDone : kFailed;
}

int get(const ObjectOptions& options, const std::string& socket, bool json) {
  auto selection = objects::parse_selection(options.words, options.ns);
  if (!selection) return complain(selection.error(), kWrongUsage);
  if (options.all_namespaces && !selection->named.empty())
    return complain({"a name is one of a namespace: give -n NAMESPACE, not -A"}, kWrongUsage);
  auto store = open_store(options, socket);
  if (!store) return complain(store.error());
  auto listing = (*store)->list();
  if (!listing) return complain(listing.error());
  tell(listing->notes);
  std::vector<objects::Stored> shown;
  std::vector<Key> found;
  for (objects::Stored& object : listing->objects) {
    if (!is_selected(object, *selection, options)) continue;
    found.push_back(object.key);
    shown.push_back(std::move(object));
  }
  const Form form = form_of(options.form, json);
  if (!shown.empty() || form == Form::kJson)
    std::fputs(objects::show(shown, {.form = form,
                                     .namespaces = options.all_namespaces,
                                     .single = selection->named.size() == 1})
                   .c_str(),
               stdout);
  if (shown.empty() && selection->named.empty())
    std::fprintf(stderr, options.all_namespaces ? "there are none\n" : "there are none in namespace %s\n",
                 options.ns.c_str());
  return options.ignore_not_found ? kDone : tell_missing(missing_of(selection->named, found));
}

Result<std::vector<Key>> keys_to_delete(const ObjectOptions& options) {
  if (options.files.empty() == options.words.empty())
    return fail("name what is to be deleted: KIND NAME..., or -f FILE");
  std::vector<Key> keys;
  if (!options.files.empty()) {
    auto input = objects::read_input(options.files, options.skip_unknown);
    if (!input) return pass(input);
    for (const objects::Manifest& manifest : input->manifests) keys.push_back(*manifest.key);
    return keys;
  }
  auto selection = objects::parse_selection(options.words, options.ns);
  if (!selection) return pass(selection);
  if (selection->named.empty()) return fail("name the objects that are to be deleted: KIND NAME...");
  return selection->named;
}

int remove(const ObjectOptions& options, const std::string& socket, bool json) {
  const auto keys = keys_to_delete(options);
  if (!keys) return complain(keys.error(), kWrongUsage);
  auto store = open_store(options, socket);
  if (!store) return complain(store.error());
  const auto changes = (*store)->remove(*keys, options.dry_run);
  if (!changes) return complain(changes.error());
  tell(changes->notes);
  print(*changes, json, options.dry_run);
  std::vector<Key> found;
  for (const objects::Change& change : changes->changes) found.push_back(change.key);
  const int waited = wait_if_asked(options, socket, *changes);
  const int missing = options.ignore_not_found ? kDone : tell_missing(missing_of(*keys, found));
  return std::max(waited, missing);
}

void add_place(CLI::App& app, ObjectOptions& options) {
  app.add_option("--manifests", options.place.manifests,
                 "Directory of manifests they are in (default: what the agent at --socket reads)");
  etcd::Config& etcd = options.place.etcd;
  CLI::Option* endpoint = app.add_option(
      "--etcd", etcd.endpoints, "Or endpoint of the etcd they are in; repeat for several of one cluster");
  app.add_option("--etcd-prefix", etcd.prefix, "What their keys begin with there")
      ->needs(endpoint)
      ->capture_default_str();
  app.add_option("--etcd-ca", etcd.ca, "File of authorities that etcd's certificate is checked by");
  app.add_option("--etcd-cert", etcd.certificate, "File of the certificate shown to etcd");
  app.add_option("--etcd-key", etcd.key, "File of its key");
  app.add_option("--etcd-user", etcd.user, "User of etcd");
  app.add_option("--etcd-password-file", etcd.password_file, "File with the user's password");
}

void add_wait(CLI::App& app, ObjectOptions& options) {
  app.add_flag("--dry-run", options.dry_run, "Write nothing, tell what would be done");
  app.add_flag("--wait", options.wait,
               "End when the agent at --socket has it in the maps; tell what it objects to");
  app.add_option("--timeout", options.timeout, "Seconds that --wait waits")->capture_default_str();
}

void add_selection(CLI::App& app, ObjectOptions& options) {
  app.add_option("KIND", options.words, "KIND[,KIND] NAME..., or KIND/NAME...; as kubectl names them");
  app.add_option("-n,--namespace", options.ns, "Namespace of the objects")->capture_default_str();
  app.add_flag("--ignore-not-found", options.ignore_not_found, "What is not there is no failure");
}

}  // namespace

void describe_objects(ObjectOptions& options, const AddObjects& add) {
  CLI::App* to_apply =
      add("apply", "Make objects as files say; all or nothing if there is a mistake in them", apply);
  to_apply
      ->add_option("-f,--file", options.files,
                   "Manifests: a file, a directory, - for stdin; repeat for several")
      ->required();
  to_apply->add_flag("--skip-unknown", options.skip_unknown, "Leave out kinds that bpfnet does not read");
  add_wait(*to_apply, options);
  add_place(*to_apply, options);

  CLI::App* to_get = add("get", "Objects as they are written where the agent reads them", get);
  add_selection(*to_get, options);
  to_get->get_option("KIND")->required();
  to_get->add_flag("-A,--all-namespaces", options.all_namespaces, "Those of all namespaces");
  to_get->add_option("-o,--output", options.form, "table, wide (with their place), yaml, json or name")
      ->check(CLI::IsMember({"table", "wide", "yaml", "json", "name"}));
  add_place(*to_get, options);

  CLI::App* to_delete = add("delete", "Take objects away", remove);
  add_selection(*to_delete, options);
  to_delete->add_option("-f,--file", options.files,
                        "Those that these manifests name; - for stdin; repeat for several");
  to_delete->add_flag("--skip-unknown", options.skip_unknown, "Leave out kinds that bpfnet does not read");
  add_wait(*to_delete, options);
  add_place(*to_delete, options);
}

}  // namespace bpfnet::cmd
