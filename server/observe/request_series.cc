// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_series.h"

#include <prometheus/client_metric.h>

#include <algorithm>

#include "server/schedule/ticket.h"

namespace headlight {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Histogram;
using prometheus::Registry;

// From a tiny request on an idle server to what nobody waits for any more.
const Histogram::BucketBoundaries kRequestSeconds = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};

double SecondsOf(int64_t us) { return static_cast<double>(us) / 1e6; }

// The quantile of what `histogram` has seen, within the bucket where it lies in proportion.
double QuantileOf(const prometheus::ClientMetric::Histogram& histogram, double quantile) {
  const double rank = quantile * static_cast<double>(histogram.sample_count);
  double below = 0;
  double lower_bound = 0;
  for (const auto& bucket : histogram.bucket) {
    const auto count = static_cast<double>(bucket.cumulative_count);
    if (count >= rank && count > below) {
      const double upper_bound = std::min(bucket.upper_bound, kRequestSeconds.back());
      return lower_bound + (upper_bound - lower_bound) * (rank - below) / (count - below);
    }
    below = count;
    lower_bound = bucket.upper_bound;
  }
  return kRequestSeconds.back();
}

}  // namespace

RequestFamilies::RequestFamilies(Registry& registry)
    : duration(BuildHistogram()
                   .Name("headlight_request_duration_seconds")
                   .Help("From a request's last byte to the handing over of its reply or error")
                   .Register(registry)),
      queue(BuildHistogram()
                .Name("headlight_request_queue_seconds")
                .Help("From a request's last byte to the start of its batch, or to its end without one")
                .Register(registry)),
      compute(BuildHistogram()
                  .Name("headlight_request_compute_seconds")
                  .Help("Computing the batch that a request was in")
                  .Register(registry)),
      encode(BuildHistogram()
                 .Name("headlight_request_encode_seconds")
                 .Help("Writing the reply to a request")
                 .Register(registry)),
      requests(BuildCounter()
                   .Name("headlight_requests_total")
                   .Help("Requests that ended, by model, method and code; each of a stream's counts")
                   .Register(registry)),
      tokens(BuildCounter()
                 .Name("headlight_tokens_total")
                 .Help("Tokens of requests that were answered")
                 .Register(registry)),
      sequences(BuildCounter()
                    .Name("headlight_sequences_total")
                    .Help("Sequences of requests that were answered")
                    .Register(registry)),
      request_bytes(BuildCounter()
                        .Name("headlight_request_bytes_total")
                        .Help("Bytes of messages of requests, refused ones included")
                        .Register(registry)),
      reply_bytes(BuildCounter()
                      .Name("headlight_reply_bytes_total")
                      .Help("Bytes of messages of replies")
                      .Register(registry)),
      copied_bytes(BuildCounter()
                       .Name("headlight_copied_bytes_total")
                       .Help("Payload bytes copied, widened or narrowed into batches and out of them")
                       .Register(registry)),
      saved(BuildCounter()
                .Name("headlight_saved_cpu_seconds_total")
                .Help("CPU time that was predicted and that cancellations and passed deadlines left out")
                .Register(registry)) {}

RequestSeries::RequestSeries(RequestFamilies& families, std::string model, int compute_threads)
    : families_(families),
      model_(std::move(model)),
      compute_threads_(compute_threads),
      tokens_(families.tokens.Add({{"model", model_}})),
      sequences_(families.sequences.Add({{"model", model_}})),
      request_bytes_(families.request_bytes.Add({{"model", model_}})),
      reply_bytes_(families.reply_bytes.Add({{"model", model_}})),
      copied_bytes_(families.copied_bytes.Add({{"model", model_}})),
      saved_(families.saved.Add({{"model", model_}})) {}

RequestSeries::~RequestSeries() {
  for (OfCode& of_code : codes_) {
    families_.duration.Remove(of_code.duration);
    families_.queue.Remove(of_code.queue);
    families_.compute.Remove(of_code.compute);
    families_.encode.Remove(of_code.encode);
    for (const auto& [method, counter] : of_code.requests) families_.requests.Remove(counter);
  }
  families_.tokens.Remove(&tokens_);
  families_.sequences.Remove(&sequences_);
  families_.request_bytes.Remove(&request_bytes_);
  families_.reply_bytes.Remove(&reply_bytes_);
  families_.copied_bytes.Remove(&copied_bytes_);
  families_.saved.Remove(&saved_);
}

void RequestSeries::RequestEnded(const RequestRecord& record) {
  OfCode& of_code = codes_[IndexOf(record.code)];
  RequestsOf(of_code, record).Increment();
  Observe(families_.duration, of_code.duration, record, record.total_us);
  if (record.predicted_us > 0) Observe(families_.queue, of_code.queue, record, record.queue_us);
  if (record.compute_us > 0) Observe(families_.compute, of_code.compute, record, record.compute_us);
  if (record.bytes_in > 0) request_bytes_.Increment(static_cast<double>(record.bytes_in));
  if (record.code == absl::StatusCode::kOk) {
    Observe(families_.encode, of_code.encode, record, record.encode_us);
    tokens_.Increment(static_cast<double>(record.tokens));
    sequences_.Increment(static_cast<double>(record.sequences));
    reply_bytes_.Increment(static_cast<double>(record.bytes_out));
    copied_bytes_.Increment(static_cast<double>(record.bytes_copied));
  } else if (record.reason == kReasonCancelled || record.reason == kReasonDeadlinePassed) {
    saved_.Increment(compute_threads_ *
                     SecondsOf(std::max<int64_t>(0, record.predicted_us - record.compute_us)));
  }
}

bool RequestSeries::Latency(ModelLatency& latency) const {
  const Histogram* answered = codes_[IndexOf(absl::StatusCode::kOk)].duration;
  if (answered == nullptr) return false;
  const prometheus::ClientMetric::Histogram histogram = answered->Collect().histogram;
  latency = {model_, static_cast<int64_t>(histogram.sample_count), QuantileOf(histogram, 0.5),
             QuantileOf(histogram, 0.99)};
  return true;
}

size_t RequestSeries::IndexOf(absl::StatusCode code) {
  const auto index = static_cast<size_t>(code);
  return index < kNumCodes ? index : static_cast<size_t>(absl::StatusCode::kUnknown);
}

void RequestSeries::Observe(prometheus::Family<Histogram>& family, Histogram*& histogram,
                            const RequestRecord& record, int64_t us) {
  if (histogram == nullptr) {
    histogram =
        &family.Add({{"model", model_}, {"code", absl::StatusCodeToString(record.code)}}, kRequestSeconds);
  }
  histogram->Observe(SecondsOf(us));
}

Counter& RequestSeries::RequestsOf(OfCode& of_code, const RequestRecord& record) {
  for (const auto& [method, counter] : of_code.requests) {
    if (method == record.method) return *counter;
  }
  Counter& counter = families_.requests.Add(
      {{"model", model_}, {"method", record.method}, {"code", absl::StatusCodeToString(record.code)}});
  of_code.requests.emplace_back(record.method, &counter);
  return counter;
}

}  // namespace headlight
