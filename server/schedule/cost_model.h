// SPDX-License-Identifier: Apache-2.0
//
// How long work takes: nanoseconds as a linear function of its WorkCost, learnt for each class (model and
// precision) from whole batches by recursive least squares.
#ifndef HEADLIGHT_SERVER_SCHEDULE_COST_MODEL_H_
#define HEADLIGHT_SERVER_SCHEDULE_COST_MODEL_H_

#include <array>
#include <cstdint>
#include <unordered_map>

#include "server/schedule/ticket.h"

namespace headlight {

// What a class is taken for before anything of it was computed. A guess within a factor of 3 is good enough;
// guess slow rather than fast.
struct CostPrior {
  double ns_per_projection_flop = 1e-2;  // 100 GFLOP/s
  double ns_per_attention_flop = 2e-2;
  double ns_per_byte = 0.2;  // 5 GB/s
  double fixed_ns = 50e3;    // of each batch, whatever its size
};

// Not thread-safe.
class CostModel {
 public:
  // What a class is taken for until it has been observed. Changes nothing of one that is known.
  void Introduce(uint64_t cost_class, const CostPrior& prior);

  // Nanoseconds to compute work of `cost` as one batch, at least 1. A class that was not introduced has
  // CostPrior{}.
  double PredictNs(uint64_t cost_class, const WorkCost& cost) const;

  // The part of every prediction that does not depend on the work: batches pay it once.
  double FixedNs(uint64_t cost_class) const;

  // A batch of `cost` (the sum over its tickets) took real_ns. One batch that was disturbed moves little.
  void Observe(uint64_t cost_class, const WorkCost& cost, double real_ns);

  int64_t num_observed(uint64_t cost_class) const;

 private:
  static constexpr int kTerms = 4;  // projection, attention, bytes, 1
  using Vector = std::array<double, kTerms>;

  struct Line {
    CostPrior prior;
    Vector scale{};  // ns of the prior for one unit: coefficients are learnt in its units, near 1
    Vector theta{};  // the coefficients, in units of `scale`
    std::array<Vector, kTerms> cov{};  // their covariance, symmetric
    double deviation = 0.3;            // typical relative error of late, for telling outliers
    int64_t num_observed = 0;
    int consecutive_outliers = 0;
  };

  static Line MakeLine(const CostPrior& prior);
  static Vector Terms(const Line& line, const WorkCost& cost);
  // Variance of the prediction for `terms` that the coefficients' own uncertainty gives.
  static double Uncertainty(const Line& line, const Vector& terms);
  static void Update(Line& line, const Vector& terms, double error);
  // Adds `variance`, relative, to what each coefficient is uncertain by.
  static void Doubt(Line& line, double variance);
  static void Clip(Line& line);
  const Line& Get(uint64_t cost_class) const;

  Line unknown_ = MakeLine(CostPrior{});
  std::unordered_map<uint64_t, Line> lines_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_COST_MODEL_H_
