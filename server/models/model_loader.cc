// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_loader.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/models/load_error.h"
#include "server/models/model_log.h"
#include "server/models/version_order.h"

namespace headlight {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

std::string ModelService(const std::string& name) { return absl::StrCat("models/", name); }

std::string VersionService(const std::string& name, const std::string& version) {
  return absl::StrCat("models/", name, "/", version);
}

absl::Status ShuttingDown() { return absl::UnavailableError("the server is shutting down"); }

bool HasVersion(const std::vector<RepositoryVersion>& versions, const std::string& version) {
  return std::any_of(versions.begin(), versions.end(),
                     [&](const RepositoryVersion& v) { return v.version == version; });
}

}  // namespace

ModelLoader::ModelLoader(ModelLoaderOptions options, ModelRegistry& registry, LoadObserver& observer,
                         MakeModel make)
    : options_(std::move(options)), registry_(registry), observer_(observer), make_(std::move(make)) {}

ModelLoader::~ModelLoader() { Stop(); }

absl::Status ModelLoader::LoadAll() {
  HEADLIGHT_RETURN_IF_ERROR(Look(Trust::kAtOnce));
  if (registry_.List().empty()) {
    spdlog::warn("no model serves; requests get NOT_FOUND or UNAVAILABLE");
  }
  return absl::OkStatus();
}

void ModelLoader::Start(OnHealth on_health) {
  on_health_ = std::move(on_health);
  for (const auto& [service, serving] : health_) on_health_(service, serving);
  thread_ = std::thread([this] { Run(); });
}

void ModelLoader::RequestStop() {
  cancelled_.Cancel();
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  wake_.notify_all();
}

bool ModelLoader::Stop(std::optional<std::chrono::milliseconds> limit) {
  RequestStop();
  std::unique_lock lock(mutex_);
  if (!thread_.joinable()) return !abandoned_;
  const auto ended = [this] { return ended_; };
  if (limit) {
    wake_.wait_for(lock, *limit, ended);
    wake_.wait(lock, [this] { return ended_ || may_hang_; });
  } else {
    wake_.wait(lock, ended);
  }
  abandoned_ = !ended_;
  const std::deque<Request> left = std::exchange(answering_, {});
  const std::deque<Request> waiting = std::exchange(requests_, {});
  lock.unlock();
  if (abandoned_) {
    spdlog::error("loading of models hangs and is left alone; are their files out of reach?");
    thread_.detach();
  } else {
    thread_.join();
  }
  for (const Request& request : left) request.done(ShuttingDown());
  for (const Request& request : waiting) request.done(ShuttingDown());
  return !abandoned_;
}

template <typename F>
auto ModelLoader::MayHang(F f) {
  {
    const std::lock_guard lock(mutex_);
    may_hang_ = true;
    wake_.notify_all();
  }
  auto result = f();
  const std::lock_guard lock(mutex_);
  if (abandoned_) throw Abandoned();
  may_hang_ = false;
  return result;
}

absl::StatusOr<RepositoryScan> ModelLoader::Scan() {
  absl::StatusOr<RepositoryScan> found = MayHang([this]() -> absl::StatusOr<RepositoryScan> {
    RepositoryScan scan;
    if (!options_.repository.empty()) {
      HEADLIGHT_ASSIGN_OR_RETURN(scan, ScanRepository(options_.repository));
    }
    AddModelFolders(options_.folders, scan);
    return scan;
  });
  if (!found.ok()) return found;
  const std::lock_guard lock(mutex_);
  on_disk_.clear();
  for (const auto& [name, versions] : found->models) on_disk_[name] = versions.back().version;
  return found;
}

std::map<std::string, std::string> ModelLoader::OnDisk() const {
  const std::lock_guard lock(mutex_);
  return on_disk_;
}

void ModelLoader::Load(const std::string& name, Done done, const ModelFields& fields) {
  Ask({true, name, fields, std::move(done)});
}

void ModelLoader::Unload(const std::string& name, Done done, const ModelFields& fields) {
  Ask({false, name, fields, std::move(done)});
}

void ModelLoader::Ask(Request request) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_) {
      requests_.push_back(std::move(request));
      wake_.notify_all();
      return;
    }
  }
  request.done(ShuttingDown());
}

void ModelLoader::Run() {
  try {
    RunUntilStopped();
  } catch (const Abandoned&) {
    return;  // nobody waits, and what this object used may be gone
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  wake_.notify_all();
}

void ModelLoader::RunUntilStopped() {
  const bool polls = options_.poll_s > 0;
  const auto pause = std::chrono::duration_cast<SteadyTime::duration>(
      std::chrono::duration<double>(polls ? options_.poll_s : 0));
  SteadyTime next_look = std::chrono::steady_clock::now() + pause;
  const auto called = [this] { return stopped_ || !requests_.empty(); };
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (polls) {
        wake_.wait_until(lock, next_look, called);
      } else {
        wake_.wait(lock, called);
      }
      if (stopped_) return;
      answering_.swap(requests_);
    }
    AnswerRequests();
    if (!polls || std::chrono::steady_clock::now() < next_look) continue;
    const absl::Status status = Look(Trust::kSecondLook);
    const std::string error(status.message());
    if (!status.ok() && error != told_scan_error_) spdlog::error("{}; models stay as they are", error);
    told_scan_error_ = error;
    next_look = std::chrono::steady_clock::now() + pause;
  }
}

void ModelLoader::AnswerRequests() {
  std::unique_lock lock(mutex_);
  while (!answering_.empty()) {
    // Copies: Stop takes the request itself when this hangs.
    const bool load = answering_.front().load;
    const std::string name = answering_.front().name;
    const ModelFields fields = answering_.front().fields;
    lock.unlock();
    const absl::Status status = Answer(load, name, fields);
    lock.lock();
    const Request request = std::move(answering_.front());
    answering_.pop_front();
    lock.unlock();
    request.done(status);
    lock.lock();
  }
}

absl::Status ModelLoader::Look(Trust trust) {
  HEADLIGHT_ASSIGN_OR_RETURN(const RepositoryScan scan, Scan());
  for (const auto& [name, why] : scan.skipped) {
    if (told_skipped_.insert(name).second) spdlog::warn("model repository: {} is passed over: {}", name, why);
  }
  for (const auto& [name, versions] : scan.models) {
    if (cancelled_.IsCancelled()) return absl::OkStatus();
    if (IsWanted(name)) (void)Reconcile(name, versions, trust);  // failures are in the registry and the log
  }
  LookForAbsentModels(scan, trust);
  return absl::OkStatus();
}

void ModelLoader::LookForAbsentModels(const RepositoryScan& scan, Trust trust) {
  std::vector<std::string> gone;
  for (auto& [name, known] : known_) {
    if (scan.models.contains(name)) continue;
    if (trust == Trust::kAtOnce || !known.in_last_look) gone.push_back(name);
    known.in_last_look = false;
    known.seen.clear();
  }
  for (const std::string& name : gone) {
    spdlog::info("model {}: gone from the repository, serves no longer", name);
    TakeOut(name);
  }
  for (const std::string& name : options_.load) {
    if (!IsWanted(name) || scan.models.contains(name) || known_.contains(name)) continue;
    const std::string error = "the repository has no such model";
    if (health_.contains(ModelService(name)) && registry_.LoadErrors().contains(name)) continue;  // told
    spdlog::error("model {} (--load): {}", Quoted(name), error);
    registry_.SetLoadError(name, error);
    TellHealth(ModelService(name), false);
  }
}

absl::Status ModelLoader::Answer(bool load, const std::string& name, const ModelFields& fields) {
  if (cancelled_.IsCancelled()) return ShuttingDown();
  const absl::Status status = load ? LoadNow(name, fields) : UnloadNow(name, fields);
  return absl::IsCancelled(status) ? ShuttingDown() : status;
}

absl::Status ModelLoader::LoadNow(const std::string& name, const ModelFields& fields) {
  const absl::StatusOr<RepositoryScan> found = Scan();
  if (!found.ok()) return ForCallers(found.status(), options_.repository);
  const RepositoryScan& scan = *found;
  const auto versions = scan.models.find(name);
  if (versions == scan.models.end()) {
    const std::string names =
        absl::StrJoin(scan.models, ", ", [](std::string* out, const auto& model) { *out += model.first; });
    return absl::NotFoundError(absl::StrCat(fields.name, ": the repository has no model ", Quoted(name),
                                            "; there is ", names.empty() ? "none" : names));
  }
  wanted_[name] = true;
  known_[name].failures.clear();  // whoever asks wants them tried again
  return Reconcile(name, versions->second, Trust::kAtOnce);
}

absl::Status ModelLoader::UnloadNow(const std::string& name, const ModelFields& fields) {
  if (!known_.contains(name))
    HEADLIGHT_RETURN_IF_ERROR(registry_.Remove(name, fields));  // says what there is
  wanted_[name] = false;
  TakeOut(name);
  spdlog::info("model {}: unloaded on request", name);
  return absl::OkStatus();
}

absl::Status ModelLoader::Reconcile(const std::string& name, const std::vector<RepositoryVersion>& versions,
                                    Trust trust) {
  Known& known = known_[name];
  // Whether a version older than the one that serves may take its place: only if that is gone for sure.
  const bool may_step_back =
      known.version.empty() || (!HasVersion(versions, known.version) &&
                                (trust == Trust::kAtOnce || !known.seen.contains(known.version)));
  absl::Status newest_failure;
  for (auto v = versions.rbegin(); v != versions.rend(); ++v) {
    if (v->version == known.version && v->signature == known.signature) break;
    if (!may_step_back && VersionLess()(v->version, known.version)) break;
    const auto seen = known.seen.find(v->version);
    const bool steady = trust == Trust::kAtOnce || (seen != known.seen.end() && seen->second == v->signature);
    const auto failure = known.failures.find(v->version);
    const bool failed =
        failure != known.failures.end() &&
        (!steady ||
         (failure->second.signature == v->signature &&
          !(absl::IsResourceExhausted(failure->second.status) && HeldBytes() < failure->second.held_bytes)));
    absl::Status status = failed ? failure->second.status : absl::OkStatus();
    if (!failed && steady) {
      status = LoadVersion(name, *v, known);
      if (status.ok() || absl::IsCancelled(status)) {
        if (!status.ok()) newest_failure.Update(status);
        break;
      }
    }
    newest_failure.Update(status.ok()
                              ? status
                              : absl::Status(status.code(), absl::StrCat("version ", v->version, ": ",
                                                                         std::string(status.message()))));
  }
  known.seen.clear();
  for (const RepositoryVersion& v : versions) known.seen[v.version] = v.signature;
  known.in_last_look = true;
  std::erase_if(known.failures, [&](const auto& failure) { return !known.seen.contains(failure.first); });
  registry_.SetLoadError(name, std::string(newest_failure.message()));
  TellHealth(ModelService(name), !known.version.empty());
  return newest_failure;
}

absl::Status ModelLoader::LoadVersion(const std::string& name, const RepositoryVersion& version,
                                      Known& known) {
  const SteadyTime begin = std::chrono::steady_clock::now();
  const int64_t held_bytes = HeldBytes();
  observer_.ModelLoadBegan(name, version.version);
  const auto make = [&]() -> absl::StatusOr<std::shared_ptr<const LoadedModel>> {
    try {
      return make_({name, version, held_bytes}, cancelled_);
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("memory is short");
    } catch (const std::exception& error) {
      return absl::InternalError(error.what());
    }
  };
  absl::StatusOr<std::shared_ptr<const LoadedModel>> model = MayHang(make);
  if (absl::IsCancelled(model.status())) return model.status();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  observer_.ModelLoadEnded(name, version.version, model.status(), seconds.count());
  if (!model.ok()) {
    Fail(name, version, model.status(), known);
    return known.failures[version.version].status;
  }
  const int64_t bytes = (*model)->model.packed_bytes();
  alive_.emplace_back(*model, bytes);
  LogModel(**model);
  observer_.ModelServes(name, version.version, bytes);
  registry_.Replace(*std::move(model));
  known.version = version.version;
  known.signature = version.signature;
  known.failures.erase(version.version);
  if (health_.contains(VersionService(name, version.version))) {
    TellHealth(VersionService(name, version.version), true);
  }
  // What the files were read into is free again, and the old version perhaps too: the system gets it back now
  // rather than some day.
  malloc_trim(0);
  return absl::OkStatus();
}

void ModelLoader::Fail(const std::string& name, const RepositoryVersion& version, const absl::Status& status,
                       Known& known) {
  spdlog::error("model {} version {} cannot be loaded: {}: {}; {}", name, version.version,
                absl::StatusCodeToString(status.code()), std::string(status.message()),
                known.version.empty() ? "nothing serves in its place"
                                      : absl::StrCat("version ", known.version, " goes on serving"));
  known.failures[version.version] = {version.signature, ForCallers(status, version.folder), HeldBytes()};
  TellHealth(VersionService(name, version.version), false);
}

void ModelLoader::TakeOut(const std::string& name) {
  known_.erase(name);
  TellHealth(ModelService(name), false);  // first, so that balancers may turn away before requests fail
  (void)registry_.Remove(name);           // it may be gone or never have been there
  observer_.ModelIsGone(name);
  malloc_trim(0);
}

void ModelLoader::TellHealth(const std::string& service, bool serving) {
  const auto [told, is_new] = health_.emplace(service, serving);
  if (!is_new && told->second == serving) return;
  told->second = serving;
  if (on_health_) on_health_(service, serving);
}

bool ModelLoader::IsWanted(const std::string& name) const {
  const auto wanted = wanted_.find(name);
  if (wanted != wanted_.end()) return wanted->second;
  return options_.load.empty() || options_.folders.contains(name) ||
         std::find(options_.load.begin(), options_.load.end(), name) != options_.load.end();
}

int64_t ModelLoader::HeldBytes() {
  std::erase_if(alive_, [](const auto& model) { return model.first.expired(); });
  int64_t bytes = 0;
  for (const auto& [model, held] : alive_) bytes += held;
  return bytes;
}

}  // namespace headlight
