#!/usr/bin/env bash
# How long headlight-server takes from exec to the first vector of a model of MiniLM-L6's shape (f32, random weights), with
# its files in the page cache, and where the time goes.
#   scripts/bench-startup.sh [BIN] [--repeats N]
#     BIN    the folder of the programs; build/release/bin by default
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=build/release/bin repeats=10
while [ $# -gt 0 ]; do
  case $1 in
    --repeats) repeats=${2:-}; shift ;;
    *) BIN=$1 ;;
  esac
  shift
done
. scripts/server-functions.sh

# 6 layers of 384, 12 heads, 30522 ids, as sentence-transformers/all-MiniLM-L6-v2.
make_encoder "$WORK/models"
cat "$WORK"/models/encoder/1/* >/dev/null
"$BIN/startup_bench" --server "$BIN/headlight-server" --repeats "$repeats" -- --model-repository "$WORK/models" \
  2>"$WORK/server.log"
echo "the last start, by the server's log:"
awk '/ headlight-server [0-9]/ { start = "" } !/ option / { start = start "  " $0 "\n" } END { printf "%s", start }' \
  "$WORK/server.log" | cut -c 1-150
