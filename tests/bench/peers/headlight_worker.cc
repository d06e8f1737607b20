// SPDX-License-Identifier: Apache-2.0
//
// Headlight in process, as run.py compares it with others: a line of JSON for each line of JSON, as worker.py
// says. Weights and inputs are in memory; what is timed goes from ids to pooled vectors, or from rows to
// rows.
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/folder.h"
#include "core/model/model.h"
#include "core/model/pooling.h"
#include "core/runtime/compute_arena.h"
#include "core/tensor/buffer.h"
#include "nlohmann/json.hpp"
#include "tests/bench/median.h"

namespace headlight::bench {
namespace {

using Json = nlohmann::json;

const std::map<std::string, Precision> kPrecisions = {
    {"f32", Precision::kF32}, {"bf16", Precision::kBf16}, {"int8", Precision::kInt8}};

// Numbers that a file has nothing but.
template <typename T>
absl::StatusOr<std::vector<T>> ReadNumbers(const std::string& path, int64_t count) {
  std::vector<T> numbers(count);
  const auto bytes = static_cast<std::streamsize>(count * sizeof(T));
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(numbers.data()), bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", bytes, " bytes"));
  }
  return numbers;
}

// A case in one precision: the model, what it is given, and room for what it computes.
class PeerCase {
 public:
  static absl::StatusOr<std::unique_ptr<PeerCase>> Create(const Json& what, const std::string& precision,
                                                          const ComputeArena& arena) {
    const std::string folder = what.at("folder");
    HEADLIGHT_ASSIGN_OR_RETURN(const std::unique_ptr<const ModelFolder> source, ModelFolder::Open(folder));
    ModelConfig config = source->summary().config;
    config.SetPrecision(kPrecisions.at(precision));
    HEADLIGHT_ASSIGN_OR_RETURN(Model model, Model::Create(config, *source));
    if (model.attention().precision() != kPrecisions.at(precision)) {
      return absl::UnimplementedError(model.attention().precision_note());
    }
    std::unique_ptr<PeerCase> made(new PeerCase(std::move(model), what.at("lengths"), arena));
    HEADLIGHT_RETURN_IF_ERROR(made->ReadInput(what.at("input")));
    return made;
  }

  absl::Status Run(ComputeArena& arena) {
    HEADLIGHT_RETURN_IF_ERROR(model_.Forward(batch_, arena, *workspace_));
    if (!model_.config().embedding) return absl::OkStatus();
    PoolSequences(Const(batch_.attention.output), cu_lens_, model_.config().pooling,
                  model_.config().normalize_pooled,
                  {pooled_.data(), static_cast<int64_t>(sequences_.size()), width(), width()});
    return absl::OkStatus();
  }

  absl::Status WriteAnswer(const std::string& path) const {
    const bool pools = model_.config().embedding.has_value();
    const float* answer = pools ? pooled_.data() : output_.floats();
    const int64_t rows = pools ? static_cast<int64_t>(sequences_.size()) : tokens();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(answer),
               static_cast<std::streamsize>(rows * width() * int64_t{sizeof(float)}));
    if (!file.flush()) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be written"));
    return absl::OkStatus();
  }

 private:
  PeerCase(Model model, const std::vector<int64_t>& lengths, const ComputeArena& arena)
      : model_(std::move(model)),
        workspace_(Model::NewWorkspace(arena)),
        sequences_(lengths.size()),
        cu_lens_{0},
        pooled_(lengths.size() * width()) {
    for (int64_t length : lengths) cu_lens_.push_back(cu_lens_.back() + length);
    output_ = Buffer::Allocate(tokens() * width() * int64_t{sizeof(float)});
    batch_.attention.cu_q_lens = batch_.attention.cu_kv_lens = cu_lens_;
    batch_.attention.sequences = sequences_;
    batch_.attention.output = {output_.floats(), tokens(), width(), width()};
  }

  absl::Status ReadInput(const std::string& path) {
    if (model_.config().embedding) {
      HEADLIGHT_ASSIGN_OR_RETURN(token_ids_, ReadNumbers<int32_t>(path, tokens()));
      batch_.token_ids = token_ids_;
      return absl::OkStatus();
    }
    HEADLIGHT_ASSIGN_OR_RETURN(rows_, ReadNumbers<float>(path, tokens() * width()));
    batch_.attention.query = {rows_.data(), tokens(), width(), width()};
    batch_.attention.key = batch_.attention.value = batch_.attention.query;
    return absl::OkStatus();
  }

  int64_t width() const { return model_.config().block.attention.embed_dim; }
  int64_t tokens() const { return cu_lens_.back(); }

  Model model_;
  std::unique_ptr<ModelWorkspace> workspace_;
  std::vector<SequenceOptions> sequences_;
  std::vector<int64_t> cu_lens_;
  std::vector<float> pooled_;
  std::vector<int32_t> token_ids_;
  std::vector<float> rows_;
  Buffer output_;
  ModelBatch batch_;  // views of the above
};

class Worker {
 public:
  absl::StatusOr<Json> Answer(const Json& asked) {
    const std::string what = asked.at("do");
    if (what == "hello") {
      arena_.emplace(asked.at("threads").get<int>());
      return Json{{"engine", "Headlight"}, {"version", ""}, {"precisions", {"f32", "bf16", "int8"}}};
    }
    const std::string precision = asked.at("precision");
    if (what == "prepare") {
      const Json& the_case = asked.at("case");
      HEADLIGHT_ASSIGN_OR_RETURN(std::unique_ptr<PeerCase> made,
                                 PeerCase::Create(the_case, precision, *arena_));
      HEADLIGHT_RETURN_IF_ERROR(made->Run(*arena_));
      HEADLIGHT_RETURN_IF_ERROR(made->WriteAnswer(absl::StrCat(std::string(asked.at("output")), ".packed")));
      cases_[{the_case.at("name"), precision}] = std::move(made);
      return Json{{"forms", {"packed"}}};
    }
    HEADLIGHT_ASSIGN_OR_RETURN(const double ms,
                               RoundMs(*cases_.at({asked.at("case"), precision}), asked.at("seconds")));
    return Json{{"ms", ms}};
  }

 private:
  // The median of the runs that fit into so many seconds, one at least, after one that warms caches and
  // threads.
  absl::StatusOr<double> RoundMs(PeerCase& the_case, double seconds) {
    HEADLIGHT_RETURN_IF_ERROR(the_case.Run(*arena_));
    std::vector<double> runs;
    for (double spent = 0; spent < seconds || runs.empty(); spent += runs.back()) {
      const auto begin = std::chrono::steady_clock::now();
      HEADLIGHT_RETURN_IF_ERROR(the_case.Run(*arena_));
      runs.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return Median(runs) * 1e3;
  }

  std::optional<ComputeArena> arena_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<PeerCase>> cases_;  // by name and precision
};

}  // namespace
}  // namespace headlight::bench

int main() {
  headlight::bench::Worker worker;
  for (std::string line; std::getline(std::cin, line);) {
    nlohmann::json reply;
    try {
      const absl::StatusOr<nlohmann::json> answer = worker.Answer(nlohmann::json::parse(line));
      reply = answer.ok() ? *answer : nlohmann::json{{"error", answer.status().ToString()}};
    } catch (const std::exception& error) {
      reply = {{"error", error.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
  return 0;
}
