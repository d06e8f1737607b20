// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/cost_model.h"

#include <algorithm>
#include <cmath>

namespace headlight {
namespace {

// In units of the prior's coefficients, and relative to the time of the batch.
constexpr double kPriorVariance = 4;     // the prior may be wrong by a factor of 3
constexpr double kNoiseVariance = 0.01;  // real times differ from a line by about 10 %
// Coefficients wander, each by so much of itself from one batch to the next (a variance): what a batch says
// is half forgotten after some 140. Of a coefficient that batches say nothing about, what was known holds.
constexpr double kWander = kNoiseVariance * 0.005 * 0.005;
constexpr double kLeastCoefficient = 0.1;  // that one of 0 is taken for, so that it can come back
constexpr double kMaxCoefficient = 100;
constexpr double kOutlier = 3;    // deviations
constexpr int kTrustedAfter = 8;  // batches; before that every one counts in full
constexpr int kChangedAfter = 6;  // outliers in a row: it is the line that is wrong

}  // namespace

CostModel::Line CostModel::MakeLine(const CostPrior& prior) {
  Line line;
  line.prior = prior;
  line.scale = {std::max(prior.ns_per_projection_flop, 1e-9), std::max(prior.ns_per_attention_flop, 1e-9),
                std::max(prior.ns_per_byte, 1e-9), std::max(prior.fixed_ns, 1.0)};
  line.theta.fill(1);
  for (int i = 0; i < kTerms; ++i) line.cov[i][i] = kPriorVariance;
  return line;
}

CostModel::Vector CostModel::Terms(const Line& line, const WorkCost& cost) {
  return {cost.projection_flops * line.scale[0], cost.attention_flops * line.scale[1],
          cost.bytes * line.scale[2], line.scale[3]};
}

void CostModel::Introduce(uint64_t cost_class, const CostPrior& prior) {
  lines_.try_emplace(cost_class, MakeLine(prior));
}

const CostModel::Line& CostModel::Get(uint64_t cost_class) const {
  const auto line = lines_.find(cost_class);
  return line == lines_.end() ? unknown_ : line->second;
}

double CostModel::PredictNs(uint64_t cost_class, const WorkCost& cost) const {
  const Line& line = Get(cost_class);
  const Vector terms = Terms(line, cost);
  double ns = 0;
  for (int i = 0; i < kTerms; ++i) ns += terms[i] * line.theta[i];
  return std::max(ns, 1.0);
}

double CostModel::FixedNs(uint64_t cost_class) const {
  const Line& line = Get(cost_class);
  return line.scale[3] * line.theta[3];
}

int64_t CostModel::num_observed(uint64_t cost_class) const { return Get(cost_class).num_observed; }

void CostModel::Observe(uint64_t cost_class, const WorkCost& cost, double real_ns) {
  if (!(real_ns > 0) || !std::isfinite(real_ns)) return;
  Line& line = lines_.try_emplace(cost_class, unknown_).first->second;
  const double predicted_ns = PredictNs(cost_class, cost);
  // Everything relative to the longer of the two times: a long batch then weighs no more than a short one,
  // and a batch that took far longer than predicted does not weigh more than its share either.
  const double whole_ns = std::max(predicted_ns, real_ns);
  Vector terms = Terms(line, cost);
  for (double& term : terms) term /= whole_ns;
  const double error = (real_ns - predicted_ns) / whole_ns;
  ++line.num_observed;

  // What is usual: the scatter of late, and how little is known of work like this.
  const double scatter = std::max(line.deviation, 0.03);
  const double usual = kOutlier * std::sqrt(scatter * scatter + Uncertainty(line, terms));
  const bool outlier = line.num_observed > kTrustedAfter && std::abs(error) > usual;
  line.consecutive_outliers = outlier ? line.consecutive_outliers + 1 : 0;
  if (line.consecutive_outliers >= kChangedAfter) {
    Doubt(line, kPriorVariance / 4);
    line.consecutive_outliers = 0;
    Update(line, terms, error);
  } else {
    Update(line, terms, outlier ? std::copysign(usual * usual / std::abs(error), error) : error);
  }
  Doubt(line, kWander);
  line.deviation += (std::min(std::abs(error), 2 * kOutlier * scatter) - line.deviation) / 32;
  Clip(line);
}

double CostModel::Uncertainty(const Line& line, const Vector& terms) {
  double variance = 0;
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) variance += terms[i] * line.cov[i][j] * terms[j];
  }
  return std::max(variance, 0.0);
}

void CostModel::Update(Line& line, const Vector& terms, double error) {
  Vector spread{};  // cov * terms
  double variance = kNoiseVariance;
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) spread[i] += line.cov[i][j] * terms[j];
    variance += terms[i] * spread[i];
  }
  for (int i = 0; i < kTerms; ++i) {
    line.theta[i] += spread[i] / variance * error;
    for (int j = 0; j < kTerms; ++j) line.cov[i][j] -= spread[i] * spread[j] / variance;
  }
}

void CostModel::Doubt(Line& line, double variance) {
  for (int i = 0; i < kTerms; ++i) {
    const double coefficient = std::max(line.theta[i], kLeastCoefficient);
    line.cov[i][i] += variance * coefficient * coefficient;
  }
}

void CostModel::Clip(Line& line) {
  for (double& coefficient : line.theta) coefficient = std::clamp(coefficient, 0.0, kMaxCoefficient);
}

}  // namespace headlight
