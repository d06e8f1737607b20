#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_layering.sh ROOT: fails, naming file and line, where a source under ROOT reaches across the layers:
# core <- server, proto <- server and client, server/schedule <- capacity <- client/cli. The linker cannot tell: the headers
# of installed libraries and of the other folders are all on the include path.
set -euo pipefail

cd "$1"
violations=0

# sources PATH...: the C++ sources there, none where a folder does not exist.
sources() {
  find "$@" \( -name '*.h' -o -name '*.cc' \) -type f 2>/dev/null || true
}

# forbid REASON REGEX FILE...: reports the lines that match outside of comments. forbid_perl: a Perl regex.
forbid() { forbid_syntax -E "$@"; }
forbid_perl() { forbid_syntax -P "$@"; }
forbid_syntax() {
  local syntax=$1 reason=$2 regex=$3
  shift 3
  [ $# -gt 0 ] || return 0
  local found
  found=$(grep -Hn "$syntax" "$regex" "$@" | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//' || true)
  [ -z "$found" ] && return 0
  echo "$reason:"
  echo "$found"
  violations=1
}

# include PREFIXES: a regex for #include lines whose path begins with one of the alternatives.
include() { echo "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($1)"; }

mapfile -t core < <(sources core)
mapfile -t server < <(sources server)
mapfile -t client < <(sources client)
mapfile -t beside_cli < <(sources client core server | grep -v '^client/cli/')
mapfile -t load < <(sources client/load)
mapfile -t report < <(sources client/report)
mapfile -t record < <(sources client/record)
mapfile -t local < <(sources client/files client/picture)
mapfile -t public_headers < <(find client -maxdepth 1 -name '*.h' 2>/dev/null || true)
mapfile -t beside_ukernel < <(sources core server client | grep -v '^core/product/gemm_brgemm\.')

forbid "core/ knows no RPC, no wire format, no logging and no other layer" \
  "$(include 'grpc|google/protobuf|spdlog|server/|client/|proto/|tests/')" "${core[@]}"
forbid "core/ reads no environment and never ends the process" \
  '(^|[^[:alnum:]_])(getenv|secure_getenv|_?exit|quick_exit|abort)[[:space:]]*\(' "${core[@]}"
forbid "server/ does not use the client or the tests" "$(include 'client/|tests/')" "${server[@]}"
forbid "only the command uses capacity/" "$(include 'capacity/')" "${beside_cli[@]}"
forbid "client/ sees neither core/ nor server/" "$(include 'core/|server/|tests/')" "${client[@]}"
forbid "the client's files and pictures know no gRPC, no RPC of ours and no command line" \
  "$(include 'grpc|client/(rpc|wire|load|report|cli)/|client/(client|attend_stream|attend_call)\.h|CLI/')" "${local[@]}"
forbid "the load report knows no gRPC and no command line" "$(include 'grpc|client/(rpc|cli)/|CLI/')" "${report[@]}"
forbid "the load tester knows no command line and no report" "$(include 'CLI/|client/(cli|report)/')" "${load[@]}"
forbid "recordings know no command line, no load test and no report" \
  "$(include 'CLI/|client/(cli|load|report)/')" "${record[@]}"
forbid "what callers include of the client is installed, so it includes nothing of its rooms" \
  "$(include 'client/[a-z]+/')" "${public_headers[@]}"
forbid "oneDNN's experimental ukernel API stays in core/product/gemm_brgemm.cc" \
  'dnnl::ukernel|dnnl_ukernel\.hp?p?' "${beside_ukernel[@]}"

# room FOLDER ALLOWED: FOLDER includes of this project and of the libraries below only what begins with one of the
# alternatives, itself always. Headers of the standard library, of the system and of abseil are anybody's.
room() {
  local files
  mapfile -t files < <(sources "$1")
  forbid_perl "$1/ includes only itself and $2" \
    "^\s*#\s*include\s*[<\"](?!$1/|$2)(server|core|client|tests|proto|headlight|inference|grpc\w*|google|prometheus|opentelemetry|spdlog|CLI|nlohmann|hwy|oneapi|tbb|omp)(/|\.h)" \
    "${files[@]}"
}

# The rooms of the core, lowest first: each includes what is above it here, and no room sees one below.
room core/base 'core/base/'
room core/tensor 'core/base/|hwy/'
room core/simd 'core/(base|tensor)/|hwy/|oneapi/dnnl/'
room core/runtime 'core/base/|tbb/|omp\.h'
room core/product 'core/(base|tensor|simd|runtime)/|hwy/|oneapi/dnnl/'
room core/attention 'core/(base|tensor|simd|runtime|product)/|hwy/'
room core/model 'core/(base|tensor|simd|runtime|product|attention)/|hwy/'
room core/checkpoint 'core/|nlohmann/'

# Rooms that the server builds on, lowest first: each includes what is above it here, and no room sees one below.
models_and_up='server/(memory|schedule|models|wire)/|core/'
request_and_up="server/(batch|request)/|$models_and_up"
room server/memory 'core/'
room server/schedule 'server/memory/|core/runtime/cancellation\.h'
room server/models 'server/memory/|core/|spdlog/'
room server/wire 'server/(memory|schedule)/|core/|grpcpp/support/|google/protobuf/io/'
room server/batch "$models_and_up"
room server/request "server/batch/|$models_and_up|grpcpp/support/byte_buffer\.h"
room server/security 'server/(memory|schedule|models)/|core/|grpc\w*/|spdlog/'
room server/observe "server/security/|$request_and_up|prometheus/|opentelemetry/|spdlog/|nlohmann/"
room server/attend "server/security/|$request_and_up|grpcpp/|headlight/v1/"
room server/oip "server/(security|observe)/|$request_and_up|grpcpp/|inference/|spdlog/"
room server/rpc "server/(security|observe|attend|oip)/|$request_and_up|grpc\w*/|headlight/v1/|google/|spdlog/|nlohmann/"
room capacity 'server/schedule/|core/runtime/cancellation\.h'
room server/program 'server/|core/|spdlog/|CLI/|nlohmann/|grpc/support/log\.h|google/protobuf/stubs/logging\.h'

exit "$violations"
