#!/usr/bin/env bash
# Installs what is needed, builds everything of a preset and runs its tests; fails if one of them does.
#   scripts/test.sh [PRESET...]     presets: release (the default), dev, asan, tsan, lto
# Two tests run beside each other, or three where many wait for others; those that measure or attack ctest runs alone (RUN_SERIAL).
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-deps.sh --tests
[ $# -gt 0 ] || set -- release
for preset in "$@"; do
  SECONDS=0
  echo "test: building preset $preset"
  cmake --preset "$preset"
  cmake --build --preset "$preset"
  built=$SECONDS
  parallel=2
  [ "$preset" != release ] || parallel=3
  ctest --preset "$preset" --parallel "$parallel"
  echo "test: preset $preset passed; build $built s, tests $((SECONDS - built)) s"
done
