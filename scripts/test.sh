#!/usr/bin/env bash
# Installs what is needed, builds everything of a preset and runs its tests; fails if one of them does.
#   scripts/test.sh [PRESET...]     presets: release (the default), dev, asan, tsan, lto
# The tests of a preset run one at a time: many of them measure, or use every core themselves. Under sanitizers nothing is
# measured, and two of those of single rooms run beside each other.
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
  jobs=1
  [[ $preset != asan && $preset != tsan ]] || jobs=2
  ctest --preset "$preset" --parallel "$jobs"
  echo "test: preset $preset passed; build $built s, tests $((SECONDS - built)) s"
done
