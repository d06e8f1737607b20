#!/usr/bin/env bash
# Builds Headlight, starts a server on a free port, sends it a few requests and a short load, and stops it.
# The last line it prints on success starts with `demo: ok`.
set -euo pipefail
cd "$(dirname "$0")/.."
unset "${!HEADLIGHT_@}"  # the server and the client read options from variables of this name

scripts/install-deps.sh
cmake --preset release
cmake --build --preset release --target headlight-server headlight
readonly BIN=build/release/bin
echo "demo: built after $SECONDS s"

work=$(mktemp -d)
server=
finish() {
  local status=$?
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  if [ "$status" -ne 0 ]; then
    echo "demo: failed (exit code $status); the server's log:" >&2
    cat "$work/server.log" >&2 || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

run() {
  echo "\$ $*"
  timeout 120 "$@"
}

"$BIN/headlight-server" --listen 127.0.0.1:0 --admin-listen "" >"$work/server.log" 2>&1 &
server=$!
address=
for _ in {1..600}; do
  address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$work/server.log" | head -n 1)
  [ -z "$address" ] || break
  kill -0 "$server" 2>/dev/null || { wait "$server" || echo "demo: the server ended with exit code $?" >&2; exit 1; }
  sleep 0.1
done
[ -n "$address" ] || { echo "demo: the server did not say where it listens within 60 s" >&2; exit 1; }
echo "demo: the server listens on $address"

run "$BIN/headlight" health --server "$address"
run "$BIN/headlight" models --server "$address"
run "$BIN/headlight" attend --server "$address" --model demo --shape 2x16
run "$BIN/headlight" attend --server "$address" --model demo --seq-lens 5,16,9 --causal --weights mean
run "$BIN/headlight" loadtest --server "$address" --model demo --shape 4x128 --concurrency 4 --duration 2s \
  --json "$work/load.json"
figure() { sed -n -E "s/.*\"$1\": *([0-9]+).*/\1/p" "$work/load.json" | head -n 1; }
tokens=$(figure tokens_per_s) refused=$(figure refused)
[ "$refused" = 0 ] || { echo "demo: ${refused:-all} requests of the load were refused" >&2; exit 1; }

kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
[ "$status" -eq 0 ] || { echo "demo: the server ended with exit code $status on SIGTERM" >&2; exit 1; }
echo "demo: the server drained and ended with exit code 0"
echo "demo: ok in $SECONDS s, $tokens tokens/s"
