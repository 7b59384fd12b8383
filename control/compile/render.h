#pragma once

#include <string>

#include "control/compile/images.h"

namespace bpfnet::compile {

/// The images as text, one thing a line and in a fixed order: for golden files and for comparing two
/// compiles.
std::string render(const ServiceImage& image);
std::string render(const PolicyImage& image);

}  // namespace bpfnet::compile
