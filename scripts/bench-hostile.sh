#!/usr/bin/env bash
# What a caller that behaves feels of peers that do not: p50 and p99 of small requests at a constant rate, alone and beside each
# attack of tests/e2e/attacks, by turns.
#   scripts/bench-hostile.sh [--seconds N] [--only ATTACK] [--bin DIR]
#     --seconds N     of each measurement [5]
#     --only ATTACK   that attack alone; `hostile_peer` lists them [all]
#     --bin DIR       headlight, headlight-server and hostile_peer [build/release/bin]
# Attackers run at the lowest priority, since on a network they would have CPUs of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=5 only= BIN=build/release/bin
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?--seconds wants a number} && shift 2 ;;
    --only) only=${2:?--only wants a name} && shift 2 ;;
    --bin) BIN=${2:?--bin wants a folder} && shift 2 ;;
    *) echo "bench-hostile.sh: got $1, wanted --seconds N, --only ATTACK or --bin DIR" >&2 && exit 2 ;;
  esac
done
# shellcheck source=scripts/server-functions.sh
. scripts/server-functions.sh
expect_programs headlight headlight-server hostile_peer

# measure NAME: the caller's latencies, to $WORK/NAME.json.
measure() {
  "$BIN/headlight" loadtest --server "$ADDRESS" --shape 1x4 --rate 100 --arrivals constant --warmup 500ms \
    --duration "${seconds}s" --timeout-ms 5000 --json "$WORK/$1.json" >"$WORK/$1.txt" 2>&1 ||
    fail "the caller: $(tail -n 3 "$WORK/$1.txt")"
}
milliseconds() { value "$WORK/$1.json" "latency_ms.intended.$2"; }

start_server --models demo --reply-timeout-s 2
measure warm
printf '%-22s %10s %10s %10s %10s %7s\n' attack p50_ms p99_ms p50_beside p99_beside p99
for attack in ${only:-$("$BIN/hostile_peer")}; do
  measure alone
  nice -n 19 "$BIN/hostile_peer" "$ADDRESS" "$seconds" "$attack" >/dev/null &
  peer=$!
  measure beside
  wait "$peer" || fail "$attack: the server did not do its part"
  printf '%-22s %10s %10s %10s %10s %6.1fx\n' "$attack" "$(milliseconds alone p50)" "$(milliseconds alone p99)" \
    "$(milliseconds beside p50)" "$(milliseconds beside p99)" \
    "$(compute "$(value "$WORK/beside.json" latency_ms.intended.p99) / $(value "$WORK/alone.json" latency_ms.intended.p99)")"
done
