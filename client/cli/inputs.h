// SPDX-License-Identifier: Apache-2.0
//
// From flags to the tensors of a request: read from NumPy files, one by one or all of them from an archive,
// where a file is named, random otherwise.
#ifndef HEADLIGHT_CLIENT_CLI_INPUTS_H_
#define HEADLIGHT_CLIENT_CLI_INPUTS_H_

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/flags.h"

namespace headlight::client {

// Paths of .npy files; empty if not given.
struct InputFiles {
  std::string query;  // or of an .npz archive, whose arrays have the names of the members of Inputs
  std::string token_ids;
  std::string token_types;
  std::string key;
  std::string value;
  std::string mask;
};

// The tensors of one request, owned.
struct Inputs {
  std::optional<Tensor> query;  // it or
  std::optional<Ids> token_ids;
  std::optional<Ids> token_types;
  std::optional<Tensor> key;
  std::optional<Tensor> value;
  std::optional<Mask> mask;
  // Of an archive only; empty otherwise.
  std::vector<int64_t> seq_lens;
  std::vector<int64_t> kv_seq_lens;
  // What was done to what was read, a sentence each.
  std::vector<std::string> notes;

  // The request over these tensors, which must outlive it.
  AttendCall Call(const RequestFlags& flags) const;
};

// Whether the flags say what the query, or the ids, are, and do not contradict themselves. INVALID_ARGUMENT
// otherwise.
absl::Status CheckInputFlags(const RequestFlags& flags, const InputFiles& files);

// Reads the files that are named. The status says what is wrong with which file. An archive must hold a query
// or token ids, no array that is none of a request's, none that another file gives or that `flags` say
// again, and no more than could be sent in a message of `max_message_bytes`, whatever their dtypes become.
absl::StatusOr<Inputs> ReadInputs(const RequestFlags& flags, const InputFiles& files,
                                  int64_t max_message_bytes);

// The request that AddRandomInputs would make for the flags alone, by shapes, without values.
AttendCall DescribeRandomInputs(const RequestFlags& flags, const v1::Model& model);

// Whether AddRandomInputs has something to add; it needs the model's dimensions then.
bool NeedsRandomInputs(const RequestFlags& flags, const InputFiles& files);

// Adds random tensors for what the flags ask for and no file gave, in the order query (or token ids, uniform
// over the vocabulary, where the model begins there), key, value from one generator. The value is only there
// if the model's vdim is not its kdim; otherwise the server reads it from the key. INVALID_ARGUMENT if a
// tensor would have over `max_bytes` bytes. INTERNAL if the model's vocabulary is none.
absl::Status AddRandomInputs(const RequestFlags& flags, const v1::Model& model, int64_t max_bytes,
                             Inputs& inputs);

// Tokens of a request: the sum of `seq_lens` if given, else the product of all dimensions but the last.
int64_t NumTokens(const Shape& query_shape, const std::vector<int64_t>& seq_lens);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_INPUTS_H_
