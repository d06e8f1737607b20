// SPDX-License-Identifier: Apache-2.0
//
// `headlight heatmap`: asks for the attention weights of one sequence, layer by layer, or for their means over
// cells, and draws them.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/heatmap_maps.h"
#include "client/cli/inputs.h"
#include "client/cli/one_sequence.h"
#include "client/cli/write_file.h"
#include "client/picture/attention_maps.h"
#include "client/picture/summary_picture.h"
#include "client/report/text.h"

namespace headlight::client {
namespace {

constexpr int64_t kHeatmapTimeoutMs = 60'000;
constexpr int64_t kMaxCount = 65'536;  // of layers or heads that a server may tell of

enum class PictureFormat { kAuto, kSvg, kHtml };

struct HeatmapFlags {
  ServerFlags server;
  RequestFlags request;
  InputFiles files;
  std::vector<int64_t> layers;  // empty: all
  int64_t sequence = 0;
  std::string tokens_path;
  std::string key_tokens_path;
  std::string output_path;
  std::string title;
  PictureFormat format = PictureFormat::kAuto;
  ScaleKind scale = ScaleKind::kLinear;
  bool summary = false;
};

absl::StatusOr<PictureFormat> ParsePictureFormat(const std::string& text) {
  if (text == "auto") return PictureFormat::kAuto;
  if (text == "svg") return PictureFormat::kSvg;
  if (text == "html") return PictureFormat::kHtml;
  return absl::InvalidArgumentError(absl::StrCat("got '", text, "', wanted auto, svg or html"));
}

absl::StatusOr<ScaleKind> ParseScaleKind(const std::string& text) {
  if (text == "linear") return ScaleKind::kLinear;
  if (text == "log") return ScaleKind::kLog;
  return absl::InvalidArgumentError(absl::StrCat("got '", text, "', wanted linear or log"));
}

// What the flags and the model say that the picture will show.
struct HeatmapPlan {
  AttendCall call;  // of the sequence that is drawn
  Mask mask;        // its own part, where the call has one
  v1::Model model;
  SequenceExtent extent;
  std::vector<int64_t> layers;
  std::vector<int64_t> heads;
  int64_t num_queries = 0;  // of each map
  Shape grid;               // {rows, columns} of cells that they are drawn in; empty: each weight by itself
  PictureFormat format = PictureFormat::kSvg;
  std::vector<std::string> query_labels;  // of the queries that are drawn
  std::vector<std::string> key_labels;    // with those of appended keys
  std::string title;
  std::string subtitle;
};

// Keys that the model adds follow those of the sequence: a learned one, then one of zeros.
void AddAppendedKeys(const v1::Model& model, std::vector<std::string>& keys) {
  std::vector<std::string> names;
  if (model.add_bias_kv()) names.push_back("[bias]");
  if (model.add_zero_attn()) names.push_back("[zero]");
  names.resize(static_cast<size_t>(std::max<int64_t>(model.num_appended_keys(), 0)), "[appended]");
  keys.insert(keys.end(), names.begin(), names.end());
}

absl::Status AddLabels(const HeatmapFlags& flags, HeatmapPlan& plan) {
  std::vector<std::string> query_tokens, key_tokens;
  for (const auto& [path, tokens] :
       {std::pair(&flags.tokens_path, &query_tokens), std::pair(&flags.key_tokens_path, &key_tokens)}) {
    if (path->empty()) continue;
    absl::StatusOr<std::vector<std::string>> lines = ReadTokens(*path);
    if (!lines.ok()) return lines.status();
    *tokens = *std::move(lines);
  }
  if (plan.extent.self_attention) {
    if (!key_tokens.empty()) {
      return absl::InvalidArgumentError(
          "--key-tokens wants keys of their own: --key, --kv-shape or --kv-seq-lens");
    }
    key_tokens = query_tokens;
  }
  auto queries = Labels("--tokens", query_tokens, plan.extent.q_len);
  if (!queries.ok()) return queries.status();
  auto keys = Labels("--key-tokens", key_tokens, plan.extent.kv_len);
  if (!keys.ok()) return keys.status();
  AddAppendedKeys(plan.model, *keys);
  const QueryRange& range = flags.request.queries;
  if (range.end > 0) {
    queries->resize(static_cast<size_t>(range.begin + plan.num_queries));
    queries->erase(queries->begin(), queries->begin() + range.begin);
  }
  if (!plan.grid.empty()) {
    *queries = CellLabels(*queries, range.begin, plan.grid.front());
    *keys = CellLabels(*keys, 0, plan.grid.back());
  }
  plan.query_labels = *std::move(queries);
  plan.key_labels = *std::move(keys);
  return absl::OkStatus();
}

std::string CountOf(size_t count, const char* noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

void AddTitles(const HeatmapFlags& flags, HeatmapPlan& plan) {
  plan.title = !flags.title.empty()
                   ? flags.title
                   : absl::StrCat(flags.summary ? "Attention statistics of " : "Attention of ",
                                  plan.model.name(), ", version ", plan.model.version());
  plan.subtitle = absl::StrCat(CountOf(plan.layers.size(), "layer"), ", ", CountOf(plan.heads.size(), "head"),
                               ", ", CountOf(static_cast<size_t>(plan.extent.q_len), "token"));
  if (!plan.extent.self_attention) absl::StrAppend(&plan.subtitle, " to ", plan.extent.kv_len);
  if (plan.extent.num_sequences > 1) {
    absl::StrAppend(&plan.subtitle, ", sequence ", flags.sequence, " of ", plan.extent.num_sequences);
  }
  if (flags.request.queries.end > 0) {
    absl::StrAppend(&plan.subtitle, ", queries ", flags.request.queries.begin, " to ",
                    flags.request.queries.begin + plan.num_queries - 1);
  }
  if (plan.call.causal || plan.model.causal()) plan.subtitle += ", causal";
  if (!plan.grid.empty()) {
    absl::StrAppend(&plan.subtitle, ", means over ", plan.grid.front(), " x ", plan.grid.back(), " cells");
  }
}

// What --format, the name of the file and the number of weights say, in this order. INVALID_ARGUMENT if a
// picture of that format would be too large.
absl::StatusOr<PictureFormat> ChooseFormat(const HeatmapFlags& flags, double num_cells) {
  PictureFormat format = flags.format;
  if (format == PictureFormat::kAuto && absl::EndsWith(flags.output_path, ".svg"))
    format = PictureFormat::kSvg;
  if (format == PictureFormat::kAuto && absl::EndsWith(flags.output_path, ".html"))
    format = PictureFormat::kHtml;
  if (flags.summary) {
    if (format != PictureFormat::kHtml) return PictureFormat::kSvg;
    return absl::InvalidArgumentError("--summary draws SVG only: wanted --format svg and a FILE.svg");
  }
  if (format == PictureFormat::kAuto) {
    format = num_cells <= kMaxQuickSvgCells ? PictureFormat::kSvg : PictureFormat::kHtml;
  }
  const int64_t most = format == PictureFormat::kSvg ? kMaxSvgCells : kMaxPageCells;
  if (num_cells <= static_cast<double>(most)) return format;
  return absl::InvalidArgumentError(absl::StrCat(
      "the picture would have ", absl::StrFormat("%.0f", num_cells), " weights, wanted at most ", most,
      ": fewer --layers, --heads or --queries", format == PictureFormat::kSvg ? ", or --format html" : "",
      flags.request.grid.empty() ? ", or --grid 64x64" : ""));
}

// Of one map; an end beyond the sequence may be that of a longer one.
absl::StatusOr<int64_t> NumQueries(const QueryRange& range, int64_t q_len) {
  if (range.end == 0) return q_len;
  if (range.begin < q_len) return std::min(range.end, q_len) - range.begin;
  return absl::InvalidArgumentError(absl::StrCat("--queries: got a first query of ", range.begin,
                                                 ", wanted less than ", q_len,
                                                 ", the length of the sequence"));
}

absl::StatusOr<HeatmapPlan> MakePlan(const HeatmapFlags& flags, const Inputs& inputs,
                                     const v1::Model& model) {
  for (const int64_t count : {model.num_layers(), model.num_heads(), model.num_appended_keys() + 1}) {
    if (count >= 1 && count <= kMaxCount) continue;
    return absl::InternalError(absl::StrCat("the server says that the model has ", model.num_layers(),
                                            " layers, ", model.num_heads(), " heads and ",
                                            model.num_appended_keys(), " appended keys"));
  }
  HeatmapPlan plan{.model = model, .heads = flags.request.heads};
  const AttendCall whole = inputs.Call(flags.request);
  absl::StatusOr<SequenceExtent> extent = ExtentOf(whole, flags.sequence);
  if (!extent.ok()) return extent.status();
  plan.extent = *extent;
  absl::StatusOr<AttendCall> call = CallOfSequence(whole, flags.sequence, plan.mask);
  if (!call.ok()) return call.status();
  plan.call = *std::move(call);
  absl::StatusOr<std::vector<int64_t>> layers = LayersOf(flags.layers, model);
  if (!layers.ok()) return layers.status();
  plan.layers = *std::move(layers);
  for (int64_t head = 0; flags.request.heads.empty() && head < model.num_heads(); ++head) {
    plan.heads.push_back(head);
  }
  const absl::StatusOr<int64_t> num_queries = NumQueries(flags.request.queries, plan.extent.q_len);
  if (!num_queries.ok()) return num_queries.status();
  plan.num_queries = *num_queries;
  int64_t rows = plan.num_queries, cols = plan.extent.kv_len + model.num_appended_keys();
  if (!flags.request.grid.empty()) {
    rows = std::min(rows, flags.request.grid.front());
    cols = std::min(cols, flags.request.grid.back());
    plan.grid = {rows, cols};
  }
  const double num_cells = static_cast<double>(plan.layers.size() * plan.heads.size()) *
                           static_cast<double>(rows) * static_cast<double>(cols);
  absl::StatusOr<PictureFormat> format = ChooseFormat(flags, num_cells);
  if (!format.ok()) return format.status();
  plan.format = *format;
  if (!flags.summary) {
    if (absl::Status status = AddLabels(flags, plan); !status.ok()) return status;
  }
  AddTitles(flags, plan);
  return plan;
}

AttentionMaps EmptyMaps(const HeatmapFlags& flags, const HeatmapPlan& plan) {
  return {.title = plan.title,
          .subtitle = plan.subtitle,
          .layers = plan.layers,
          .heads = plan.heads,
          .first_query = flags.request.queries.begin,
          .query_labels = plan.query_labels,
          .key_labels = plan.key_labels,
          .are_cells = !plan.grid.empty()};
}

SummaryPicture EmptySummary(const HeatmapPlan& plan) {
  return {
      .title = plan.title,
      .subtitle = plan.subtitle,
      .layers = plan.layers,
      .heads = plan.heads,
      .statistics = {
          {"entropy", "nats", "How evenly a query spreads its weight: 0 on one key, ln n on n alike.", {}},
          {"distance", "tokens", "How far from a query its keys are, weighted.", {}},
          {"first token", "share", "The weight that the first token gets.", {}}}};
}

// Their numbers in attention.proto.
constexpr int64_t kStatisticNumbers[] = {0, 1, 4};

// Asks layer by layer, so that no reply holds more than one layer's weights; calls `take` with each.
template <typename Take>
absl::Status AskForLayers(const Client& client, const HeatmapFlags& flags, const HeatmapPlan& plan,
                          const Take& take) {
  AttendCall call = plan.call;
  for (int64_t layer : plan.layers) {
    call.layer = layer;
    const absl::StatusOr<AttendReply> reply = client.Attend(call, flags.server.timeout());
    if (!reply.ok()) return reply.status();
    if (absl::Status status = take(*reply); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DrawSummary(const Client& client, const HeatmapFlags& flags,
                                        const HeatmapPlan& plan) {
  SummaryPicture picture = EmptySummary(plan);
  const int64_t num_heads = static_cast<int64_t>(plan.heads.size());
  const absl::Status status = AskForLayers(client, flags, plan, [&](const AttendReply& reply) {
    absl::Status taken;
    for (size_t i = 0; taken.ok() && i < picture.statistics.size(); ++i) {
      taken = AppendStatistic(reply, num_heads, kStatisticNumbers[i], picture.statistics[i].values);
    }
    return taken;
  });
  if (!status.ok()) return status;
  return SummarySvg(picture);
}

// All layers of one pass: their cells are few.
absl::Status AskForGrids(const Client& client, const HeatmapFlags& flags, const HeatmapPlan& plan,
                         AttentionMaps& maps) {
  AttendCall call = plan.call;
  call.layers = plan.layers;
  const absl::StatusOr<AttendReply> reply = client.Attend(call, flags.server.timeout());
  if (!reply.ok()) return reply.status();
  return AppendGrids(*reply,
                     {static_cast<int64_t>(maps.layers.size()), static_cast<int64_t>(maps.heads.size()),
                      maps.num_queries(), maps.num_keys()},
                     maps.weights);
}

absl::StatusOr<std::string> DrawMaps(const Client& client, const HeatmapFlags& flags,
                                     const HeatmapPlan& plan) {
  AttentionMaps maps = EmptyMaps(flags, plan);
  maps.weights.reserve(static_cast<size_t>(maps.num_cells()));
  const Shape wanted = {static_cast<int64_t>(maps.heads.size()), maps.num_queries(), maps.num_keys()};
  const absl::Status status = maps.are_cells
                                  ? AskForGrids(client, flags, plan, maps)
                                  : AskForLayers(client, flags, plan, [&](const AttendReply& reply) {
                                      return AppendMaps(reply, wanted, maps.weights);
                                    });
  if (!status.ok()) return status;
  return plan.format == PictureFormat::kSvg ? AttentionMapsSvg(maps, flags.scale)
                                            : AttentionMapsPage(maps, flags.scale);
}

int RunHeatmap(HeatmapFlags flags, const Streams& streams) {
  flags.request.weights = flags.summary                ? v1::WEIGHTS_MODE_SUMMARY
                          : flags.request.grid.empty() ? v1::WEIGHTS_MODE_FULL
                                                       : v1::WEIGHTS_MODE_GRID;
  if (flags.summary && !flags.request.grid.empty()) {
    return Fail(streams, kExitUsage,
                absl::InvalidArgumentError("--summary and --grid draw different things"));
  }
  if (flags.summary && !(flags.tokens_path.empty() && flags.key_tokens_path.empty())) {
    return Fail(
        streams, kExitUsage,
        absl::InvalidArgumentError("--tokens and --key-tokens label maps, which --summary does not draw"));
  }
  const absl::Status checked = CheckInputFlags(flags.request, flags.files);
  if (!checked.ok()) return Fail(streams, kExitUsage, checked);
  absl::StatusOr<Inputs> inputs = ReadInputs(flags.request, flags.files, flags.server.max_message_bytes);
  if (!inputs.ok()) return Fail(streams, kExitUsage, inputs.status());
  const absl::StatusOr<Client> client = flags.server.Connect();
  if (!client.ok()) return Fail(streams, kExitUsage, client.status());
  const absl::StatusOr<v1::Model> model =
      client->GetModel(flags.request.model, flags.request.model_version, flags.server.timeout());
  if (!model.ok()) return Fail(streams, kExitFailed, model.status());
  if (NeedsRandomInputs(flags.request, flags.files)) {
    const absl::Status added =
        AddRandomInputs(flags.request, *model, flags.server.max_message_bytes, *inputs);
    if (!added.ok()) return Fail(streams, kExitUsage, added);
  }
  const absl::StatusOr<HeatmapPlan> plan = MakePlan(flags, *inputs, *model);
  if (!plan.ok()) {
    return Fail(streams, absl::IsInternal(plan.status()) ? kExitFailed : kExitUsage, plan.status());
  }

  const absl::StatusOr<std::string> picture =
      flags.summary ? DrawSummary(*client, flags, *plan) : DrawMaps(*client, flags, *plan);
  if (!picture.ok()) return Fail(streams, kExitFailed, picture.status());
  const absl::Status written = WriteFile(flags.output_path, *picture, streams.out);
  if (!written.ok()) return Fail(streams, kExitFailed, written);
  if (flags.output_path != "-") {
    streams.out << "wrote " << flags.output_path << ": " << plan->subtitle << ", "
                << FormatBytes(static_cast<int64_t>(picture->size())) << std::endl;
  }
  PrintNotes(streams, inputs->notes);
  return kExitOk;
}

constexpr char kHeatmapFooter[] =
    "Maps: a row for each layer, a column for each head; in a map a row is a query, a column is a key, "
    "darker is\n"
    "more. The weight under the pointer is shown. All maps share one scale, from 0 to their largest weight;\n"
    "--scale log spans four powers of ten below it.\n"
    "--format auto: as FILE is called, .svg or .html; else SVG up to 16384 weights, and above that a page "
    "that draws\n"
    "on canvases. Either is one file and needs no network.\n"
    "Examples: headlight heatmap --shape 1x16 --output maps.svg\n"
    "          headlight heatmap --model encoder --ids ids.npy --tokens tokens.txt --output maps.html\n"
    "          headlight heatmap --model encoder --shape 1x128 --layers 0,11 --heads 0,3,5 --output "
    "maps.html\n"
    "          headlight heatmap --model encoder --shape 1x8192 --grid 64x64 --scale log --output long.html\n"
    "          headlight heatmap --model encoder --shape 1x128 --summary --output heads.svg";

void AddHeatmapFlags(CLI::App& command, HeatmapFlags& flags) {
  AddRequestFlags(command, flags.request);
  // These are the command's own to say.
  for (const char* name : {"--weights", "--top-k", "--layer", "--layers", "--grid", "--pooled", "--pooling",
                           "--output-kind", "--positions", "--sparse-top-k", "--vectors-dtype"}) {
    command.remove_option(command.get_option(name));
  }
  AddParsed(command, {"--layers", "all|N,N,...", "Draw these layers"}, ParseLayers, &flags.layers)
      ->default_str("all");
  command.add_option("--sequence", flags.sequence, "Draw this sequence of the batch, counted from 0")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N")
      ->capture_default_str();
  AddParsed(command,
            {"--grid", "ROWSxCOLS",
             "Draw means over so many cells of queries and keys, up to 64x64, however long the sequence is"},
            ParseGrid, &flags.request.grid);
  command.add_flag("--summary", flags.summary,
                   "Draw entropy, distance and first token's weight of each head");
  const auto add_file = [&](const char* name, std::string& path, const char* form, const char* help) {
    return command.add_option(name, path, help)->type_name(form);
  };
  add_file("--input", flags.files.query, "FILE.npy|npz",
           "Query, instead of a random one; or an archive of all inputs");
  add_file("--ids", flags.files.token_ids, "FILE.npy", "Token ids, int32 or int64");
  add_file("--token-types", flags.files.token_types, "FILE.npy", "Their types; all 0 if not given");
  add_file("--key", flags.files.key, "FILE.npy", "Keys of cross attention");
  add_file("--value", flags.files.value, "FILE.npy", "Values of cross attention; the keys if not given");
  add_file("--mask", flags.files.mask, "FILE.npy", "Mask, as in `headlight attend`");
  add_file("--tokens", flags.tokens_path, "FILE", "Tokens of the sequence, one a line, as labels");
  add_file("--key-tokens", flags.key_tokens_path, "FILE", "The same for keys of cross attention");
  command.add_option("--title", flags.title, "Title of the picture; the model's name if not given");
  AddParsed(command, {"--scale", "linear|log", "From weights to colours"}, ParseScaleKind, &flags.scale)
      ->default_str("linear");
  AddParsed(command, {"--format", "auto|svg|html", "Kind of picture"}, ParsePictureFormat, &flags.format)
      ->default_str("auto");
  add_file("--output", flags.output_path, "FILE", "Where to write it; - is standard output")->required();
}

}  // namespace

void AddHeatmapCommand(CLI::App& app, Command& chosen) {
  auto flags = std::make_shared<HeatmapFlags>();  // shared with the parser, which fills it, and the command
  CLI::App* command = app.add_subcommand("heatmap", "Draw attention weights or statistics of every head");
  AddServerFlags(*command, kHeatmapTimeoutMs, flags->server);
  AddAttemptFlags(*command, flags->server);
  AddHeatmapFlags(*command, *flags);
  command->footer(kHeatmapFooter);
  command->callback(
      [flags, &chosen] { chosen = [flags](const Streams& streams) { return RunHeatmap(*flags, streams); }; });
}

}  // namespace headlight::client
