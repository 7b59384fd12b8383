#pragma once

#include <array>
#include <cstdint>

// The tables of the store and every statement that touches them. Private to this directory.
namespace bpfnet::ipam {

inline constexpr int kSchemaVersion = 2;
// The size of the datapath's endpoints map; index 0 means none.
inline constexpr int64_t kLastIndex = 4095;

inline constexpr const char* kSchema = R"(
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
PRAGMA user_version = 2;
)";

// 1 to 2: a line of `host_ports` may end with the number of ports in a range. The lines of 1 stay as they
// are: one port each. The number keeps an older program from reading what it does not know.
inline constexpr const char* kFromSchema1 = "PRAGMA user_version = 2;";

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
  kListBlobs,
  kPutBlob,
  kDropBlob,
  kListJournal,
  kAddJournal,
  kDropJournal,
  kQueries,
};

#define BPFNET_ENDPOINT_COLUMNS                                                                              \
  "container_id, ifname, network, netns, pod_namespace, pod_name, pod_uid, idx, host_ifname, mac, host_mac," \
  " mtu, ips, host_ports, delegated_ipam, state"

inline constexpr std::array<const char*, kQueries> kSql = {
    /* kListEndpoints */ "SELECT " BPFNET_ENDPOINT_COLUMNS " FROM endpoints ORDER BY idx",
    /* kGetEndpoint */
    "SELECT " BPFNET_ENDPOINT_COLUMNS " FROM endpoints WHERE container_id=?1 AND ifname=?2",
    /* kPutEndpoint */
    "INSERT INTO endpoints (" BPFNET_ENDPOINT_COLUMNS
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
    /* kListBlobs */ "SELECT name, value FROM blobs WHERE name>?1 AND name<?2 ORDER BY name",
    /* kPutBlob */ "INSERT OR REPLACE INTO blobs (name, value) VALUES (?1,?2)",
    /* kDropBlob */ "DELETE FROM blobs WHERE name=?1",
    /* kListJournal */ "SELECT kind, object, before, after FROM journal ORDER BY id",
    /* kAddJournal */
    "INSERT INTO journal (kind, object, before, after) VALUES (?1,?2,?3,?4)"
    " ON CONFLICT (kind, object) DO UPDATE SET after=?4",
    /* kDropJournal */ "DELETE FROM journal WHERE kind=?1 AND object=?2",
};

#undef BPFNET_ENDPOINT_COLUMNS

}  // namespace bpfnet::ipam
