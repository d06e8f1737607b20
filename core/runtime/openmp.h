// SPDX-License-Identifier: Apache-2.0
//
// oneDNN's own threads, which are OpenMP's: there is one, since parallelism is the arena's.
#ifndef HEADLIGHT_CORE_RUNTIME_OPENMP_H_
#define HEADLIGHT_CORE_RUNTIME_OPENMP_H_

#include <omp.h>

namespace headlight {

// While it lives, parallel regions of the calling thread have one thread; so has for good what oneDNN makes
// meanwhile.
class OneOpenMpThread {
 public:
  OneOpenMpThread() {
    if (saved_ != 1) omp_set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (saved_ != 1) omp_set_num_threads(saved_);
  }

 private:
  const int saved_ = omp_get_max_threads();
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_OPENMP_H_
