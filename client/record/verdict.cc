// SPDX-License-Identifier: Apache-2.0
#include "client/record/verdict.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace headlight::client {
namespace {

std::vector<std::string> FieldsOf(const v1::RecordedExchange& exchange) {
  std::vector<std::string> fields;
  for (const v1::RecordedPayload& payload : exchange.payloads()) fields.push_back(payload.field());
  return fields;
}

// The kernel that sums in an order of its own.
constexpr char kUnpromisedKernel[] = "matmul";

// "output, weights": the payloads that are not what they were.
std::string DifferentPayloads(const v1::RecordedExchange& recorded, const v1::RecordedExchange& repeated) {
  const std::vector<std::string> fields = FieldsOf(repeated), fields_recorded = FieldsOf(recorded);
  if (fields != fields_recorded) {
    return absl::StrCat("payloads ", absl::StrJoin(fields, ", "), ", recorded ",
                        fields_recorded.empty() ? "none" : absl::StrJoin(fields_recorded, ", "));
  }
  std::vector<std::string> different;
  for (int i = 0; i < recorded.payloads_size(); ++i) {
    if (recorded.payloads(i).crc32c() != repeated.payloads(i).crc32c()) {
      different.push_back(recorded.payloads(i).field());
    }
  }
  return absl::StrJoin(different, ", ");
}

// Appends "what NOW, recorded BEFORE" if the two are not the same.
template <typename T>
void AddChange(const char* what, const T& before, const T& now, std::vector<std::string>& changes) {
  if (before != now) changes.push_back(absl::StrCat(what, " ", now, ", recorded ", before));
}

std::string OrNone(const std::string& text) { return text.empty() ? "none" : text; }

// What makes it another model.
std::vector<std::string> ModelChanges(const v1::Model& before, const v1::Model& now) {
  std::vector<std::string> changes;
  AddChange("model", before.name(), now.name(), changes);
  AddChange("version", before.version(), now.version(), changes);
  AddChange("precision", before.precision(), now.precision(), changes);
  AddChange("parameters_precision", OrNone(before.parameters_precision()), OrNone(now.parameters_precision()),
            changes);
  AddChange("layout", before.layout(), now.layout(), changes);
  AddChange("num_parameters", before.num_parameters(), now.num_parameters(), changes);
  AddChange("num_layers", before.num_layers(), now.num_layers(), changes);
  AddChange("embed_dim", before.embed_dim(), now.embed_dim(), changes);
  AddChange("num_heads", before.num_heads(), now.num_heads(), changes);
  return changes;
}

}  // namespace

Verdict CompareExchanges(const v1::RecordedExchange& recorded, const v1::RecordedExchange& repeated) {
  const std::string different = DifferentPayloads(recorded, repeated);
  if (different.empty()) return {};
  std::vector<std::string> changes = ModelChanges(recorded.model(), repeated.model());
  bool may_differ = !changes.empty();
  if (const std::string& precision = repeated.model().precision(); precision != "f32") {
    may_differ = true;
    changes.push_back(absl::StrCat(precision, ", whose bits are promised on one kind of CPU alone"));
  }
  if (recorded.model().kernel() == kUnpromisedKernel || repeated.model().kernel() == kUnpromisedKernel) {
    may_differ = true;
    changes.push_back(absl::StrCat("kernel ", kUnpromisedKernel, ", whose bits are not promised"));
  }
  AddChange("kernel", recorded.model().kernel(), repeated.model().kernel(), changes);
  AddChange("server", recorded.server_version(), repeated.server_version(), changes);
  changes.insert(changes.begin(), different);
  return {may_differ ? Outcome::kMayDiffer : Outcome::kDiffers, absl::StrJoin(changes, "; ")};
}

}  // namespace headlight::client
