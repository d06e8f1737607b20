// SPDX-License-Identifier: Apache-2.0
//
// `headlight attend`: one request, its result to files, its shapes, checksums and time budget to the
// terminal.
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/checksum.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/inputs.h"
#include "client/cli/summary.h"
#include "client/files/npz.h"
#include "client/npy.h"
#include "client/record/exchange.h"
#include "client/record/recording.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::microseconds;

constexpr int64_t kAttendTimeoutMs = 30'000;

struct AttendFlags {
  ServerFlags server;
  RequestFlags request;
  InputFiles files;
  std::string request_id;
  std::string traceparent;
  std::string output_path;
  std::string weights_output_path;
  std::string keys_output_path;
  std::string received_output_path;
  std::string recording_path;
  bool json = false;
};

Json TensorJson(const Tensor& tensor) {
  const Checksum checksum = ChecksumOf(tensor.values);
  const ValueRange range = RangeOf(tensor.values);
  return {{"shape", tensor.shape},
          {"min", range.min},
          {"mean", range.mean},
          {"max", range.max},
          {"non_finite", range.num_non_finite},
          {"sum", checksum.sum},
          {"crc32", FormatCrc32(checksum.crc32)}};
}

Reported ReportedOf(const AttendCall& call) { return {call.layers, call.heads, call.query_begin}; }

// See kAttendFooter for the keys.
Json ToJson(const AttendCall& call, const AttendReply& reply, const std::vector<std::string>& notes,
            microseconds round_trip) {
  Json json = {
      {"model", reply.model},
      {"model_version", reply.model_version},
      {"request_id", reply.request_id},
  };
  if (call.query) json["query"] = {{"shape", call.query->shape}};
  if (call.token_ids) json["token_ids"] = {{"shape", call.token_ids->shape}};
  if (call.token_types) json["token_types"] = {{"shape", call.token_types->shape}};
  if (call.key) json["key"] = {{"shape", call.key->shape}};
  if (call.value) json["value"] = {{"shape", call.value->shape}};
  if (call.mask) json["mask"] = {{"shape", call.mask->shape}};
  json["output_dtype"] = DTypeName(reply.output_dtype);
  if (reply.outputs.empty()) json["output"] = TensorJson(reply.output);
  for (const OutputReply& output : reply.outputs) {
    Json& described = json["outputs"][OutputKindName(output.kind)] = TensorJson(output.values);
    if (!output.lens.empty()) described["lens"] = output.lens;
  }
  if (reply.weights) json["weights"] = TensorJson(*reply.weights);
  if (reply.weights_keys) {
    json["weights_keys"] = {{"shape", reply.weights_keys->shape}};
    json["top_k"] = TopKJson(*reply.weights, *reply.weights_keys, ReportedOf(call));
  }
  if (reply.received_mass) {
    json["received_mass"] = TensorJson(*reply.received_mass);
    json["summary"] = SummaryJson(*reply.weights, ReportedOf(call));
  }
  const v1::TimeBudget& budget = reply.time_budget;
  json["time_budget"] = {
      {"queue_us", budget.queue_us()},
      {"compute_us", budget.compute_us()},
      {"total_us", budget.total_us()},
      {"batch_requests", budget.batch_requests()},
      {"batch_sequences", budget.batch_sequences()},
      {"batch_tokens", budget.batch_tokens()},
      {"kernel", budget.kernel()},
      {"compute_threads", budget.compute_threads()},
      {"pack_us", budget.pack_us()},
      {"unpack_us", budget.unpack_us()},
      {"predicted_us", budget.predicted_us()},
  };
  for (const PayloadChecksum& checksum : reply.checksums) {
    json["payload_crc32c"][checksum.field] = FormatCrc32(checksum.crc32c);
  }
  json["client_us"] = round_trip.count();
  json["notes"] = notes;
  return json;
}

std::vector<std::string> TensorRow(const char* name, const Tensor& tensor) {
  const Checksum checksum = ChecksumOf(tensor.values);
  const ValueRange range = RangeOf(tensor.values);
  std::vector<std::string> row = {name,
                                  ToString(tensor.shape),
                                  absl::StrFormat("%.4g", range.min),
                                  absl::StrFormat("%.4g", range.mean),
                                  absl::StrFormat("%.4g", range.max),
                                  absl::StrFormat("%.9g", checksum.sum),
                                  FormatCrc32(checksum.crc32)};
  if (range.num_non_finite > 0)
    row.push_back(absl::StrCat(range.num_non_finite, " infinite or NaN, not in min, mean and max"));
  return row;
}

// What was sent, and what came back with its range and checksums.
std::string TensorsTable(const AttendCall& call, const AttendReply& reply) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "shape", "min", "mean", "max", "sum", "crc32"}};
  if (call.query) rows.push_back({"query", ToString(call.query->shape)});
  if (call.token_ids) rows.push_back({"token_ids", ToString(call.token_ids->shape)});
  if (call.token_types) rows.push_back({"token_types", ToString(call.token_types->shape)});
  if (call.key) rows.push_back({"key", ToString(call.key->shape)});
  if (call.value) rows.push_back({"value", ToString(call.value->shape)});
  if (call.mask) rows.push_back({"mask", ToString(call.mask->shape)});
  if (reply.outputs.empty()) rows.push_back(TensorRow("output", reply.output));
  for (const OutputReply& output : reply.outputs) {
    rows.push_back(TensorRow(OutputKindName(output.kind).c_str(), output.values));
  }
  if (reply.weights) rows.push_back(TensorRow("weights", *reply.weights));
  if (reply.weights_keys) rows.push_back({"weights_keys", ToString(reply.weights_keys->shape)});
  if (reply.received_mass) rows.push_back(TensorRow("received_mass", *reply.received_mass));
  return FormatTable(rows);
}

// What the weights say, where that fits into a table; empty otherwise.
std::string WeightsTable(const AttendCall& call, const AttendReply& reply) {
  if (!reply.weights) return "";
  if (reply.received_mass) return "\n" + SummaryTable(*reply.weights, ReportedOf(call));
  if (reply.weights_keys) {
    return "\n" + TopKTable(*reply.weights, *reply.weights_keys, ReportedOf(call));
  }
  return "";
}

std::string ToText(const AttendCall& call, const AttendReply& reply, microseconds round_trip) {
  const v1::TimeBudget& budget = reply.time_budget;
  const std::vector<std::vector<std::string>> times = {
      {"queued", FormatMs(microseconds(budget.queue_us())), "from arrival to the start of its batch"},
      {"computed", FormatMs(microseconds(budget.compute_us())),
       absl::StrFormat("in a batch of %d requests, %d sequences, %d tokens; kernel %s, %d threads",
                       budget.batch_requests(), budget.batch_sequences(), budget.batch_tokens(),
                       budget.kernel(), budget.compute_threads())},
      {"in server", FormatMs(microseconds(budget.total_us())), "from arrival to reply"},
      {"round trip", FormatMs(round_trip), "seen from here, connecting included"},
  };
  const std::string id = reply.request_id.empty() ? "" : absl::StrCat(", request ", reply.request_id);
  return absl::StrCat("model ", Printable(absl::StrCat(reply.model, ", version ", reply.model_version, id)),
                      "\n\n", TensorsTable(call, reply), "\n", FormatTable(times), WeightsTable(call, reply));
}

absl::Status Missing(const char* field) {
  return absl::InternalError(
      absl::StrCat("the server's reply holds no ", field, " though they were asked for"));
}

bool IsNpzName(const std::string& path) { return path.ends_with(".npz"); }

IntTensor IdsOf(const OutputReply& output) {
  return {.shape = {static_cast<int64_t>(output.indices.size())}, .values = output.indices};
}

// Far below 2^31 each, of a message as they are.
IntTensor LensOf(const OutputReply& output) {
  return {.shape = {static_cast<int64_t>(output.lens.size())},
          .values = std::vector<int32_t>(output.lens.begin(), output.lens.end())};
}

// The bytes of I8 or BITS as they travelled, [rows, bytes of a row].
ByteTensor BytesOfRows(const OutputReply& output) {
  const bool bits = output.dtype == v1::DTYPE_BITS;
  Shape shape = output.values.shape;
  if (bits) shape.back() /= 8;
  return {.shape = std::move(shape), .is_signed = !bits, .values = output.packed};
}

Tensor ScaleOf(const OutputReply& output) {
  return {.shape = {static_cast<int64_t>(output.scale.size())}, .values = output.scale};
}

// As which numbers an output is written: as they travelled, but bf16, which NumPy has not.
NpyFloat FloatOf(const OutputReply& output) {
  return output.dtype == v1::DTYPE_F16 ? NpyFloat::kF16 : NpyFloat::kF32;
}

// FILE.npy of one output, FILE.KIND.npy of several; ids, scales and lengths beside it.
absl::Status WriteOutputs(const std::string& path, const AttendReply& reply) {
  const bool npy = path.ends_with(".npy");
  const std::string stem = npy ? path.substr(0, path.size() - 4) : path;
  const char* const ending = npy ? ".npy" : "";
  absl::Status status;
  for (const OutputReply& output : reply.outputs) {
    const std::string of_kind = reply.outputs.size() == 1 ? "" : "." + OutputKindName(output.kind);
    const auto name = [&](const char* part) { return absl::StrCat(stem, of_kind, part, ending); };
    if (status.ok()) {
      status = output.packed.empty() ? WriteNpyFile(output.values, name(""), FloatOf(output))
                                     : WriteByteNpyFile(BytesOfRows(output), name(""));
    }
    if (status.ok() && !output.scale.empty()) status = WriteNpyFile(ScaleOf(output), name(".scale"));
    if (status.ok() && output.kind == v1::OUTPUT_KIND_SPARSE) {
      status = WriteIntNpyFile(IdsOf(output), name(".ids"));
    }
    if (status.ok() && !output.lens.empty()) status = WriteIntNpyFile(LensOf(output), name(".lens"));
  }
  return status;
}

// Everything that came back, by the names of attention.proto.
absl::Status WriteArchive(const std::string& path, const AttendReply& reply, NpyFloat dtype) {
  NpzWriter archive(path);
  if (reply.outputs.empty()) archive.Add("output", reply.output, dtype);
  for (const OutputReply& output : reply.outputs) {
    const std::string name = OutputKindName(output.kind);
    if (output.packed.empty()) {
      archive.Add(name, output.values, FloatOf(output));
    } else {
      archive.Add(name, BytesOfRows(output));
    }
    if (!output.scale.empty()) archive.Add(name + "_scale", ScaleOf(output));
    if (output.kind == v1::OUTPUT_KIND_SPARSE) archive.Add(name + "_ids", IdsOf(output));
    if (!output.lens.empty()) archive.Add(name + "_lens", LensOf(output));
  }
  if (reply.weights) archive.Add("weights", *reply.weights, dtype);
  if (reply.weights_keys) archive.Add("weights_keys", *reply.weights_keys);
  if (reply.received_mass) archive.Add("received_mass", *reply.received_mass, dtype);
  return archive.Finish();
}

absl::Status WriteResults(const AttendFlags& flags, const AttendReply& reply) {
  const NpyFloat dtype = reply.output_dtype == v1::DTYPE_F16 ? NpyFloat::kF16 : NpyFloat::kF32;
  const auto write = [&](const std::string& path, const char* field, const std::optional<Tensor>& tensor) {
    if (path.empty()) return absl::OkStatus();
    return tensor ? WriteNpyFile(*tensor, path, dtype) : Missing(field);
  };
  absl::Status status;
  if (IsNpzName(flags.output_path)) {
    status = WriteArchive(flags.output_path, reply, dtype);
  } else if (!reply.outputs.empty() && !flags.output_path.empty()) {
    status = WriteOutputs(flags.output_path, reply);
  } else if (reply.outputs.empty()) {
    status = write(flags.output_path, "output", reply.output);
  }
  if (status.ok()) status = write(flags.weights_output_path, "weights", reply.weights);
  if (status.ok()) status = write(flags.received_output_path, "received_mass", reply.received_mass);
  if (!status.ok() || flags.keys_output_path.empty()) return status;
  return reply.weights_keys ? WriteIntNpyFile(*reply.weights_keys, flags.keys_output_path)
                            : Missing("weights_keys");
}

absl::Status CheckFlags(const AttendFlags& flags) {
  const v1::WeightsMode weights = flags.request.weights;
  if (!flags.weights_output_path.empty() && weights == v1::WEIGHTS_MODE_NONE) {
    return absl::InvalidArgumentError("--weights-output wants --weights full, mean, top-k, summary or grid");
  }
  if (!flags.keys_output_path.empty() && weights != v1::WEIGHTS_MODE_TOP_K) {
    return absl::InvalidArgumentError("--weights-keys-output wants --weights top-k");
  }
  if (!flags.received_output_path.empty() && weights != v1::WEIGHTS_MODE_SUMMARY) {
    return absl::InvalidArgumentError("--received-output wants --weights summary");
  }
  for (const std::string& path :
       {flags.weights_output_path, flags.keys_output_path, flags.received_output_path}) {
    if (IsNpzName(path)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": wanted a .npy file; --output FILE.npz writes everything into one archive"));
    }
  }
  if (!flags.recording_path.empty()) {
    if (absl::Status status = CheckAppendable(flags.recording_path); !status.ok()) return status;
  }
  return CheckInputFlags(flags.request, flags.files);
}

// bf16 has no dtype in NumPy: files hold it as '<f4', exactly.
void NoteOutputDtype(const AttendFlags& flags, const AttendReply& reply, std::vector<std::string>& notes) {
  if (reply.output_dtype == v1::DTYPE_BF16 && !flags.output_path.empty())
    notes.push_back(
        absl::StrCat(flags.output_path, ": bf16, which NumPy has not, is written as f32, exactly"));
}

absl::Status Record(const AttendFlags& flags, const Client& client, const AttendCall& call,
                    const AttendReply& reply, std::vector<std::string>& notes) {
  if (flags.recording_path.empty()) return absl::OkStatus();
  const auto exchange = MakeExchange(client, call, reply, flags.server.timeout());
  if (!exchange.ok()) return exchange.status();
  const absl::StatusOr<int64_t> number = AppendExchange(*exchange, flags.recording_path);
  if (!number.ok()) return number.status();
  notes.push_back(absl::StrCat(flags.recording_path, ": recorded as exchange ", *number));
  return absl::OkStatus();
}

int RunAttend(const AttendFlags& flags, const Streams& streams) {
  if (const absl::Status status = CheckFlags(flags); !status.ok()) return Fail(streams, kExitUsage, status);
  absl::StatusOr<Inputs> inputs = ReadInputs(flags.request, flags.files, flags.server.max_message_bytes);
  if (!inputs.ok()) return Fail(streams, kExitUsage, inputs.status());
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());

  if (NeedsRandomInputs(flags.request, flags.files)) {
    const auto model =
        client->GetModel(flags.request.model, flags.request.model_version, flags.server.timeout());
    if (!model.ok()) return Fail(streams, kExitFailed, model.status());
    const absl::Status status =
        AddRandomInputs(flags.request, *model, flags.server.max_message_bytes, *inputs);
    if (!status.ok()) return Fail(streams, kExitUsage, status);
  }
  AttendCall call = inputs->Call(flags.request);
  call.request_id = flags.request_id;
  call.traceparent = flags.traceparent;

  const auto sent_at = std::chrono::steady_clock::now();
  const absl::StatusOr<AttendReply> reply = client->Attend(call, flags.server.timeout());
  const auto round_trip =
      std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now() - sent_at);
  if (!reply.ok()) return Fail(streams, kExitFailed, reply.status());

  if (const absl::Status status = WriteResults(flags, *reply); !status.ok())
    return Fail(streams, kExitFailed, status);
  if (const absl::Status status = Record(flags, *client, call, *reply, inputs->notes); !status.ok())
    return Fail(streams, kExitFailed, status);
  NoteOutputDtype(flags, *reply, inputs->notes);
  if (flags.json) {
    streams.out << FormatJson(ToJson(call, *reply, inputs->notes, round_trip)) << std::flush;
  } else {
    streams.out << ToText(call, *reply, round_trip) << std::flush;
    PrintNotes(streams, inputs->notes);
  }
  return kExitOk;
}

constexpr char kAttendFooter[] =
    "Checksums: the sum of the values in double precision, and the CRC-32 of their little-endian f32 bytes, "
    "which is\n"
    "zlib.crc32(array.astype('<f4').tobytes()) in Python. min, mean and max are those of the finite values.\n"
    "Files: f32, f16 and f64 are read, f64 rounded to f32; masks are bool too, ids i32 or i64; all in C "
    "order.\n"
    "bf16 and f32 are written as '<f4', f16 as '<f2', keys as '<i4'.\n"
    "An archive to read, of numpy.savez or savez_compressed, has query or token_ids and any of key, value, "
    "mask,\n"
    "token_types, seq_lens and kv_seq_lens, or input_ids, token_type_ids and attention_mask as tokenizers "
    "make "
    "them, padded\n"
    "on the right; one that is written has output and what there is of weights,\n"
    "weights_keys and received_mass. With --output-kind it has each by its kind instead of output, and "
    "sparse_ids,\n"
    "sparse_lens and token_vectors_lens; FILE.npy becomes FILE.KIND.npy of several kinds, with FILE.ids.npy "
    "and\n"
    "FILE.lens.npy beside. With --vectors-dtype i8 vectors are '|i1', their scales in KIND_scale or "
    "FILE.scale.npy, and with\n"
    "bits '|u1', as numpy.packbits(x > 0, axis=-1) has them.\n"
    "--json keys: model, model_version, request_id, query.shape or token_ids.shape [, token_types.shape,\n"
    "key.shape, value.shape, mask.shape], output_dtype,\n"
    "output.{shape, min, mean, max, non_finite, sum, crc32} or outputs.KIND.{the same, lens} [, weights.{the "
    "same}, weights_keys.shape,\n"
    "top_k[].{sequence [, layer], head, query, keys, weights}, received_mass.{the\n"
    "same}, summary[].{sequence [, layer], head,\n"
    "entropy_nats, distance_tokens, max_weight, self_mass, first_token_mass, effective_support}],\n"
    "time_budget.{queue_us, compute_us, total_us, batch_requests, batch_sequences, batch_tokens, kernel,\n"
    "compute_threads, pack_us, unpack_us, predicted_us}, payload_crc32c.{output, weights, outputs[0].values, "
    "...} "
    "as the\n"
    "server tells them, client_us, notes.\n"
    "Examples: headlight attend --shape 2x16\n"
    "          headlight attend --seq-lens 5,16,9 --causal --weights mean --weights-output weights.npy\n"
    "          headlight attend --shape 1x64 --weights summary --heads 0,3,5 --queries 0:16\n"
    "          headlight attend --model encoder --shape 1x4096 --weights grid --layers 0,5,11 "
    "--weights-output g.npy\n"
    "          headlight attend --input query.npy --key memory.npy --output out.npy\n"
    "          headlight attend --input request.npz --weights full --output results.npz\n"
    "          headlight attend --model encoder --ids ids.npy --pooled --output vectors.npy\n"
    "          headlight attend --model encoder --ids ids.npy --output-kind pooled,sparse --output all.npz";

}  // namespace

void AddAttendCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<AttendFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("attend", "Send one request and show what comes back");
  AddServerFlags(*command, kAttendTimeoutMs, flags->server);
  AddAttemptFlags(*command, flags->server);
  AddRequestFlags(*command, flags->request);
  const auto add_file = [&](const char* name, std::string& path, const char* help) {
    return command->add_option(name, path, help)->type_name("FILE.npy");
  };
  add_file("--input", flags->files.query, "Query, instead of a random one; or an archive of all inputs")
      ->type_name("FILE.npy|npz");
  add_file("--ids", flags->files.token_ids,
           "Token ids, int32 or int64: [batch, seq_len], or [tokens] as --seq-lens says");
  add_file("--token-types", flags->files.token_types, "Their types, of the same shape; all 0 if not given");
  add_file("--key", flags->files.key, "Keys of cross attention");
  add_file("--value", flags->files.value, "Values of cross attention; the same as the keys if not given");
  add_file("--mask", flags->files.mask,
           "Mask [batch|1, heads|1, q_len, kv_len]: bool, or f32 added to the scores");
  add_file("--output", flags->output_path, "Where to write the output; as .npz, everything that comes back")
      ->type_name("FILE.npy|npz");
  add_file("--weights-output", flags->weights_output_path, "Where to write the attention weights");
  add_file("--weights-keys-output", flags->keys_output_path, "Where to write the keys of --weights top-k");
  add_file("--received-output", flags->received_output_path,
           "Where to write what each key receives, of --weights summary");
  add_file("--record", flags->recording_path,
           "File to append the request and the checksums of its reply to, for `headlight verify`")
      ->type_name("FILE");
  command->add_option("--request-id", flags->request_id,
                      "Returned in the reply and written to the server's log");
  command
      ->add_option("--traceparent", flags->traceparent,
                   "The W3C trace context that the request belongs to; the server's log has it")
      ->type_name("00-TRACE-SPAN-FLAGS");
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->footer(kAttendFooter);
  command->callback(
      [flags, &chosen] { chosen = [flags](const Streams& streams) { return RunAttend(*flags, streams); }; });
}

}  // namespace headlight::client
