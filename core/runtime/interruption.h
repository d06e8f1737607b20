// SPDX-License-Identifier: Apache-2.0
//
// What long work asks between two tiles.
#ifndef HEADLIGHT_CORE_RUNTIME_INTERRUPTION_H_
#define HEADLIGHT_CORE_RUNTIME_INTERRUPTION_H_

namespace headlight {

// Of one body of an arena. To be asked about every 100 us.
class Interruption {
 public:
  // False once nobody waits for what the body computes: it then ends as it is, since what it leaves is
  // unspecified. Else waits while the arena is paused. A few loads.
  virtual bool MayGoOn() const = 0;

 protected:
  ~Interruption() = default;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_INTERRUPTION_H_
