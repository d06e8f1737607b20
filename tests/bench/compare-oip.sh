#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# CPU time of the server for a request of the Open Inference Protocol: headlight-server against a lean Python server over
# OpenVINO that gets the same bytes, in one go; beside it headlight.v1 for the same tensors, and shared memory instead of
# messages. Prints JSON; progress goes to stderr. Exits 77, saying why, where openvino cannot be had. Leave the machine alone
# meanwhile.
#   tests/bench/compare-oip.sh [--rounds N] [--requests N] [--quick] [--out FILE] [--bin DIR]
#     --rounds N     each way is measured so often, in turns [15]
#     --requests N   requests of 8x128x768 in a round [40]; of 1x16x768 ten times as many, of 8x512x768 a quarter
#     --quick        2 rounds of 4 requests: shows that it runs, not how fast
#     --out FILE     writes there instead of to stdout
#     --bin DIR      folder of headlight-server [build/release/bin]
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=15 requests=40 out=/dev/stdout bin=build/release/bin
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=${2:?--rounds wants a number} && shift 2 ;;
    --requests) requests=${2:?--requests wants a number} && shift 2 ;;
    --quick) rounds=2 requests=4 && shift ;;
    --out) out=${2:?--out wants a file} && shift 2 ;;
    --bin) bin=${2:?--bin wants a folder} && shift 2 ;;
    *) echo "compare-oip.sh: got $1, wanted --rounds N, --requests N, --quick, --out FILE or --bin DIR" >&2 && exit 2 ;;
  esac
done
[ -x "$bin/headlight-server" ] || { echo "compare-oip: $bin/headlight-server: build it first" >&2 && exit 2; }

environment=build/bench-environment
if ! cmp -s tests/bench/oip_requirements.txt "$environment/installed"; then
  why=$({ python3 -m venv --clear "$environment" &&
    "$environment/bin/python3" -m pip install -q --disable-pip-version-check -r tests/bench/oip_requirements.txt; } 2>&1) ||
    { echo "compare-oip: skipped: openvino cannot be had: ${why##*$'\n'}" >&2 && exit 77; }
  cp tests/bench/oip_requirements.txt "$environment/installed"
fi
stubs=$(mktemp -d)
trap 'rm -rf "$stubs"' EXIT
protoc --proto_path=proto --python_out="$stubs" headlight/v1/attention.proto
"$environment/bin/python3" tests/bench/oip_cpu.py --bin "$bin" --stubs "$stubs" --rounds "$rounds" --requests "$requests" >"$out"
