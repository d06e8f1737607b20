// SPDX-License-Identifier: Apache-2.0
//
// What predictions of each size have come to: a factor for each half octave of predicted time. It mends what
// a line cannot describe (caches, the tail of a tile), and where predictions scatter it pulls them to what
// requests of that prediction took on average, which is nearer to the truth than the prediction itself.
#ifndef HEADLIGHT_SERVER_SCHEDULE_SIZE_CORRECTION_H_
#define HEADLIGHT_SERVER_SCHEDULE_SIZE_CORRECTION_H_

#include <array>
#include <cstddef>
#include <span>

namespace headlight {

// Not thread-safe.
class SizeCorrection {
 public:
  // What a prediction of predicted_ns is to be multiplied with; 1 as long as nothing is known of its size.
  double Factor(double predicted_ns) const;

  // Tickets of these predictions were one batch and took real_ns.
  void Observe(std::span<const double> predicted_ns, double real_ns);

 private:
  struct Size {
    double predicted_ns = 0;  // sums that fade
    double real_ns = 0;
  };

  static constexpr size_t kSizes =
      56;  // from 1 us to beyond 4 minutes; smaller and larger ones share the last
  static size_t SizeOf(double predicted_ns);

  std::array<Size, kSizes> sizes_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_SIZE_CORRECTION_H_
