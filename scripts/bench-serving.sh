#!/usr/bin/env bash
# Measures a server as its clients see it, and what it costs; prints JSON. Server and client share this machine's cores.
#   scripts/bench-serving.sh [--seconds N] [--quick] [--out FILE] [--bin DIR]
#     --seconds N   each point is measured for so long [20]
#     --quick       3 s a point and a shorter long request: shows that it runs, not how fast
#     --out FILE    writes there instead of to stdout; progress goes to stderr
#     --bin DIR     headlight, headlight-server and serving_bench [build/release/bin]
#
# capacity          closed loop; requests of 8 to 256 token ids to an encoder of 6 x 384, pooled
# overload          open loop, Poisson, deadlines of 200 ms, at 1 to 5.7 times that capacity. The points take turns, six
#                   times for half as long each, since machines have better and worse minutes: means, sums, and medians of
#                   the turns' percentiles. goodput: answered within the deadline of the time that each was due; late:
#                   ended in DEADLINE_EXCEEDED, those included that were refused at once since an idle server would
#                   be late (p50_ms tells); least_of_best: the worst point's goodput in tokens against the best point's
# overload_demo     the same at 3 times the capacity of `demo`, embeddings of 16 to 512 tokens
# long_beside_short 16 tokens at 50/s to `demo`, alone and beside one long request after the other
# cost              the server's CPU time for a request of 8x128x768 to `demo`, by the type that its payload travels in, and that
#                   of the same computation in process: same model, f32, as many threads. ratio: the former over the latter
# tiny              requests of one token a second to a model 64 wide, 64 in flight. echo_per_s: the same client's to a server
#                   that only echoes, messages of the same sizes, which is what gRPC alone allows. of_echo: the former over
#                   the latter. server_cpu_us and demo: under the load tester
# The last two alternate with what they are held against, ROUNDS times: medians, and the medians of the rounds' ratios.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=20 turns=6 long_tokens=32768 out=/dev/stdout BIN=build/release/bin
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?--seconds wants a number} && shift 2 ;;
    --quick) seconds=3 turns=1 long_tokens=8192 && shift ;;
    --out) out=${2:?--out wants a file} && shift 2 ;;
    --bin) BIN=${2:?--bin wants a folder} && shift 2 ;;
    *) echo "bench-serving.sh: got $1, wanted --seconds N, --quick, --out FILE or --bin DIR" >&2 && exit 2 ;;
  esac
done
# shellcheck source=scripts/server-functions.sh
. scripts/server-functions.sh
expect_programs headlight headlight-server serving_bench

readonly DEADLINE_MS=200 FACTORS="1 1.5 2 3 5.7" ROUNDS=9
readonly ENCODER=(--model encoder --pooled --seq-lens uniform:8-256)
readonly DEMO=(--model demo --seq-lens uniform:16-512 --pool 64)
readonly TINY=(--concurrency 64 --channels 4)
say() { echo "bench-serving: $*" >&2; }

# load NAME FLAGS...: one run of the load tester, its report in $WORK/NAME.json. Refusals are results, even if all are refused.
load() {
  local name=$1
  shift
  "$BIN/headlight" loadtest --server "$ADDRESS" "$@" --json "$WORK/$name.json" >"$WORK/$name.txt" 2>&1 || true
  [ -s "$WORK/$name.json" ] || fail "load $name: $(tail -n 3 "$WORK/$name.txt")"
  kill -0 "$SERVER" 2>/dev/null || fail "load $name: the server is gone"
}

# capacity_of NAME FLAGS...: of a server that knows by then what such requests cost.
capacity_of() {
  local name=$1
  shift
  load "$name" "$@" --concurrency 16 --timeout-ms 60000 --warmup 3s --duration "${seconds}s"
  local per_s
  per_s=$(value "$WORK/$name.json" requests_per_s)
  awk -v per_s="$per_s" 'BEGIN { exit !(per_s > 0) }' || fail "$name: nothing was answered: $(cat "$WORK/$name.txt")"
  echo "$per_s"
}

# offer NAME TURN FACTOR CAPACITY SECONDS FLAGS...: one turn of a point of the overload curve.
offer() {
  load "$1.turn$2" "${@:6}" --rate "$(compute "$3 * $4")" --timeout-ms "$DEADLINE_MS" --warmup 2s --duration "${5}s"
}

# over_turns NAME sum|mean|median PATH: of all turns of a point.
over_turns() {
  local turn
  for turn in "$WORK/$1".turn*.json; do value "$turn" "$3"; done | sort -g | awk -v of="$2" '
    { v[NR] = $1 == "null" ? 0 : $1; sum += v[NR] }
    END { print of == "sum" ? sum : of == "mean" ? sum / NR : v[int((NR + 1) / 2)] }'
}

# point NAME FACTOR CAPACITY: what its turns have found, as JSON.
point() {
  local code goodput late replies separator=
  goodput=$(over_turns "$1" mean goodput_per_s) replies=$(over_turns "$1" sum replies)
  late=$(over_turns "$1" sum refusals.DEADLINE_EXCEEDED.count)
  printf '{"factor": %s, "offered_per_s": %s, "sent": %s, "replies": %s, ' \
    "$2" "$(compute "$2 * $3")" "$(over_turns "$1" sum sent)" "$replies"
  printf '"goodput_per_s": %s, "goodput_tokens_per_s": %s, "of_capacity": %s, ' "$goodput" \
    "$(over_turns "$1" mean goodput_tokens_per_s)" "$(compute "$goodput / $3")"
  printf '"late": %s, "late_share": %s, "p99_ms": %s, "refused": {' "$late" "$(awk -v l="$late" -v r="$replies" \
    'BEGIN { printf "%.6f", (l + r > 0) ? l / (l + r) : 0 }')" "$(over_turns "$1" median latency_ms.intended.p99)"
  for code in $(for turn in "$WORK/$1".turn*.json; do flatten "$turn"; done |
    sed -n 's/^runs\.refusals\.\([A-Z_]*\)\.count .*/\1/p' | sort -u); do
    printf '%s"%s": {"count": %s, "p50_ms": %s, "p99_ms": %s}' "$separator" "$code" \
      "$(over_turns "$1" sum "refusals.$code.count")" \
      "$(over_turns "$1" median "refusals.$code.latency_ms.actual.p50")" \
      "$(over_turns "$1" median "refusals.$code.latency_ms.actual.p99")"
    separator=', '
  done
  printf '}, "tester_cores": %s, "tester_late_p99_ms": %s}' "$(over_turns "$1" median client.cpu_cores)" \
    "$(over_turns "$1" median client.late_ms.p99)"
}

measure_capacity() {
  make_encoder "$WORK/models"
  start_server --model-repository "$WORK/models"
  capacity=$(capacity_of capacity "${ENCODER[@]}")
  say "capacity: $capacity requests/s"
  printf '"capacity": {"requests_per_s": %s, "tokens_per_s": %s}' "$capacity" "$(value "$WORK/capacity.json" tokens_per_s)"
}

measure_overload() {
  local factor turn separator=
  for ((turn = 0; turn < turns; turn++)); do
    say "overload: turn $((turn + 1)) of $turns"
    for factor in $FACTORS; do
      offer "overload-$factor" "$turn" "$factor" "$capacity" "$(((seconds + 1) / 2))" "${ENCODER[@]}"
    done
  done
  printf '"overload": {"points": ['
  for factor in $FACTORS; do
    printf '%s\n    ' "$separator"
    point "overload-$factor" "$factor" "$capacity"
    separator=','
  done
  printf '\n  ], "least_of_best": %s}' "$(for factor in $FACTORS; do
    over_turns "overload-$factor" mean goodput_tokens_per_s
  done | awk 'NR == 1 || $1 < least { least = $1 } $1 > most { most = $1 }
    END { printf "%.3f", (most > 0) ? least / most : 0 }')"
  stop_server || fail "the server did not end well"
}

measure_overload_demo() {
  local demo_capacity
  start_server --models demo
  demo_capacity=$(capacity_of demo-capacity "${DEMO[@]}")
  say "demo: $demo_capacity requests/s; 3 times that"
  offer demo-overload 0 3 "$demo_capacity" "$seconds" "${DEMO[@]}"
  printf '"overload_demo": {"capacity_per_s": %s, "points": [\n    ' "$demo_capacity"
  point demo-overload 3 "$demo_capacity"
  printf '\n  ]}'
}

# short_latency NAME SECONDS: of 16-token requests at 50/s, as JSON.
short_latency() {
  load "$1" --model demo --shape 1x16 --rate 50 --timeout-ms 30000 --warmup 1s --duration "${2}s"
  printf '{"p50_ms": %s, "p99_ms": %s, "refused": %s}' "$(value "$WORK/$1.json" latency_ms.intended.p50)" \
    "$(value "$WORK/$1.json" latency_ms.intended.p99)" "$(value "$WORK/$1.json" refused)"
}

measure_long_beside_short() {
  local long=(--model demo --shape "1x$long_tokens" --concurrency 1 --timeout-ms 600000 --warmup 0s)
  local alone_ms beside_s pid short
  say "long beside short: a request of $long_tokens tokens alone"
  load long-alone "${long[@]}" --count 2
  alone_ms=$(value "$WORK/long-alone.json" latency_ms.actual.mean)
  short=$(short_latency short-alone "$seconds")
  printf '"long_beside_short": {"long_tokens": %s, "long_alone_ms": %s, "short_alone": %s, ' \
    "$long_tokens" "$alone_ms" "$short"
  beside_s=$(awk -v ms="$alone_ms" -v least="$seconds" 'BEGIN { s = ms * 3 / 1000; print int(s > least ? s : least) + 1 }')
  say "long beside short: both for $beside_s s"
  "$BIN/headlight" loadtest --server "$ADDRESS" "${long[@]}" --count 1000000 --json "$WORK/long-beside.json" \
    >/dev/null 2>&1 &
  pid=$!
  short=$(short_latency short-beside "$beside_s")
  kill -INT "$pid"  # it reports what it has gathered
  wait "$pid" || true
  printf '"short_beside_long": %s, "long_beside_ms": %s}' "$short" \
    "$(value "$WORK/long-beside.json" latency_ms.actual.mean)"
}

# held_against NAME COMMAND FLAGS...: the number NAME of what serving_bench COMMAND finds.
held_against() {
  local number
  number=$("$BIN/serving_bench" "${@:2}" | sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p")
  [ -n "$number" ] || fail "serving_bench $2: no $1"
  echo "$number"
}

# note NAME NUMBER: one more round's.
note() { echo "$2" >>"$WORK/$1.rounds"; }

# median NAME: of what was noted, an odd number of times.
median() { sort -g "$WORK/$1.rounds" | sed -n "$(((ROUNDS + 1) / 2))p"; }

# cpu_of NAME FLAGS...: milliseconds of the server's CPU for a request of a load.
cpu_of() {
  local before after
  before=$(cpu_ticks "$SERVER")
  load "$@" --warmup 0s
  after=$(cpu_ticks "$SERVER")
  compute "($after - $before) * 1000 / $(getconf CLK_TCK) / $(value "$WORK/$1.json" sent)"
}

# cost_of DTYPE COUNT: cpu_of so many requests of 8x128.
cost_of() {
  cpu_of "cost-$1" --model demo --shape 8x128 --dtype "$1" --output-dtype "$1" --concurrency 2 --count "$2"
}

measure_cost() {
  local count=$((seconds * 3)) round f32 in_process bf16
  say "CPU for a request, and in process"
  cost_of f32 20 >/dev/null  # warms up
  cost_of bf16 20 >/dev/null
  for ((round = 0; round < ROUNDS; round++)); do
    f32=$(cost_of f32 "$count")
    in_process=$(held_against cpu_ms compute --model demo --sequences 8 --seq-len 128 --count "$count")
    bf16=$(cost_of bf16 "$count")
    note f32 "$f32"
    note in_process "$in_process"
    note bf16 "$bf16"
    note f32_ratio "$(compute "$f32 / $in_process")"
    note bf16_ratio "$(compute "$bf16 / $in_process")"
  done
  printf '"cost": {"in_process_cpu_ms": %s, "server_cpu_ms": {"f32": %s, "bf16": %s}, "ratio": {"f32": %s, "bf16": %s}}' \
    "$(median in_process)" "$(median f32)" "$(median bf16)" "$(median f32_ratio)" "$(median bf16_ratio)"
  stop_server || fail "the server did not end well"
}

measure_tiny() {
  local round_seconds=$(((seconds + 2) / 3)) ceiling
  say "requests of one token, and echoes"
  "$BIN/headlight-server" init-model --embed-dim 64 --num-heads 4 --norm-placement none --out "$WORK/tiny" >/dev/null
  start_server --models demo --model "tiny=$WORK/tiny"
  cpu_of tiny --model tiny --shape 1x1 "${TINY[@]}" --count 2000 >/dev/null  # warms up
  ceiling=$("$BIN/serving_bench" echo --server "$ADDRESS" --model tiny --rounds "$ROUNDS" --seconds "$round_seconds")
  [ -n "$ceiling" ] || fail "serving_bench echo: nothing"
  printf '"tiny": %s, "server_cpu_us": %s, ' "${ceiling%\}}" \
    "$(compute "$(cpu_of tiny --model tiny --shape 1x1 "${TINY[@]}" --duration "${seconds}s") * 1000")"
  printf '"demo": {"server_cpu_us": %s, "requests_per_s": %s}}' \
    "$(compute "$(cpu_of tiny --model demo --shape 1x1 "${TINY[@]}" --duration "${seconds}s") * 1000")" \
    "$(value "$WORK/tiny.json" requests_per_s)"
  stop_server || fail "the server did not end well"
}

{
  printf '{\n  "schema": "headlight-bench-serving/3", "version": "%s", "cpus": %s, "seconds": %s, "deadline_ms": %s,\n' \
    "$("$BIN/headlight-server" --version | awk '{ print $2 }')" "$(nproc)" "$seconds" "$DEADLINE_MS"
  for part in capacity overload overload_demo long_beside_short cost tiny; do
    printf '  '
    "measure_$part"
    [ "$part" = tiny ] || printf ','
    printf '\n'
  done
  printf '}\n'
} >"$WORK/result.json"
cat "$WORK/result.json" >"$out"
