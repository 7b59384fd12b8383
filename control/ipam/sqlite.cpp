#include "control/ipam/sqlite.h"

#include <array>
#include <cstring>

namespace bpfnet::ipam {
namespace {

tl::unexpected<Error> complain(sqlite3* db, std::string_view operation) {
  return fail("{}: {}", operation, sqlite3_errmsg(db));
}

}  // namespace

Result<Statement> Statement::prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK) {
    return complain(db, fmt::format("prepare `{}`", sql));
  }
  Statement statement;
  statement.statement_.reset(raw);
  return statement;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return complain(sqlite3_db_handle(get()), "step");
}

Status Statement::run() {
  for (;;) {
    auto more = step();
    if (!more || !*more) {
      reset();
      if (!more) return pass(more);
      return ok();
    }
  }
}

std::string Statement::text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(get(), column));
  const int size = sqlite3_column_bytes(get(), column);
  return bytes == nullptr ? std::string{} : std::string(bytes, static_cast<size_t>(size));
}

Address Statement::address(int column) const {
  std::array<uint8_t, 16> bytes{};
  if (sqlite3_column_bytes(get(), column) == 16) {
    std::memcpy(bytes.data(), sqlite3_column_blob(get(), column), bytes.size());
  }
  return Address(bytes);
}

Status execute(sqlite3* db, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return complain(db, fmt::format("`{}`", sql));
  }
  return ok();
}

Result<Transaction> Transaction::begin(sqlite3* db) {
  if (auto begun = execute(db, "BEGIN IMMEDIATE"); !begun) return pass(begun);
  return Transaction(db);
}

Transaction::~Transaction() {
  // A rollback can only fail when SQLite has rolled back by itself already.
  if (db_ != nullptr) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Status Transaction::commit() {
  BPFNET_TRY(execute(db_, "COMMIT"));
  db_ = nullptr;
  return ok();
}

}  // namespace bpfnet::ipam
