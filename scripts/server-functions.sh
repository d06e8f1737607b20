# shellcheck shell=bash
# Sourced by scripts that run a server of their own: start and stop it, and read what a load test found.
#
# Set before: BIN, the folder of headlight and headlight-server. Set here: WORK, a folder that goes when the script ends;
# SERVER, the server's process, and ADDRESS, where it listens.
unset "${!HEADLIGHT_@}"  # the server and the client read options from variables of this name

WORK=$(mktemp -d)
SERVER=
ADDRESS=

# What the script still runs ends with it, stopped processes too.
end_all() {
  local pid
  for pid in $(jobs -p); do
    { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null || true  # else its exit code would become the script's
  done
  rm -rf "$WORK"
  return 0
}
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "$(basename "$0"): $*" >&2
  [ ! -s "$WORK/server.log" ] || { echo "the server's last words:" >&2; tail -n 5 "$WORK/server.log" >&2; }
  exit 1
}

# expect_programs NAME...: ends with 2 unless all of them are in $BIN.
expect_programs() {
  local program
  for program in "$@"; do
    [ -x "$BIN/$program" ] || { echo "$(basename "$0"): no $program in $BIN; build it first" >&2; exit 2; }
  done
}

# start_server ARGUMENTS...: on a free port of 127.0.0.1; returns when it serves.
start_server() {
  : >"$WORK/server.log"
  "$BIN/headlight-server" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 "$@" >"$WORK/server.log" 2>&1 &
  SERVER=$!
  ADDRESS=
  local i
  for ((i = 0; i < 1200; i++)); do
    ADDRESS=$(sed -n 's/.* listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$WORK/server.log" | head -n 1)
    [ -z "$ADDRESS" ] || return 0
    kill -0 "$SERVER" 2>/dev/null || fail "the server ended before it served"
    sleep 0.1
  done
  fail "the server does not serve after 120 s"
}

# stop_server: drains it. Its exit code is the result.
stop_server() {
  local pid=$SERVER status=0
  kill -TERM "$pid"
  wait "$pid" || status=$?
  SERVER=
  return "$status"
}

# make_encoder DIR: the repository DIR with `encoder`, 6 layers of 384 and 12 heads, random weights.
make_encoder() {
  "$BIN/headlight-server" init-model --embed-dim 384 --num-heads 12 --num-layers 6 --vocab-size 30522 \
    --out "$1/encoder/1" >/dev/null
}

# flatten FILE: a --json report with one run, one "path.to.key value" a line; elements of lists have no names.
flatten() {
  awk '{
    depth = (match($0, /[^ ]/) - 1) / 2
    line = substr($0, RSTART)
    for (d in key) if (d + 0 >= depth) delete key[d]
    if (line !~ /^"[^"]*": /) next
    name = line; sub(/^"/, "", name); sub(/": .*/, "", name)
    value = line; sub(/^"[^"]*": /, "", value); sub(/,$/, "", value)
    key[depth] = name
    if (value == "{" || value == "[") next
    path = ""
    for (d = 0; d <= depth; d++) if (d in key) path = path (path == "" ? "" : ".") key[d]
    print path, value
  }' "$1"
}

# value FILE PATH: of the first run; null if there is none.
value() {
  flatten "$1" | awk -v path="runs.$2" '$1 == path && !found { print $2; found = 1 } END { if (!found) print "null" }'
}

# compute EXPRESSION: with three decimals.
compute() { awk "BEGIN { printf \"%.3f\", $1 }"; }

# cpu_ticks PID: that it has used, in user mode and in the kernel.
cpu_ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
