// SPDX-License-Identifier: Apache-2.0
#include "server/observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <map>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/text.h"

namespace headlight {
namespace {

// Loads take from milliseconds (a small layer) to minutes (billions of parameters from a cold disk).
const prometheus::Histogram::BucketBoundaries kLoadSeconds = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};

constexpr int kHttpThreads = 2;  // one scraper and one curious human

absl::Status CheckAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(listen.substr(colon + 1), &port) ||
      port < 0 || port > 65535 || listen.find_first_of(", \t") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics-listen: got ", Quoted(listen), ", wanted HOST:PORT"));
  }
  return absl::OkStatus();
}

}  // namespace

class Metrics::Impl {
 public:
  Impl()
      : registry(std::make_shared<prometheus::Registry>()),
        models_loaded(prometheus::BuildGauge()
                          .Name("headlight_models_loaded")
                          .Help("Models that answer requests")
                          .Register(*registry)
                          .Add({})),
        version_info(prometheus::BuildGauge()
                         .Name("headlight_model_version_info")
                         .Help("1 for the version of a model that answers requests")
                         .Register(*registry)),
        loads(prometheus::BuildCounter()
                  .Name("headlight_model_loads_total")
                  .Help("Loads of model versions that ended, by result: ok or error")
                  .Register(*registry)),
        load_seconds(prometheus::BuildHistogram()
                         .Name("headlight_model_load_seconds")
                         .Help("Reading, checking, packing and warming up of a model version")
                         .Register(*registry)
                         .Add({}, kLoadSeconds)),
        memory_bytes(prometheus::BuildGauge()
                         .Name("headlight_model_memory_bytes")
                         .Help("Memory that the packed weights of a model's answering version hold")
                         .Register(*registry)) {}

  std::shared_ptr<prometheus::Registry> registry;
  prometheus::Gauge& models_loaded;
  prometheus::Family<prometheus::Gauge>& version_info;
  prometheus::Family<prometheus::Counter>& loads;
  prometheus::Histogram& load_seconds;
  prometheus::Family<prometheus::Gauge>& memory_bytes;

  struct ModelGauges {
    prometheus::Gauge* version_info;
    prometheus::Gauge* memory_bytes;
  };
  std::mutex mutex;
  std::map<std::string, ModelGauges> models;  // guarded by mutex

  std::unique_ptr<prometheus::Exposer> exposer;  // last: it reads the rest until it is gone

  // Requires mutex.
  void Forget(const std::string& model) {
    const auto gauges = models.find(model);
    if (gauges == models.end()) return;
    version_info.Remove(gauges->second.version_info);
    memory_bytes.Remove(gauges->second.memory_bytes);
    models.erase(gauges);
  }
};

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Create(const std::string& listen) {
  auto impl = std::make_unique<Impl>();
  if (!listen.empty()) {
    const absl::Status address = CheckAddress(listen);
    if (!address.ok()) return address;
    try {
      impl->exposer = std::make_unique<prometheus::Exposer>(listen, kHttpThreads);
    } catch (const std::exception&) {  // civetweb's own words say nothing about the cause
      return absl::UnavailableError(absl::StrCat("--metrics-listen: cannot listen on ", Quoted(listen),
                                                 "; is it in use, or no address of this machine?"));
    }
    impl->exposer->RegisterCollectable(impl->registry);
  }
  return std::unique_ptr<Metrics>(new Metrics(std::move(impl)));
}

Metrics::Metrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Metrics::~Metrics() = default;

int Metrics::port() const {
  return impl_->exposer == nullptr ? 0 : impl_->exposer->GetListeningPorts().front();
}

void Metrics::ModelLoadEnded(const std::string& model, bool ok, double seconds) {
  impl_->loads.Add({{"model", model}, {"result", ok ? "ok" : "error"}}).Increment();
  impl_->load_seconds.Observe(seconds);
}

void Metrics::ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Forget(model);
  prometheus::Gauge& info = impl_->version_info.Add({{"model", model}, {"version", version}});
  prometheus::Gauge& memory = impl_->memory_bytes.Add({{"model", model}});
  info.Set(1);
  memory.Set(static_cast<double>(memory_bytes));
  impl_->models.emplace(model, Impl::ModelGauges{&info, &memory});
  impl_->models_loaded.Set(static_cast<double>(impl_->models.size()));
}

void Metrics::ModelIsGone(const std::string& model) {
  const std::lock_guard lock(impl_->mutex);
  impl_->Forget(model);
  impl_->models_loaded.Set(static_cast<double>(impl_->models.size()));
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(impl_->registry->Collect());
}

}  // namespace headlight
