#!/usr/bin/env bash
# Installs what is needed, builds everything of a preset and runs its tests; fails if one of them does.
#   scripts/test.sh [--beside NEXT] [PRESET...]     presets: release (the default), dev, asan, tsan, lto
#     --beside NEXT    builds this preset too, beside the last one's tests
# Two tests run beside each other, or three where many wait for others; those that measure or attack ctest runs alone (RUN_SERIAL).
# Of several presets the next is built meanwhile, of what tests leave of the CPU (SCHED_IDLE): half of it where they wait.
set -euo pipefail
cd "$(dirname "$0")/.."

beside=
if [ "${1:-}" = --beside ]; then
  beside=${2:?usage: scripts/test.sh [--beside NEXT] [PRESET...]}
  shift 2
fi
[ $# -gt 0 ] || set -- release
scripts/install-deps.sh --tests
idle=(chrt --idle 0)
"${idle[@]}" true 2>/dev/null || idle=(nice -n 19)
building=
trap '[ -z "$building" ] || kill -- "-$building" 2>/dev/null || true' EXIT

# build PRESET [COMMAND...]: COMMAND says how it runs.
build() {
  local preset=$1
  shift
  "$@" cmake --preset "$preset"
  "$@" cmake --build --preset "$preset"
}

SECONDS=0
echo "test: building preset $1"
build "$1"
while [ $# -gt 0 ]; do
  preset=$1
  shift
  next=${1:-$beside}
  if [ -n "$next" ]; then
    set -m  # a group of its own, to be ended whole
    build "$next" "${idle[@]}" >"build/$next.log" 2>&1 &
    building=$!
    set +m
  fi
  parallel=2
  [ "$preset" != release ] || parallel=3
  begun=$SECONDS
  ctest --preset "$preset" --parallel "$parallel"
  echo "test: preset $preset passed; tests $((SECONDS - begun)) s, all so far $SECONDS s"
  [ -n "$next" ] || break
  echo "test: building preset $next"
  wait "$building" || { tail -n 50 "build/$next.log" >&2; exit 1; }
  building=
done
