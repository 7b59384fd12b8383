#include "control/ipam/store.h"

#include <array>
#include <charconv>
#include <cstring>
#include <mutex>
#include <sstream>

#include "control/ipam/sqlite.h"

namespace bpfnet::ipam {
namespace {

constexpr int kSchemaVersion = 1;
// The size of the datapath's endpoints map; index 0 means none.
constexpr int64_t kLastIndex = 4095;

constexpr const char* kSchema = R"(
CREATE TABLE endpoints (
  container_id TEXT NOT NULL, ifname TEXT NOT NULL, network TEXT NOT NULL, netns TEXT NOT NULL,
  pod_namespace TEXT NOT NULL, pod_name TEXT NOT NULL, pod_uid TEXT NOT NULL,
  idx INTEGER NOT NULL UNIQUE, host_ifname TEXT NOT NULL UNIQUE, mac TEXT NOT NULL, host_mac TEXT NOT NULL,
  mtu INTEGER NOT NULL, ips TEXT NOT NULL, host_ports TEXT NOT NULL, delegated_ipam INTEGER NOT NULL,
  state INTEGER NOT NULL,
  PRIMARY KEY (container_id, ifname)) WITHOUT ROWID;
CREATE TABLE leases (
  address BLOB NOT NULL PRIMARY KEY, network TEXT NOT NULL,
  container_id TEXT NOT NULL, ifname TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX leases_by_owner ON leases (container_id, ifname);
CREATE TABLE cursors (range TEXT NOT NULL PRIMARY KEY, address BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blobs (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE journal (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, object TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
  UNIQUE (kind, object));
PRAGMA user_version = 1;
)";

enum Query : uint8_t {
  kListEndpoints,
  kGetEndpoint,
  kPutEndpoint,
  kSetState,
  kDropEndpoint,
  kFreeIndex,
  kListLeases,
  kLeasesOf,
  kDropLeases,
  kCountLeases,
  kLeaseOwner,
  kLeasesFrom,
  kTakeLease,
  kGetCursor,
  kPutCursor,
  kGetBlob,
  kPutBlob,
  kDropBlob,
  kListJournal,
  kAddJournal,
  kDropJournal,
  kQueries,
};

#define ENDPOINT_COLUMNS                                                                                     \
  "container_id, ifname, network, netns, pod_namespace, pod_name, pod_uid, idx, host_ifname, mac, host_mac," \
  " mtu, ips, host_ports, delegated_ipam, state"

constexpr std::array<const char*, kQueries> kSql = {
    /* kListEndpoints */ "SELECT " ENDPOINT_COLUMNS " FROM endpoints ORDER BY idx",
    /* kGetEndpoint */ "SELECT " ENDPOINT_COLUMNS " FROM endpoints WHERE container_id=?1 AND ifname=?2",
    /* kPutEndpoint */
    "INSERT INTO endpoints (" ENDPOINT_COLUMNS
    ") VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)"
    " ON CONFLICT (container_id, ifname) DO UPDATE SET network=?3, netns=?4, pod_namespace=?5, pod_name=?6,"
    " pod_uid=?7, idx=?8, host_ifname=?9, mac=?10, host_mac=?11, mtu=?12, ips=?13, host_ports=?14,"
    " delegated_ipam=?15, state=?16",
    /* kSetState */ "UPDATE endpoints SET state=?3 WHERE container_id=?1 AND ifname=?2",
    /* kDropEndpoint */ "DELETE FROM endpoints WHERE container_id=?1 AND ifname=?2",
    // The first free number after ?1: either the very next one, or one above a taken one.
    /* kFreeIndex */
    "SELECT min(n) FROM (SELECT ?1 + 1 AS n UNION ALL SELECT idx + 1 FROM endpoints WHERE idx > ?1)"
    " WHERE n <= ?2 AND n NOT IN (SELECT idx FROM endpoints)",
    /* kListLeases */ "SELECT address, network, container_id, ifname FROM leases ORDER BY address",
    /* kLeasesOf */ "SELECT address FROM leases WHERE container_id=?1 AND ifname=?2 ORDER BY address",
    /* kDropLeases */ "DELETE FROM leases WHERE container_id=?1 AND ifname=?2",
    /* kCountLeases */ "SELECT count(*) FROM leases WHERE address BETWEEN ?1 AND ?2",
    /* kLeaseOwner */ "SELECT container_id, ifname FROM leases WHERE address=?1",
    /* kLeasesFrom */ "SELECT address FROM leases WHERE address BETWEEN ?1 AND ?2 ORDER BY address",
    /* kTakeLease */ "INSERT INTO leases (address, network, container_id, ifname) VALUES (?1,?2,?3,?4)",
    /* kGetCursor */ "SELECT address FROM cursors WHERE range=?1",
    /* kPutCursor */ "INSERT OR REPLACE INTO cursors (range, address) VALUES (?1,?2)",
    /* kGetBlob */ "SELECT value FROM blobs WHERE name=?1",
    /* kPutBlob */ "INSERT OR REPLACE INTO blobs (name, value) VALUES (?1,?2)",
    /* kDropBlob */ "DELETE FROM blobs WHERE name=?1",
    /* kListJournal */ "SELECT kind, object, before, after FROM journal ORDER BY id",
    /* kAddJournal */
    "INSERT INTO journal (kind, object, before, after) VALUES (?1,?2,?3,?4)"
    " ON CONFLICT (kind, object) DO UPDATE SET after=?4",
    /* kDropJournal */ "DELETE FROM journal WHERE kind=?1 AND object=?2",
};

std::string join_ips(const std::vector<Address>& ips) {
  std::string text;
  for (const Address& ip : ips) text += (text.empty() ? "" : " ") + ip.to_string();
  return text;
}

std::vector<Address> split_ips(const std::string& text) {
  std::vector<Address> ips;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (auto ip = Address::parse(word)) ips.push_back(*ip);
  }
  return ips;
}

// `6 8080 80 *` for every port, one a line.
std::string join_ports(const std::vector<HostPort>& ports) {
  std::string text;
  for (const HostPort& port : ports) {
    text += fmt::format("{} {} {} {}\n", static_cast<int>(port.protocol), port.host_port, port.container_port,
                        port.host_ip ? port.host_ip->to_string() : "*");
  }
  return text;
}

std::vector<HostPort> split_ports(const std::string& text) {
  std::vector<HostPort> ports;
  std::istringstream words(text);
  int protocol = 0;
  HostPort port;
  for (std::string ip; words >> protocol >> port.host_port >> port.container_port >> ip;) {
    port.protocol = static_cast<model::Protocol>(protocol);
    port.host_ip.reset();
    if (auto address = Address::parse(ip)) port.host_ip = *address;
    ports.push_back(port);
  }
  return ports;
}

EndpointRecord read_endpoint(const Statement& row) {
  EndpointRecord record;
  record.key = {row.text(0), row.text(1)};
  record.network = row.text(2);
  record.netns = row.text(3);
  record.pod = {row.text(4), row.text(5)};
  record.pod_uid = row.text(6);
  record.index = static_cast<uint16_t>(row.number(7));
  record.host_ifname = row.text(8);
  record.mac = Mac::parse(row.text(9)).value_or(Mac{});
  record.host_mac = Mac::parse(row.text(10)).value_or(Mac{});
  record.mtu = static_cast<uint32_t>(row.number(11));
  record.ips = split_ips(row.text(12));
  record.host_ports = split_ports(row.text(13));
  record.delegated_ipam = row.number(14) != 0;
  record.state = static_cast<EndpointState>(row.number(15));
  return record;
}

void bind_key(Statement& statement, const AttachmentKey& key, int at = 1) {
  statement.bind(at, key.container_id);
  statement.bind(at + 1, key.ifname);
}

}  // namespace

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
    if (found != 0)
      return fail("schema version {}: this program knows {}; use the newer one", found, kSchemaVersion);
    auto transaction = Transaction::begin(db.get());
    if (!transaction) return pass(transaction);
    BPFNET_TRY(execute(db.get(), kSchema));
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
    bind_key(*put, record.key);
    put->bind(3, record.network);
    put->bind(4, record.netns);
    put->bind(5, record.pod.ns);
    put->bind(6, record.pod.name);
    put->bind(7, record.pod_uid);
    put->bind(8, int64_t{record.index});
    put->bind(9, record.host_ifname);
    put->bind(10, record.mac.to_string());
    put->bind(11, record.host_mac.to_string());
    put->bind(12, int64_t{record.mtu});
    put->bind(13, join_ips(record.ips));
    put->bind(14, join_ports(record.host_ports));
    put->bind(15, int64_t{record.delegated_ipam});
    put->bind(16, static_cast<int64_t>(record.state));
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
