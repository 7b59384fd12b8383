#include "control/ipam/store.h"

#include <charconv>
#include <mutex>

#include "control/ipam/sqlite.h"
#include "control/ipam/store_queries.h"
#include "control/ipam/store_rows.h"

namespace bpfnet::ipam {

struct Store::Impl {
  // Destroyed in reverse: statements before the connection.
  std::unique_ptr<sqlite3, SqliteCloser> db;
  std::vector<Statement> statements;
  mutable std::mutex mutex;

  Statement& query(Query which) { return statements[which]; }

  Status prepare() {
    for (const char* sql : kSql) {
      auto statement = Statement::prepare(db.get(), sql);
      if (!statement) return pass(statement);
      statements.push_back(std::move(*statement));
    }
    return ok();
  }

  Status bring_up_to_date() {
    auto version = Statement::prepare(db.get(), "PRAGMA user_version");
    if (!version) return pass(version);
    auto row = version->step();
    if (!row) return pass(row);
    const int64_t found = version->number(0);
    version->reset();
    if (found == kSchemaVersion) return ok();
    if (found != 0 && found != 1)
      return fail("schema version {}: this program knows {}; use the newer one", found, kSchemaVersion);
    auto transaction = Transaction::begin(db.get());
    if (!transaction) return pass(transaction);
    BPFNET_TRY(execute(db.get(), found == 0 ? kSchema : kFromSchema1));
    return transaction->commit();
  }

  Status give_index(EndpointRecord& record) {
    int64_t last = 0;
    {
      StatementUse cursor(query(kGetBlob));
      cursor->bind(1, "endpoint-index");
      auto row = cursor->step();
      if (!row) return pass(row);
      const std::string text = *row ? cursor->text(0) : "";
      std::from_chars(text.data(), text.data() + text.size(), last);
    }
    for (const int64_t from : {last, int64_t{0}}) {
      StatementUse free(query(kFreeIndex));
      free->bind(1, from);
      free->bind(2, kLastIndex);
      auto row = free->step();
      if (!row) return pass(row);
      if (const int64_t index = free->number(0); index > 0) {
        record.index = static_cast<uint16_t>(index);
        StatementUse cursor(query(kPutBlob));
        cursor->bind(1, "endpoint-index");
        cursor->bind(2, std::to_string(index));
        return cursor->run();
      }
    }
    return fail("all {} endpoint indexes of this node are taken", kLastIndex);
  }

  /// Runs one statement that gives no rows, as a transaction of its own.
  template <typename Bind>
  Status change(Query which, Bind&& bind) {
    const std::scoped_lock lock(mutex);
    StatementUse statement(query(which));
    bind(*statement);
    return statement->run();
  }

  /// Runs one query and reads every row of it.
  template <typename Bind, typename Read>
  auto collect(Query which, Bind&& bind, Read&& read) -> Result<std::vector<decltype(read(statements[0]))>> {
    const std::scoped_lock lock(mutex);
    StatementUse statement(query(which));
    bind(*statement);
    std::vector<decltype(read(statements[0]))> rows;
    for (;;) {
      auto more = statement->step();
      if (!more) return pass(more, "store: read");
      if (!*more) return rows;
      rows.push_back(read(*statement));
    }
  }
};

namespace {

constexpr auto kNoBindings = [](Statement&) {};

class TransactionView final : public Store::LeaseView {
 public:
  TransactionView(std::vector<Statement>& statements, const AttachmentKey& key, const std::string& network)
      : statements_(statements), key_(key), network_(network) {}

  Result<std::optional<AttachmentKey>> owner(const Address& address) const override {
    StatementUse statement(statements_[kLeaseOwner]);
    statement->bind(1, address);
    auto row = statement->step();
    if (!row) return pass(row);
    if (!*row) return std::nullopt;
    return AttachmentKey{statement->text(0), statement->text(1)};
  }

  Result<std::optional<Address>> first_free(const Address& from, const Address& last) const override {
    StatementUse statement(statements_[kLeasesFrom]);
    statement->bind(1, from);
    statement->bind(2, last);
    std::optional<Address> candidate = from;
    while (candidate && *candidate <= last) {
      auto row = statement->step();
      if (!row) return pass(row);
      if (!*row || statement->address(0) != *candidate) return candidate;
      candidate = candidate->plus(1);
    }
    return std::nullopt;
  }

  Result<std::optional<Address>> cursor(const std::string& range) const override {
    StatementUse statement(statements_[kGetCursor]);
    statement->bind(1, range);
    auto row = statement->step();
    if (!row) return pass(row);
    if (!*row) return std::nullopt;
    return statement->address(0);
  }

  Status take(const Address& address) override {
    StatementUse statement(statements_[kTakeLease]);
    statement->bind(1, address);
    statement->bind(2, network_);
    bind_key(*statement, key_, 3);
    return statement->run();
  }

  Status move_cursor(const std::string& range, const Address& address) override {
    StatementUse statement(statements_[kPutCursor]);
    statement->bind(1, range);
    statement->bind(2, address);
    return statement->run();
  }

 private:
  std::vector<Statement>& statements_;
  const AttachmentKey& key_;
  const std::string& network_;
};

}  // namespace

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Result<Store> Store::open(const std::string& path) {
  const std::string context = fmt::format("store {}", path);
  auto impl = std::make_unique<Impl>();
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &raw,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  impl->db.reset(raw);
  if (code != SQLITE_OK) return fail("{}: open: {}", context, sqlite3_errstr(code));
  // EXCLUSIVE: the lock belongs to this process and falls with it, and no second agent can share the state.
  // NORMAL: a killed process loses nothing, a power cut may lose the last transactions but never splits one;
  // what they describe are kernel objects, which the same power cut ended. FULL costs 0.2 ms a commit on an
  // idle disk and 3 ms and more on a busy one, for every container.
  for (const char* pragma :
       {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"}) {
    if (auto set = execute(impl->db.get(), pragma); !set) return pass(set, context);
  }
  if (auto current = impl->bring_up_to_date(); !current) return pass(current, context);
  if (auto prepared = impl->prepare(); !prepared) return pass(prepared, context);
  // Takes the exclusive lock now, not at the first ADD.
  auto transaction = Transaction::begin(impl->db.get());
  if (!transaction) return pass(transaction, context);
  if (auto committed = transaction->commit(); !committed) return pass(committed, context);
  return Store(std::move(impl));
}

Result<std::vector<EndpointRecord>> Store::endpoints() const {
  return impl_->collect(kListEndpoints, kNoBindings, read_endpoint);
}

Result<std::optional<EndpointRecord>> Store::endpoint(const AttachmentKey& key) const {
  auto rows = impl_->collect(
      kGetEndpoint, [&](Statement& s) { bind_key(s, key); }, read_endpoint);
  if (!rows) return pass(rows);
  if (rows->empty()) return std::nullopt;
  return std::move(rows->front());
}

Status Store::put_endpoint(EndpointRecord& record) {
  const std::scoped_lock lock(impl_->mutex);
  auto transaction = Transaction::begin(impl_->db.get());
  if (!transaction) return pass(transaction, "store: put endpoint");
  const uint16_t index_before = record.index;
  const auto write = [&]() -> Status {
    if (record.index == 0) BPFNET_TRY(impl_->give_index(record));
    StatementUse put(impl_->query(kPutEndpoint));
    bind_endpoint(*put, record);
    BPFNET_TRY(put->run());
    return transaction->commit();
  };
  auto written = write();
  if (!written) record.index = index_before;
  if (!written) return pass(written, fmt::format("store: put endpoint {}", record.key.to_string()));
  return ok();
}

Status Store::set_endpoint_state(const AttachmentKey& key, EndpointState state) {
  return impl_->change(kSetState, [&](Statement& statement) {
    bind_key(statement, key);
    statement.bind(3, static_cast<int64_t>(state));
  });
}

Status Store::remove_endpoint(const AttachmentKey& key) {
  const std::scoped_lock lock(impl_->mutex);
  auto transaction = Transaction::begin(impl_->db.get());
  if (!transaction) return pass(transaction, "store: remove endpoint");
  for (const Query which : {kDropLeases, kDropEndpoint}) {
    StatementUse statement(impl_->query(which));
    bind_key(*statement, key);
    BPFNET_TRY(statement->run());
  }
  return transaction->commit();
}

Result<std::vector<Store::Lease>> Store::leases() const {
  return impl_->collect(kListLeases, kNoBindings, [](const Statement& row) {
    return Lease{row.address(0), row.text(1), {row.text(2), row.text(3)}};
  });
}

Result<std::vector<Address>> Store::leases_of(const AttachmentKey& key) const {
  return impl_->collect(
      kLeasesOf, [&](Statement& s) { bind_key(s, key); },
      [](const Statement& row) { return row.address(0); });
}

Status Store::remove_leases(const AttachmentKey& key) {
  return impl_->change(kDropLeases, [&](Statement& statement) { bind_key(statement, key); });
}

Result<uint64_t> Store::count_leases(const Address& first, const Address& last) const {
  const auto bind = [&](Statement& statement) {
    statement.bind(1, first);
    statement.bind(2, last);
  };
  auto rows = impl_->collect(kCountLeases, bind, [](const Statement& row) { return row.number(0); });
  if (!rows) return pass(rows);
  return static_cast<uint64_t>(rows->front());
}

Status Store::choose_addresses(const AttachmentKey& key, const std::string& network,
                               const std::function<Status(LeaseView&)>& choose) {
  const std::scoped_lock lock(impl_->mutex);
  auto transaction = Transaction::begin(impl_->db.get());
  if (!transaction) return pass(transaction, "store: lease");
  {
    StatementUse drop(impl_->query(kDropLeases));
    bind_key(*drop, key);
    BPFNET_TRY(drop->run());
  }
  TransactionView view(impl_->statements, key, network);
  BPFNET_TRY(choose(view));
  return transaction->commit();
}

Result<std::optional<std::string>> Store::get(std::string_view name) const {
  auto rows = impl_->collect(
      kGetBlob, [&](Statement& s) { s.bind(1, name); }, [](const Statement& row) { return row.text(0); });
  if (!rows) return pass(rows);
  if (rows->empty()) return std::nullopt;
  return std::move(rows->front());
}

Result<std::map<std::string, std::string>> Store::list(std::string_view prefix) const {
  std::string end(prefix);
  if (end.empty() || end.back() != '/') return fail("store: list {}: the prefix does not end in /", prefix);
  ++end.back();  // the first name behind all that begin so
  auto rows = impl_->collect(
      kListBlobs,
      [&](Statement& s) {
        s.bind(1, prefix);
        s.bind(2, end);
      },
      [](const Statement& row) { return std::pair(row.text(0), row.text(1)); });
  if (!rows) return pass(rows);
  std::map<std::string, std::string> found;
  for (auto& [name, value] : *rows)
    found.emplace_hint(found.end(), name.substr(prefix.size()), std::move(value));
  return found;
}

Status Store::put_all(const std::map<std::string, std::optional<std::string>>& changes) {
  const std::scoped_lock lock(impl_->mutex);
  auto transaction = Transaction::begin(impl_->db.get());
  if (!transaction) return pass(transaction, "store: put");
  for (const auto& [name, value] : changes) {
    StatementUse statement(impl_->query(value ? kPutBlob : kDropBlob));
    statement->bind(1, name);
    if (value) statement->bind(2, *value);
    BPFNET_TRY(statement->run());
  }
  return transaction->commit();
}

Status Store::put(std::string_view name, std::string_view value) {
  return impl_->change(kPutBlob, [&](Statement& statement) {
    statement.bind(1, name);
    statement.bind(2, value);
  });
}

Status Store::erase(std::string_view name) {
  return impl_->change(kDropBlob, [&](Statement& statement) { statement.bind(1, name); });
}

Result<std::vector<JournalEntry>> Store::journal() const {
  return impl_->collect(kListJournal, kNoBindings, [](const Statement& row) {
    return JournalEntry{row.text(0), row.text(1), row.text(2), row.text(3)};
  });
}

Status Store::add_journal(const JournalEntry& entry) {
  return impl_->change(kAddJournal, [&](Statement& statement) {
    statement.bind(1, entry.kind);
    statement.bind(2, entry.object);
    statement.bind(3, entry.before);
    statement.bind(4, entry.after);
  });
}

Status Store::remove_journal(std::string_view kind, std::string_view object) {
  return impl_->change(kDropJournal, [&](Statement& statement) {
    statement.bind(1, kind);
    statement.bind(2, object);
  });
}

}  // namespace bpfnet::ipam
