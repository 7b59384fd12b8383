#pragma once

#include "control/ipam/records.h"
#include "control/ipam/sqlite.h"

// How records stand in the columns. Private to this directory.
namespace bpfnet::ipam {

/// The row of a query over all endpoint columns.
EndpointRecord read_endpoint(const Statement& row);
/// Binds all endpoint columns.
void bind_endpoint(Statement& statement, const EndpointRecord& record);
/// Binds container ID and interface name at `at` and behind.
void bind_key(Statement& statement, const AttachmentKey& key, int at = 1);

}  // namespace bpfnet::ipam
