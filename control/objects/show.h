#pragma once

#include <string>
#include <vector>

#include "control/objects/store.h"

namespace bpfnet::objects {

/// How `get` shows objects.
enum class Form { kTable, kWide, kJson, kYaml, kName };

struct ShowOptions {
  Form form = Form::kTable;
  bool namespaces = false;  ///< tables have a column for it
  bool single = false;      ///< one object was asked for by name: JSON is the object, not a list
};

/// The objects as text, grouped by kind. Whatever the objects say, this never fails.
std::string show(const std::vector<Stored>& objects, const ShowOptions& options);

}  // namespace bpfnet::objects
