// SPDX-License-Identifier: Apache-2.0
//
// Keeps the registry in step with a folder of models: loads what is new, swaps what has changed, takes out
// what is gone, beside the requests and not in their way. A version that cannot be loaded never takes the
// place of one that serves.
#ifndef HEADLIGHT_SERVER_MODELS_MODEL_LOADER_H_
#define HEADLIGHT_SERVER_MODELS_MODEL_LOADER_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/runtime/cancellation.h"
#include "server/models/load_observer.h"
#include "server/models/loaded_model.h"
#include "server/models/registry.h"
#include "server/models/repository.h"

namespace headlight {

// What is to be made into a model.
struct ModelSource {
  std::string name;
  RepositoryVersion version;
  int64_t held_bytes = 0;  // by all models that are alive, those included that only finish their requests
};

// Makes it, and stops early with CANCELLED once the token says so. Called from one thread at a time.
using MakeModel = std::function<absl::StatusOr<std::shared_ptr<const LoadedModel>>(
    const ModelSource& source, const CancellationToken& cancelled)>;

struct ModelLoaderOptions {
  std::string repository;                           // empty: none
  std::vector<std::string> load;                    // only these models of the repository; empty: all
  double poll_s = 0;                                // between two looks at the folders; 0: only when asked
  std::map<std::string, std::string> folders = {};  // of single models, by name
};

// Of each model the newest version that can be loaded serves. A version that failed is tried again when its
// files change or when it is asked for by Load, and one for which memory was short also when models have
// given some back. What polling finds is taken once two looks in a row have found the same, for files may be
// half written; what is asked for, at once.
class ModelLoader {
 public:
  // `registry` and `observer` must outlive it.
  ModelLoader(ModelLoaderOptions options, ModelRegistry& registry, LoadObserver& observer, MakeModel make);
  ~ModelLoader();  // stops, however long that takes

  // Loads what there is, on the calling thread. Errors only if the repository itself cannot be read; models
  // that cannot be loaded are logged and stand in the registry's load errors. Call it once, before Start.
  absl::Status LoadAll();

  // Told of "models/NAME" and of "models/NAME/VERSION" for versions that failed: whether it serves.
  using OnHealth = std::function<void(const std::string& service, bool serving)>;

  // Starts the thread that polls and does what is asked. `on_health` hears at once what LoadAll found, later
  // every change, from that thread.
  void Start(OnHealth on_health);

  // Abandons what is being loaded at its next step and begins nothing else. Does not wait; who waits for an
  // answer gets it from Stop. Thread-safe.
  void RequestStop();

  // RequestStop, answers everything asked for with UNAVAILABLE and waits for the thread to end, at most for
  // `limit` (none: for ever). False: it hangs, as on files that are out of reach, and was left alone. It
  // touches nothing any more but this object, which must never be destroyed then. Idempotent, but not to be
  // called by two threads at once.
  bool Stop(std::optional<std::chrono::milliseconds> limit = std::nullopt);

  // What lay in the folders at the last look: the newest version of each model, by name. Thread-safe.
  std::map<std::string, std::string> OnDisk() const;

  using Done = std::function<void(absl::Status)>;

  // Loads the newest version of `name`, if it is not what serves. `done` is called once, from the loader's
  // thread, from that of Stop or, after it, from this one. NOT_FOUND, which names a field of `fields`: the
  // repository has no such model.
  // UNAVAILABLE: stopped. Else what MakeModel said of the newest version. Thread-safe.
  void Load(const std::string& name, Done done, const ModelFields& fields = {});

  // Takes `name` out, and polling lets it rest until Load asks for it. NOT_FOUND: it is not there. Otherwise
  // as Load.
  void Unload(const std::string& name, Done done, const ModelFields& fields = {});

 private:
  struct Failure {
    std::string signature;
    absl::Status status;
    int64_t held_bytes;  // by all models then
  };
  // All that is known of a name.
  struct Known {
    std::string version;  // that serves; empty: none
    std::string signature;
    std::map<std::string, Failure> failures;  // by version
    std::map<std::string, std::string> seen;  // signatures by version in the last look
    bool in_last_look = false;
  };
  enum class Trust { kSecondLook, kAtOnce };
  struct Request {
    bool load;
    std::string name;
    ModelFields fields;
    Done done;
  };

  // Thrown where a call returns that has hung so long that Stop has left: ends the thread.
  struct Abandoned {};

  // Calls `f`, which may hang. Everything else that the thread does takes no time.
  template <typename F>
  auto MayHang(F f);

  void Run();
  void RunUntilStopped();
  void AnswerRequests();
  absl::StatusOr<RepositoryScan> Scan();
  absl::Status Look(Trust trust);
  void LookForAbsentModels(const RepositoryScan& scan, Trust trust);
  absl::Status Answer(bool load, const std::string& name, const ModelFields& fields);
  absl::Status LoadNow(const std::string& name, const ModelFields& fields);
  absl::Status UnloadNow(const std::string& name, const ModelFields& fields);
  void Ask(Request request);

  // Brings `name` in step with its versions on disk, newest first. Returns why the newest of those that
  // should serve does not.
  absl::Status Reconcile(const std::string& name, const std::vector<RepositoryVersion>& versions,
                         Trust trust);
  absl::Status LoadVersion(const std::string& name, const RepositoryVersion& version, Known& known);
  void TakeOut(const std::string& name);
  void Fail(const std::string& name, const RepositoryVersion& version, const absl::Status& status,
            Known& known);
  void TellHealth(const std::string& service, bool serving);
  bool IsWanted(const std::string& name) const;
  int64_t HeldBytes();

  const ModelLoaderOptions options_;
  ModelRegistry& registry_;
  LoadObserver& observer_;
  const MakeModel make_;
  CancellationToken cancelled_;

  // Of the thread that loads: LoadAll's, then our own.
  std::map<std::string, Known> known_;
  std::map<std::string, bool> wanted_;  // by Load and Unload; they overrule options_.load
  std::map<std::string, bool> health_;  // what was told
  std::set<std::string> told_skipped_;
  std::string told_scan_error_;
  std::vector<std::pair<std::weak_ptr<const LoadedModel>, int64_t>> alive_;  // and the bytes that they hold
  OnHealth on_health_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;    // guarded by mutex_, as is all below but the thread
  bool ended_ = false;      // the thread touches nothing any more
  bool may_hang_ = false;   // the thread is in MayHang
  bool abandoned_ = false;  // Stop has left
  std::deque<Request> requests_;
  std::deque<Request> answering_;               // taken from requests_ by the thread
  std::map<std::string, std::string> on_disk_;  // by name
  std::thread thread_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MODEL_LOADER_H_
