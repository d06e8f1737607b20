#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_layering.sh ROOT: fails, naming file and line, where a source under ROOT reaches across the layers:
# core <- server, proto <- server and client. The linker cannot tell: the headers of installed libraries and of the
# other folders are all on the include path.
set -euo pipefail

cd "$1"
violations=0

# sources PATH...: the C++ sources there, none where a folder does not exist.
sources() {
  find "$@" \( -name '*.h' -o -name '*.cc' \) -type f 2>/dev/null || true
}

# forbid REASON REGEX FILE...: reports the lines that match outside of comments.
forbid() {
  local reason=$1 regex=$2
  shift 2
  [ $# -gt 0 ] || return 0
  local found
  found=$(grep -HnE "$regex" "$@" | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//' || true)
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
mapfile -t engine < <(sources server/schedule server/models)
mapfile -t load < <(sources client/load)
mapfile -t report < <(sources client/report)
mapfile -t local < <(sources client/files client/picture)
mapfile -t public_headers < <(find client -maxdepth 1 -name '*.h' 2>/dev/null || true)
mapfile -t beside_ukernel < <(sources core server client | grep -v '^core/attention/ukernel\.')

forbid "core/ knows no RPC, no wire format, no logging and no other layer" \
  "$(include 'grpc|google/protobuf|spdlog|server/|client/|proto/|tests/')" "${core[@]}"
forbid "core/ reads no environment and never ends the process" \
  '(^|[^[:alnum:]_])(getenv|secure_getenv|_?exit|quick_exit|abort)[[:space:]]*\(' "${core[@]}"
forbid "server/ does not use the client or the tests" "$(include 'client/|tests/')" "${server[@]}"
forbid "client/ sees neither core/ nor server/" "$(include 'core/|server/|tests/')" "${client[@]}"
forbid "the client's files and pictures know no gRPC, no RPC of ours and no command line" \
  "$(include 'grpc|client/(rpc|wire|load|report|cli)/|client/(client|attend_stream|attend_call)\.h|CLI/')" "${local[@]}"
forbid "the load report knows no gRPC and no command line" "$(include 'grpc|client/(rpc|cli)/|CLI/')" "${report[@]}"
forbid "the load tester knows no command line and no report" "$(include 'CLI/|client/(cli|report)/')" "${load[@]}"
forbid "what callers include of the client is installed, so it includes nothing of its rooms" \
  "$(include 'client/[a-z]+/')" "${public_headers[@]}"
forbid "the scheduler and the registry do not know gRPC" "$(include 'grpc')" "${engine[@]}"
forbid "oneDNN's experimental ukernel API stays in core/attention/ukernel.*" \
  'dnnl::ukernel|dnnl_ukernel\.hp?p?' "${beside_ukernel[@]}"

exit "$violations"
