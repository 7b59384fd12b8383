#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/address.h"
#include "base/result.h"

// The little of SQLite that the store needs, with errors as Results. Private to this directory.
namespace bpfnet::ipam {

struct SqliteCloser {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

/// A prepared statement, kept by its owner and run again and again. Bind, then step; reset() before reuse.
class Statement {
 public:
  static Result<Statement> prepare(sqlite3* db, const char* sql);

  /// Text; also bytes, which come back as they were.
  void bind(int at, std::string_view text) {
    // Without an address it would be NULL, and an empty view need not have one.
    const char* bytes = text.empty() ? "" : text.data();
    sqlite3_bind_text(get(), at, bytes, static_cast<int>(text.size()), SQLITE_TRANSIENT);
  }
  void bind(int at, int64_t number) { sqlite3_bind_int64(get(), at, number); }
  void bind(int at, const Address& address) {
    sqlite3_bind_blob(get(), at, address.bytes().data(), 16, SQLITE_TRANSIENT);
  }

  /// true: a row is there; false: done.
  Result<bool> step();
  /// Runs to the end, ignoring rows; resets.
  Status run();
  void reset() {
    sqlite3_reset(get());
    sqlite3_clear_bindings(get());
  }

  [[nodiscard]] std::string text(int column) const;
  [[nodiscard]] int64_t number(int column) const { return sqlite3_column_int64(get(), column); }
  [[nodiscard]] Address address(int column) const;

 private:
  [[nodiscard]] sqlite3_stmt* get() const { return statement_.get(); }
  std::unique_ptr<sqlite3_stmt, SqliteCloser> statement_;
};

/// Resets a statement at the end of the scope, so that no read transaction stays open.
class StatementUse {
 public:
  explicit StatementUse(Statement& statement) : statement_(statement) { statement_.reset(); }
  StatementUse(const StatementUse&) = delete;
  StatementUse& operator=(const StatementUse&) = delete;
  ~StatementUse() { statement_.reset(); }
  Statement* operator->() { return &statement_; }
  Statement& operator*() { return statement_; }

 private:
  Statement& statement_;
};

Status execute(sqlite3* db, const char* sql);

/// BEGIN IMMEDIATE; rolled back at the end of the scope unless committed.
class Transaction {
 public:
  static Result<Transaction> begin(sqlite3* db);
  Transaction(Transaction&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Status commit();

 private:
  explicit Transaction(sqlite3* db) : db_(db) {}
  sqlite3* db_;
};

}  // namespace bpfnet::ipam
