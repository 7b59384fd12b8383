// Lists, page by page (K1).
#include <fmt/format.h>

#include "control/kubernetes/reflector.h"

namespace bpfnet::kubernetes {
namespace {

constexpr size_t kPageSize = 500;

}  // namespace

void Reflector::begin_list() {
  seen_.clear();
  send_page({});
}

void Reflector::send_page(const std::string& more) {
  std::string query = fmt::format("limit={}", kPageSize);
  if (!more.empty()) {
    query += "&continue=" + http::encode(more);  // the token carries the version
  } else if (!list_version_.empty()) {
    query += "&resourceVersion=" + http::encode(list_version_);
    // With a limit and without this, servers give exactly that old state, whose watch is as expired as
    // before.
    if (list_version_ != "0") query += "&resourceVersionMatch=NotOlderThan";
  }
  http::Request page = request(query);
  page.stall = config_.times.stall;
  initial_ = false;
  list_.emplace();
  frames_.reset();
  prepare();
  request_ = client_.send(std::move(page),
                          {.head = [this](const http::Head& head) { take_head(head); },
                           .data =
                               [this](std::string_view data) {
                                 hear();
                                 if (head_.status != 200) return keep_error(data);
                                 const Status fed = list_->feed(data, [this](std::string_view json) {
                                   take_item(json);
                                   return true;
                                 });
                                 if (!fed) trouble_ = fed.error().message;
                                 return trouble_.empty();
                               },
                           .done = [this](const http::Outcome& outcome) { end_page(outcome); }});
}

// One that cannot be read keeps nobody else from being told.
void Reflector::take_item(std::string_view json) {
  auto object = reader_.read(json);
  if (!object) object = ObjectReader::salvage(json, object.error().message);
  see(object->name);
  take_object(std::move(*object));
}

void Reflector::end_page(const http::Outcome& outcome) {
  request_ = 0;
  if (outcome.failure != http::Failure::kNone || head_.status != 200) return fail_with(outcome);
  const std::string_view rest = list_->rest();
  if (rest.empty()) return retry("the list ends in its middle");
  const auto end = reader_.read_list_end(rest);
  if (!end) return retry(end.error().message);
  reached();
  if (!end->more.empty()) return send_page(end->more);
  end_list(end->version);
}

void Reflector::end_list(const std::string& version) {
  version_ = version;
  forget_unseen();
  synced();
  begin_watch(false);
}

}  // namespace bpfnet::kubernetes
