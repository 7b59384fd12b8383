#pragma once

#include <string>
#include <string_view>

#include "control/cni/error.h"
#include "control/cni/types.h"

// The local API's JSON for CNI, read and written by plugin and agent alike. Decoding errors are code 6 or,
// where a value is wrong, 7.
namespace bpfnet::cni {

std::string encode(const AddRequest& request);
std::string encode(const DeleteRequest& request);
std::string encode(const CheckRequest& request);
std::string encode(const GcRequest& request);
std::string encode(const AddReply& reply);
/// `{"error":{"code":N,"message":"...","details":"..."}}`
std::string encode(const CniError& error);

CniResult<AddRequest> decode_add(std::string_view text);
CniResult<DeleteRequest> decode_delete(std::string_view text);
CniResult<CheckRequest> decode_check(std::string_view text);
CniResult<GcRequest> decode_gc(std::string_view text);
CniResult<AddReply> decode_reply(std::string_view text);
/// The error an HTTP answer carries; for one that is not ours, code 999 with its text.
CniError decode_error(int http_status, std::string_view text);

}  // namespace bpfnet::cni
