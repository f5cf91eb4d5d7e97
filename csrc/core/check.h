// Checks that throw std::invalid_argument with a sentence for the caller.
#pragma once

#include <sstream>
#include <stdexcept>

namespace osf {

// check(condition, "group_norm_silu: ", channels, " channels do not divide ...") throws when the
// condition does not hold. The parts are only put together on failure.
template <class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) {
    std::ostringstream message;
    (message << ... << parts);
    throw std::invalid_argument(message.str());
  }
}

}  // namespace osf
