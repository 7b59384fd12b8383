#include "control/objects/store.h"

namespace bpfnet::objects {

std::string_view to_string(Action action) {
  switch (action) {
    case Action::kCreated:
      return "created";
    case Action::kConfigured:
      return "configured";
    case Action::kUnchanged:
      return "unchanged";
    case Action::kDeleted:
      return "deleted";
  }
  return "";
}

}  // namespace bpfnet::objects
