#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Gives check_layering.sh small trees with one line each, and expects it to object to the bad ones only.
set -euo pipefail

check=$(dirname "$(readlink -f "$0")")/check_layering.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failures=0

# expect accepted|refused FILE LINE
expect() {
  local wanted=$1 file=$2 line=$3 got=accepted
  rm -rf "${root:?}"/*
  mkdir -p "$root/$(dirname "$file")"
  echo "$line" >"$root/$file"
  bash "$check" "$root" >"$root/report" || got=refused
  if [ "$got" = refused ] && ! grep -q "$file:1:" "$root/report"; then got="refused without naming $file:1"; fi
  [ "$got" = "$wanted" ] && return 0
  echo "$file with '$line': $got, wanted $wanted"
  failures=1
}

expect accepted core/a.h '#include "core/b.h"'
expect refused core/a.h '#include <grpcpp/grpcpp.h>'
expect refused core/attention/a.cc '#include "google/protobuf/message.h"'
expect refused core/a.cc '#include "spdlog/spdlog.h"'
expect refused core/a.cc '  #  include "server/attend/codec.h"'
expect refused core/a.cc '#include "client/client.h"'
expect refused core/a.cc '#include "proto/headlight/v1/attention.pb.h"'
expect refused core/a.cc 'const char* value = std::getenv("HOME");'
expect refused core/a.cc 'if (bad) exit(1);'
expect refused core/a.cc '  std::abort();'
expect accepted core/a.cc '// Never calls exit() nor abort().'
expect accepted core/a.cc 'on_scheduler_exit(true);'
expect accepted capacity/a.cc '#include "server/schedule/engine_state.h"'
expect refused capacity/a.cc '#include "server/models/registry.h"'
expect refused capacity/a.cc '#include "client/client.h"'
expect accepted client/cli/a.cc '#include "capacity/plan.h"'
expect refused client/load/a.cc '#include "capacity/plan.h"'
expect refused server/rpc/a.cc '#include "capacity/plan.h"'
expect accepted server/a.cc '#include "core/a.h"'
expect refused server/a.cc '#include "client/client.h"'
expect accepted server/service.cc '#include <grpcpp/server.h>'
expect refused server/schedule/scheduler.cc '#include <grpcpp/server.h>'
expect refused server/models/registry.h '#include "grpc/grpc.h"'
expect accepted server/memory/a.cc '#include "core/tensor/buffer.h"'
expect refused server/memory/a.cc '#include "server/schedule/ticket.h"'
expect accepted server/schedule/a.h '#include "server/memory/memory_budget.h"'
expect accepted server/schedule/a.h '#include "core/runtime/cancellation.h"'
expect refused server/schedule/a.h '#include "core/model/model.h"'
expect refused server/schedule/a.h '#include "server/models/registry.h"'
expect accepted server/models/a.cc '#include <spdlog/spdlog.h>'
expect refused server/models/a.h '#include "server/observe/metrics.h"'
expect accepted server/wire/a.h '#include <grpcpp/support/slice.h>'
expect refused server/wire/a.h '#include <grpcpp/grpcpp.h>'
expect accepted server/wire/a.h '#include "server/schedule/ticket.h"'
expect refused server/wire/a.h '#include "server/models/registry.h"'
expect accepted server/batch/a.h '#include "server/wire/byte_segments.h"'
expect refused server/batch/a.h '#include <grpcpp/support/slice.h>'
expect refused server/batch/a.h '#include "server/request/check_request.h"'
expect accepted server/request/a.h '#include "server/batch/batch_input.h"'
expect refused server/request/a.h '#include "headlight/v1/attention.pb.h"'
expect refused server/request/a.h '#include <spdlog/spdlog.h>'
expect accepted server/observe/a.cc '#include <prometheus/gauge.h>'
expect refused server/observe/a.cc '#include "server/rpc/exchange.h"'
expect accepted server/attend/a.cc '#include "headlight/v1/attention.pb.h"'
expect refused server/attend/a.cc '#include "server/rpc/exchange.h"'
expect refused server/oip/a.cc '#include "server/attend/attend_face.h"'
expect refused server/oip/a.cc '#include "server/rpc/health_board.h"'
expect accepted server/oip/a.cc '#include "server/security/gate.h"'
expect accepted server/oip/a.cc '#include "server/observe/model_tally.h"'
expect accepted server/rpc/a.cc '#include "server/attend/attend_face.h"'
expect refused server/rpc/a.cc '#include "server/program/options.h"'
expect accepted server/program/a.cc '#include "server/rpc/exchange.h"'
expect refused server/program/a.cc '#include <grpcpp/grpcpp.h>'
expect refused client/a.cc '#include "core/a.h"'
expect refused client/a.cc '#include "server/attend/codec.h"'
expect accepted client/a.cc '#include <grpcpp/channel.h>'
expect refused client/files/npy.cc '#include <grpcpp/channel.h>'
expect accepted client/files/npy.cc '#include "client/tensor.h"'
expect refused client/picture/svg.h '#include "client/wire/wire.h"'
expect accepted client/picture/page.cc '#include "client/picture/svg.h"'
expect refused client/report/load_text.cc '#include <grpcpp/support/status.h>'
expect refused client/report/load_text.cc '#include "client/cli/flags.h"'
expect accepted client/report/load_text.cc '#include "client/load/load_result.h"'
expect refused client/load/load_run.cc '#include <CLI/CLI.hpp>'
expect refused client/load/load_run.cc '#include "client/report/load_report.h"'
expect accepted client/load/load_run.h '#include <grpcpp/channel.h>'
expect refused client/record/exchange.cc '#include "client/cli/flags.h"'
expect accepted client/record/exchange.cc '#include "client/rpc/pending_call.h"'
expect refused client/client.h '#include "client/rpc/pending_call.h"'
expect accepted client/client.h '#include "client/retry.h"'
expect refused server/a.cc '#include "oneapi/dnnl/dnnl_ukernel.hpp"'
expect refused core/attention/kernel.cc 'dnnl::ukernel::brgemm kernel;'
expect accepted core/product/gemm_brgemm.cc 'dnnl::ukernel::brgemm kernel;'

expect accepted core/base/a.h '#include "absl/status/status.h"'
expect refused core/base/a.h '#include "core/tensor/dtype.h"'
expect accepted core/tensor/a.cc '#include "hwy/highway.h"'
expect refused core/tensor/a.cc '#include "core/simd/targets.h"'
expect accepted core/simd/a.h '#include "core/tensor/bf16.h"'
expect refused core/simd/a.h '#include "core/product/gemm.h"'
expect accepted core/runtime/a.cc '#include <tbb/task_arena.h>'
expect refused core/runtime/a.cc '#include "oneapi/dnnl/dnnl.hpp"'
expect accepted core/product/a.cc '#include "core/runtime/interruption.h"'
expect refused core/product/a.cc '#include "core/attention/batch.h"'
expect refused core/product/a.cc '#include <omp.h>'
expect accepted core/attention/tiled/a.h '#include "core/product/gemm.h"'
expect refused core/attention/tiled/a.h '#include "core/model/config.h"'
expect refused core/attention/a.cc '#include "oneapi/dnnl/dnnl.hpp"'
expect accepted core/model/a.h '#include "core/attention/layer.h"'
expect refused core/model/a.cc '#include "core/checkpoint/folder.h"'
expect refused core/model/a.cc '#include <nlohmann/json.hpp>'
expect accepted core/checkpoint/formats/a.cc '#include <nlohmann/json.hpp>'
expect accepted core/checkpoint/formats/a.cc '#include "core/model/config.h"'

exit "$failures"
