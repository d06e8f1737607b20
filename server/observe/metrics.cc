// SPDX-License-Identifier: Apache-2.0
#include "server/observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <mutex>

#include "server/observe/batch_metrics.h"
#include "server/observe/process_metrics.h"

namespace headlight {
namespace {

// Loads take from milliseconds (a small layer) to minutes (billions of parameters from a cold disk).
const prometheus::Histogram::BucketBoundaries kLoadSeconds = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};

}  // namespace

class Metrics::Impl {
 public:
  explicit Impl(int compute_threads)
      : requests(registry, compute_threads),
        batches(registry),
        models_loaded(prometheus::BuildGauge()
                          .Name("headlight_models_loaded")
                          .Help("Models that answer requests")
                          .Register(registry)
                          .Add({})),
        version_info(prometheus::BuildGauge()
                         .Name("headlight_model_version_info")
                         .Help("1 for the version of a model that answers requests")
                         .Register(registry)),
        loads(prometheus::BuildCounter()
                  .Name("headlight_model_loads_total")
                  .Help("Loads of model versions that ended, by result: ok or error")
                  .Register(registry)),
        load_seconds(prometheus::BuildHistogram()
                         .Name("headlight_model_load_seconds")
                         .Help("Reading, checking, packing and warming up of a model version")
                         .Register(registry)
                         .Add({}, kLoadSeconds)),
        memory_bytes(prometheus::BuildGauge()
                         .Name("headlight_model_memory_bytes")
                         .Help("Memory that the packed weights of a model's answering version hold")
                         .Register(registry)) {}

  // What somebody else counts.
  struct Watched {
    std::string name;
    std::string help;
    Metrics::Kind kind;
    std::function<Metrics::Values()> read;

    prometheus::MetricFamily Collect() const {
      const bool counts = kind == Metrics::Kind::kCounter;
      const auto type = counts ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
      prometheus::MetricFamily family = {name, help, type, {}};
      for (const auto& [labels, value] : read()) {
        prometheus::ClientMetric& metric = family.metric.emplace_back();
        for (const auto& [label, text] : labels) metric.label.push_back({label, text});
        (counts ? metric.counter.value : metric.gauge.value) = value;
      }
      return family;
    }
  };

  // What is told of one model; null: nothing yet, or not while it does not serve.
  struct Model {
    prometheus::Gauge* version_info = nullptr;
    prometheus::Gauge* memory_bytes = nullptr;
    prometheus::Counter* ok_loads = nullptr;
    prometheus::Counter* failed_loads = nullptr;
  };

  // All of these require mutex.
  Model& Know(const std::string& name) {
    const auto [model, is_new] = models.try_emplace(name);
    if (!is_new) return model->second;
    requests.Know(name);
    idle.push_back(name);
    DropOldest();
    return model->second;
  }
  void DropOldest() {
    if (idle.size() <= kModelsKept) return;
    const auto model = models.find(idle.front());
    loads.Remove(model->second.ok_loads);
    loads.Remove(model->second.failed_loads);
    requests.Forget(model->first);
    models.erase(model);
    idle.pop_front();
  }
  void StopsServing(Model& model) {
    version_info.Remove(std::exchange(model.version_info, nullptr));
    memory_bytes.Remove(std::exchange(model.memory_bytes, nullptr));
  }
  void CountModels() { models_loaded.Set(static_cast<double>(models.size() - idle.size())); }

  prometheus::Registry registry;
  RequestMetrics requests;
  BatchMetrics batches;
  const ProcessMetrics process;
  prometheus::Gauge& models_loaded;
  prometheus::Family<prometheus::Gauge>& version_info;
  prometheus::Family<prometheus::Counter>& loads;
  prometheus::Histogram& load_seconds;
  prometheus::Family<prometheus::Gauge>& memory_bytes;

  mutable std::mutex mutex;
  std::map<std::string, Model>
      models;                    // guarded by mutex, as is all below: those that serve and those in `idle`
  std::deque<std::string> idle;  // models that do not serve, the one that has not for the longest first
  std::vector<Watched> watched;
};

Metrics::Metrics(int compute_threads) : impl_(std::make_unique<Impl>(compute_threads)) {}
Metrics::~Metrics() = default;

void Metrics::RequestEnded(const RequestRecord& record) { impl_->requests.RequestEnded(record); }

void Metrics::BatchEnded(const BatchFacts& batch) { impl_->batches.BatchEnded(batch); }

void Metrics::ModelLoadBegan(const std::string&, const std::string&) {}

void Metrics::ModelLoadEnded(const std::string& model, const std::string&, const absl::Status& status,
                             double seconds) {
  impl_->load_seconds.Observe(seconds);
  const std::lock_guard lock(impl_->mutex);
  Impl::Model& known = impl_->Know(model);
  prometheus::Counter*& counter = status.ok() ? known.ok_loads : known.failed_loads;
  if (counter == nullptr) {
    counter = &impl_->loads.Add({{"model", model}, {"result", status.ok() ? "ok" : "error"}});
  }
  counter->Increment();
}

void Metrics::ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Model& known = impl_->Know(model);
  impl_->StopsServing(known);
  known.version_info = &impl_->version_info.Add({{"model", model}, {"version", version}});
  known.memory_bytes = &impl_->memory_bytes.Add({{"model", model}});
  known.version_info->Set(1);
  known.memory_bytes->Set(static_cast<double>(memory_bytes));
  const auto idle = std::find(impl_->idle.begin(), impl_->idle.end(), model);
  if (idle != impl_->idle.end()) impl_->idle.erase(idle);
  impl_->CountModels();
}

void Metrics::ModelIsGone(const std::string& model) {
  const std::lock_guard lock(impl_->mutex);
  const auto known = impl_->models.find(model);
  if (known == impl_->models.end() || known->second.version_info == nullptr) return;
  impl_->StopsServing(known->second);
  impl_->idle.push_back(model);
  impl_->DropOldest();
  impl_->CountModels();
}

void Metrics::SetGemmPeak(double flops_per_s) { impl_->batches.SetGemmPeak(flops_per_s); }

void Metrics::Watch(const std::string& name, const std::string& help, Kind kind,
                    std::function<Values()> read) {
  const std::lock_guard lock(impl_->mutex);
  impl_->watched.push_back({name, help, kind, std::move(read)});
}

void Metrics::WatchOne(const std::string& name, const std::string& help, Kind kind,
                       std::function<double()> read) {
  Watch(name, help, kind, [read = std::move(read)] { return Values{{{}, read()}}; });
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  const std::vector<prometheus::MetricFamily> process = impl_->process.Collect();
  families.insert(families.end(), process.begin(), process.end());
  std::vector<Impl::Watched> watched;
  {
    const std::lock_guard lock(impl_->mutex);
    watched = impl_->watched;
  }
  for (const Impl::Watched& value : watched) families.push_back(value.Collect());
  std::erase_if(families, [](const prometheus::MetricFamily& family) { return family.metric.empty(); });
  return prometheus::TextSerializer().Serialize(families);
}

std::vector<ModelLatency> Metrics::Latencies() const { return impl_->requests.Latencies(); }

std::map<std::string, int64_t> Metrics::Refusals() const { return impl_->requests.Refusals(); }

}  // namespace headlight
