#!/usr/bin/env bash
# Treats servers badly for a long time, round after round, and ends with 1 naming what broke.
#   scripts/soak.sh [--minutes N] [--only PART,...] [--bin DIR]
#     --minutes N   begins rounds for so long; at least one is run [10]
#     --only PART   of: drains, streams, dead_clients, slow_readers, hot_swaps, memory, mixed [all]
#     --bin DIR     headlight, headlight-server, drain_test and hostile_peer [build/release/bin]
#
# drains         SIGTERM under unary load: each request is answered or gets UNAVAILABLE, the server ends with 0
# streams        the same with streams and unary calls, in one process (drain_test)
# dead_clients   clients die by SIGKILL, some half way through a message: the server goes idle, answers others, drains at once
# slow_readers   a client stops reading large replies: others are answered meanwhile
# hot_swaps      versions of a model come and go under load: nothing fails, the last one serves
# memory         the resident set stays below --memory-limit under floods, half-sent messages and bursts, and comes down again
# mixed          tenants at load, versions, token tables and hostile peers that come and go: what fails was meant to, nothing grows
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=10 parts=drains,streams,dead_clients,slow_readers,hot_swaps,memory,mixed BIN=build/release/bin
while [ $# -gt 0 ]; do
  case $1 in
    --minutes) minutes=${2:?--minutes wants a number} && shift 2 ;;
    --only) parts=${2:?--only wants names} && shift 2 ;;
    --bin) BIN=${2:?--bin wants a folder} && shift 2 ;;
    *) echo "soak.sh: got $1, wanted --minutes N, --only PART,... or --bin DIR" >&2 && exit 2 ;;
  esac
done
# shellcheck source=scripts/server-functions.sh
. scripts/server-functions.sh
expect_programs headlight headlight-server drain_test hostile_peer

for part in ${parts//,/ }; do
  [[ ,drains,streams,dead_clients,slow_readers,hot_swaps,memory,mixed, == *,$part,* ]] ||
    { echo "soak.sh: --only: got $part, which is no part" >&2; exit 2; }
done

readonly LIMIT_BYTES=$((600 << 20))
answered=0 unavailable=0 drains=0
say() { echo "soak: $*"; }

# start_load NAME FLAGS...: a load test in the background, reporting to $WORK/NAME.json when it is interrupted. Sets LOAD.
start_load() {
  local name=$1
  shift
  rm -f "$WORK/$name.json"
  "$BIN/headlight" loadtest --server "$ADDRESS" --warmup 0s --duration "$DURATION" "$@" --json "$WORK/$name.json" \
    >"$WORK/$name.txt" 2>&1 &
  LOAD=$!
}

# end_load NAME PID ALLOWED: interrupts it; fails if a request ended in a code that the regex ALLOWED does not match.
end_load() {
  local name=$1 bad
  kill -INT "$2" 2>/dev/null || true
  wait "$2" || true
  [ -s "$WORK/$name.json" ] || fail "load $name made no report: $(tail -n 3 "$WORK/$name.txt")"
  bad=$(flatten "$WORK/$name.json" | sed -n 's/^runs\.refusals\.\([A-Z_]*\)\.count /\1 /p' | grep -vE "^($3) " || true)
  [ -z "$bad" ] || fail "load $name: requests ended in $(echo "$bad" | tr '\n' ' '): $(grep refused -A 4 "$WORK/$name.txt")"
}

# count NAME PATH: as value, 0 where there is none.
count() {
  local n
  n=$(value "$WORK/$1.json" "$2")
  [ "$n" != null ] && echo "$n" || echo 0
}

end_dead() { kill -KILL "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }

# A small request of somebody else, within 10 s.
expect_answer() {
  "$BIN/headlight" attend --server "$ADDRESS" --timeout-ms 10000 "$@" >"$WORK/answer.txt" 2>&1 ||
    fail "$part: the server does not answer others: $(cat "$WORK/answer.txt")"
}

# Whatever nobody waits for any more has been let go of: within 10 s the server computes nothing for a second.
expect_idle() {
  local i before
  for ((i = 0; i < 10; i++)); do
    before=$(cpu_ticks "$SERVER")
    sleep 1
    [ $(($(cpu_ticks "$SERVER") - before)) -gt $(($(getconf CLK_TCK) / 20)) ] || return 0
  done
  fail "$part: the server still computes, 10 s after all clients are gone"
}

# expect_end SECONDS: on SIGTERM, with exit code 0, since nothing is left to answer.
expect_end() {
  local begin=$SECONDS status=0
  stop_server || status=$?
  [ "$status" -eq 0 ] || fail "$part: the server ended with $status"
  [ $((SECONDS - begin)) -le "$1" ] || fail "$part: the server took $((SECONDS - begin)) s to end"
}

# Kilobytes: the resident set now (VmRSS) and the largest so far (VmHWM).
resident_kb() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$SERVER/status"; }

drains() {
  local i name loads=() before=$answered
  start_server --models demo
  expect_answer --shape 8x32
  for i in 1 2 3; do
    start_load "drain-$i" --shape "$((1 << i))x32" --concurrency 8 --timeout-ms 60000
    loads+=("$LOAD")
  done
  sleep "1.$((RANDOM % 10))"
  expect_end 40
  sleep 0.5
  for i in 1 2 3; do
    name=drain-$i
    end_load "$name" "${loads[i - 1]}" UNAVAILABLE
    answered=$((answered + $(count "$name" replies)))
    unavailable=$((unavailable + $(count "$name" refusals.UNAVAILABLE.count)))
  done
  [ "$answered" -gt "$before" ] || fail "drains: nothing was answered before the server ended"
  drains=$((drains + 1))
}

streams() {
  HEADLIGHT_DRAINS=10 timeout 300 "$BIN/drain_test" >"$WORK/drain_test.txt" 2>&1 ||
    fail "streams: $(grep -E -A 4 'Failure$' "$WORK/drain_test.txt" | head -n 12)"
}

dead_clients() {
  local i shape
  start_server --models demo
  for shape in 1x16 8x512 1x16384 4x128; do
    for i in 1 2 3; do
      start_load dead --shape "$shape" --concurrency 16 --timeout-ms 60000
      sleep "0.$((RANDOM % 9 + 1))"
      end_dead "$LOAD"
    done
  done
  start_load dead --shape 8x128 --concurrency 16 --cancel-ratio 0.8 --cancel-within 20ms
  sleep 2
  end_load dead "$LOAD" 'RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED'
  expect_idle
  expect_answer --shape 1x16
  expect_end 5
}

slow_readers() {
  local slow i
  start_server --models demo --memory-limit "$LIMIT_BYTES"
  start_load slow --shape 8x512 --concurrency 64 --timeout-ms 60000
  slow=$LOAD
  sleep 2
  kill -STOP "$slow"
  for ((i = 0; i < 10; i++)); do
    expect_answer --shape 2x16
    sleep 0.5
  done
  expect_resident 'a client stopped reading'
  kill -CONT "$slow"
  sleep 1
  kill -STOP "$slow"
  end_dead "$slow"
  expect_idle
  expect_end 5
}

# make_version REPOSITORY VERSION: of a small model, encoder.
make_version() {
  "$BIN/headlight-server" init-model --embed-dim 128 --num-heads 4 --num-layers 2 --vocab-size 1000 --seed "$2" \
    --out "$1/.new/$2" >/dev/null
  mkdir -p "$1/encoder"
  mv "$1/.new/$2" "$1/encoder/$2"
}

# swap_version REPOSITORY VERSION FLAGS...: makes it, has the server take it, with FLAGS for the client, and removes the one before.
swap_version() {
  local repository=$1 version=$2
  shift 2
  make_version "$repository" "$version"
  "$BIN/headlight" models --server "$ADDRESS" --timeout-ms 60000 "$@" --load encoder >"$WORK/models.txt" 2>&1 ||
    fail "$part: version $version does not load: $(cat "$WORK/models.txt")"
  rm -rf "$repository/encoder/$((version - 1))"
}

hot_swaps() {
  local version=1 load
  rm -rf "$WORK/swaps"
  make_version "$WORK/swaps" 1
  start_server --model-repository "$WORK/swaps" --allow-model-control
  start_load swaps --model encoder --pooled --seq-lens uniform:8-128 --concurrency 16 --timeout-ms 60000
  load=$LOAD
  for version in 2 3 4 5 6 7 8; do
    swap_version "$WORK/swaps" "$version"
    kill -0 "$load" || fail "hot_swaps: the load ended: $(cat "$WORK/swaps.txt")"
  done
  end_load swaps "$load" NONE
  "$BIN/headlight" models --server "$ADDRESS" --json >"$WORK/models.txt"
  grep -qE '"version": *"8"' "$WORK/models.txt" || fail "hot_swaps: version 8 does not serve: $(cat "$WORK/models.txt")"
  expect_end 5
}

# expect_resident AFTER: the resident set has never passed the limit.
expect_resident() {
  local peak_kb
  peak_kb=$(resident_kb VmHWM)
  [ $((peak_kb << 10)) -le "$LIMIT_BYTES" ] ||
    fail "$part, after $1: the resident set reached $((peak_kb >> 10)) MiB, the limit is $((LIMIT_BYTES >> 20)) MiB"
}

memory() {
  local i start_kb load now_kb ids=(--model encoder --pooled)
  [ -d "$WORK/models" ] || make_encoder "$WORK/models"
  start_server --model-repository "$WORK/models" --memory-limit "$LIMIT_BYTES"
  start_load calm "${ids[@]}" --seq-lens uniform:8-256 --concurrency 4
  sleep 2
  end_load calm "$LOAD" NONE
  start_kb=$(resident_kb VmRSS)

  start_load large "${ids[@]}" --shape 1365x128 --concurrency 4 --timeout-ms 60000  # 0.7 MB each
  load=$LOAD
  start_load burst "${ids[@]}" --seq-lens uniform:8-512 --sequences 64 --rate 200 --timeouts 500
  sleep 5
  end_load burst "$LOAD" 'RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED'
  end_load large "$load" 'RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|INVALID_ARGUMENT'
  expect_resident 'a burst'
  # Many large messages at once, whose sender stops in the middle of them. They share their bytes where they are sent.
  for i in 1 2; do
    start_load half-sent --model encoder --shape 16384x512 --concurrency 128 --channels 8 --timeout-ms 60000
    sleep "$i"
    kill -STOP "$LOAD"
    sleep 1
    expect_answer "${ids[@]}" --shape 2x16
    end_dead "$LOAD"
  done
  expect_idle
  expect_resident 'messages that were sent by half'
  sleep 5
  now_kb=$(resident_kb VmRSS)
  [ "$now_kb" -le $((start_kb * 11 / 10)) ] ||
    fail "memory: the resident set is $((now_kb >> 10)) MiB after the burst, before it $((start_kb >> 10)) MiB"
  expect_end 5
}

# expect_flat FILE SECONDS: samples "second resident_kb descriptors threads", one a second. After a third of the time nothing
# grows any more: the resident set, at its least in each tenth of the rest, by less than 1 MiB a minute; descriptors and threads
# not at all. The slope is that of least squares. Minutes of it are noise, since attacks come and go: it is too steep where it is
# beyond the limit by more than its own error (the quantile of Student's t, .975 and 8 degrees of freedom, times the standard
# error), which half an hour makes small; and by more than 16 MiB in all: less is caches that fill in the first minutes, and twenty
# minutes beyond the limit are more.
expect_flat() {
  awk -v total="$2" '
    $1 >= total / 3 {
      tenth = int(10 * ($1 - total / 3) / (total - total / 3)); if (tenth > 9) tenth = 9
      if (!(tenth in least) || $2 < least[tenth]) { least[tenth] = $2; at[tenth] = $1 }
      if (!(tenth in fds) || $3 < fds[tenth]) fds[tenth] = $3
      if (!(tenth in threads) || $4 < threads[tenth]) threads[tenth] = $4
    }
    END {
      for (t in least) { n++; x[t] = at[t] / 60; y[t] = least[t] / 1024; mx += x[t]; my += y[t] }
      mx /= n; my /= n
      for (t in least) { sxx += (x[t] - mx) ^ 2; sxy += (x[t] - mx) * (y[t] - my) }
      slope = sxy / sxx
      for (t in least) rest += (y[t] - my - slope * (x[t] - mx)) ^ 2
      error = 2.306 * sqrt(rest / (n - 2) / sxx)
      printf "resident %.1f -> %.1f MiB, %+.2f MiB/min (give or take %.2f); descriptors %d -> %d; threads %d -> %d\n", \
        least[0] / 1024, least[9] / 1024, slope, error, fds[0], fds[9], threads[0], threads[9]
      grows = slope - error >= 1 && least[9] - least[0] > 16 * 1024
      exit !(n == 10 && !grows && fds[9] <= fds[0] + 8 && threads[9] <= threads[0] + 4)
    }' "$1"
}

# Two tenants at load, streams, versions of models, token tables and certificates that come and go, and peers that mean no good.
mixed() {
  local i end load second=0 loads=() total=$mixed_s version=1 flat
  rm -rf "$WORK/mixed" && mkdir -p "$WORK/mixed"
  local tokens=$WORK/mixed/tokens.toml
  for i in search bulk operator; do
    openssl rand -hex 32 >"$WORK/mixed/$i.token"
    "$BIN/headlight-server" hash-token --name "$i" $([ "$i" != operator ] || echo --model-control) \
      <"$WORK/mixed/$i.token" >"$WORK/mixed/$i.toml"
  done
  cat "$WORK"/mixed/{search,bulk,operator}.toml >"$tokens"
  make_version "$WORK/mixed/models" 1
  start_server --models demo --model-repository "$WORK/mixed/models" --memory-limit "$LIMIT_BYTES" --tokens "$tokens" \
    --allow-plaintext --reply-timeout-s 2 --canary-period-s 5
  as() { echo --allow-token-without-tls --token-file "$WORK/mixed/$1.token"; }
  # shellcheck disable=SC2046  # words
  {
    start_load search $(as search) --model encoder --pooled --seq-lens uniform:8-128 --concurrency 4 --timeout-ms 5000
    loads+=("$LOAD")
    start_load bulk $(as bulk) --model encoder --pooled --seq-lens uniform:8-512 --rate 60 --timeouts 500 --cancel-ratio 0.3
    loads+=("$LOAD")
    start_load embeddings $(as bulk) --model demo --shape 4x64 --concurrency 2 --timeout-ms 5000
    loads+=("$LOAD")
  }
  end=$((SECONDS + total))
  "$BIN/hostile_peer" "$ADDRESS" $((total - 30)) >"$WORK/hostile.txt" 2>&1 &
  load=$!
  : >"$WORK/samples"
  while [ "$SECONDS" -lt "$end" ]; do
    second=$((total - (end - SECONDS)))
    echo "$second $(resident_kb VmRSS) $(ls "/proc/$SERVER/fd" | wc -l) $(awk '$1 == "Threads:" { print $2 }' "/proc/$SERVER/status")" \
      >>"$WORK/samples"
    # Tables by turns: with another weight, as it was, and one that is broken and changes nothing.
    case $((second % 3)) in
      0) { cat "$WORK"/mixed/{search,operator,bulk}.toml && echo 'weight = 2'; } >"$tokens.new" ;;
      1) cat "$WORK"/mixed/{search,bulk,operator}.toml >"$tokens.new" ;;
      2) echo 'token = "broken"' >"$tokens.new" ;;
    esac
    mv "$tokens.new" "$tokens"
    kill -HUP "$SERVER"
    if [ $((second % 10)) -eq 0 ]; then
      version=$((version + 1))
      # shellcheck disable=SC2046
      swap_version "$WORK/mixed/models" "$version" $(as operator)
    fi
    for i in "${loads[@]}"; do kill -0 "$i" || fail "mixed: a load ended: $(tail -n 5 "$WORK"/{search,bulk,embeddings}.txt)"; done
    sleep 1
  done
  wait "$load" || fail "mixed: the hostile peers ended: $(tail -n 5 "$WORK/hostile.txt")"
  end_load search "${loads[0]}" 'RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED'
  end_load bulk "${loads[1]}" 'RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|CANCELLED'
  end_load embeddings "${loads[2]}" 'RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED'
  [ "$(count search replies)" -gt "$total" ] || fail "mixed: only $(count search replies) requests of search were answered"
  flat=$(expect_flat "$WORK/samples" "$total") || fail "mixed: the server grows: $flat"
  say "mixed: $flat; $(count search replies), $(count bulk replies) and $(count embeddings replies) answered, $version versions, $(grep -c . "$WORK/hostile.txt") attacks"
  expect_resident 'mixed load'
  expect_end 40
}

# Alone it takes all of the time that there is, beside others a minute of each round.
mixed_s=60
[ "$parts" != mixed ] || mixed_s=$((minutes * 60))
DURATION=$((minutes + 10))m

round=0
while [ "$round" -eq 0 ] || [ "$SECONDS" -lt $((minutes * 60)) ]; do
  round=$((round + 1))
  for part in ${parts//,/ }; do
    begin=$SECONDS
    "$part"
    say "round $round: $part ok, $((SECONDS - begin)) s"
  done
done
say "ok: $round rounds in $SECONDS s; $drains drains of processes: $answered requests answered, $unavailable UNAVAILABLE, no other"
