#!/usr/bin/env bash
# Runs deploy/compose.yaml as an operator would: a fleet that is balanced and scraped, one replica restarted under load, one
# added, then TLS on every leg and certificates exchanged under load. No request may fail. Then what docs/operations.md
# says of Compose, as it is written there.
#   tests/deploy/compose.sh IMAGE      IMAGE: of headlight, already built
# The images beside it are what tests/deploy/peer-images.sh prints, exported.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
unset "${!HEADLIGHT_@}"
export COMPOSE_HTTP_TIMEOUT=${COMPOSE_HTTP_TIMEOUT:-300}  # without overlay file systems copying takes its time

export HEADLIGHT_IMAGE=${1:?usage: tests/deploy/compose.sh IMAGE}
: "${HAPROXY_IMAGE:?}" "${PROMETHEUS_IMAGE:?}" "${GRAFANA_IMAGE:?}"
export HEADLIGHT_PORT=0 PROMETHEUS_PORT=0 GRAFANA_PORT=0  # free ones
readonly NAME=headlight-compose-$$

reason=
trap 'reason="failed: $BASH_COMMAND (lines $LINENO ${BASH_LINENO[*]})"' ERR
say() { echo "compose: $*"; }
die() { reason=$*; exit 1; }

work=$(mktemp -d)
export TLS_DIR=$work/tls
files=(-f deploy/compose.yaml)
compose() {
  local command=(docker compose)
  docker compose version >/dev/null 2>&1 || command=(docker-compose)
  "${command[@]}" -p "$NAME" "${files[@]}" "$@"
}
finish() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    compose logs --no-color --tail=200 2>&1 | grep -v ' request .* code=OK ' >&2 || true
    ! [ -f "$work/load" ] || cat "$work/load" >&2
    echo "compose: error: $reason" >&2  # last, where it is looked for
  fi
  docker rm --force "$NAME-load" >/dev/null 2>&1 || true
  compose down --volumes --timeout 5 >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for WHAT COMMAND...: until it succeeds.
wait_for() {
  local what=$1 end=$((SECONDS + 180))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || die "$what: not after 180 s"
    sleep 1
  done
}
# quietly COMMAND...: what it prints is seen only if it fails.
quietly() { "$@" >"$work/printed" 2>&1 || { cat "$work/printed" >&2; return 1; }; }
replicas() { compose ps -q headlight; }
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps -q "$1")")" = healthy ]; }
published() { docker port "$(compose ps -q "$1")" "$2/tcp" | head -n 1; }

# ask EXPRESSION: the values that Prometheus has for it, one a line.
ask() {
  curl -sf --get --data-urlencode "query=$1" "http://$(published prometheus 9090)/api/v1/query" |
    grep -o '"value":\[[0-9.]*,"[^"]*"' | sed 's/.*,"//; s/"$//'
}
# prometheus_says EXPRESSION VALUE
prometheus_says() { [ "$(ask "$1" || true)" = "$2" ]; }

# balanced COUNT: HAProxy sends to so many, and Prometheus scrapes as many and HAProxy.
balanced() {
  wait_for "HAProxy is healthy" healthy haproxy
  wait_for "Prometheus scrapes $1 replicas" prometheus_says 'count(up{job="headlight"} == 1)' "$1"
  wait_for "HAProxy is scraped and has $1 servers" \
    prometheus_says 'haproxy_backend_active_servers{proxy="servers"}' "$1"
  # Before its first check it believes in each.
  wait_for "HAProxy has checked $1 servers" \
    prometheus_says "count(haproxy_server_check_status{proxy=\"servers\",state=\"L7OK\"} == 1) >= bool $1" 1
}
# load RATE SECONDS: through HAProxy, from within; its exit code is 0 only if no request failed.
load() {
  compose run --rm --no-deps -T --name "$NAME-load" loadtest loadtest --server haproxy:8001 --model demo --shape 1x4 \
    --rate "$1" --duration "${2}s"
}
# The first connection asks for the model, the others come with requests.
requests_flow() {
  docker exec "$(compose ps -q haproxy)" wget -q -O - http://127.0.0.1:8404/metrics |
    awk '/^haproxy_frontend_current_sessions{proxy="calls"}/ && $2 >= 2 { flow = 1 } END { exit !flow }'
}
# Until load_is_well ends it.
load_in_background() {
  load 100 600 >"$work/load" 2>&1 &
  loading=$!
  wait_for "requests flow" requests_flow
  sleep 3  # past its warm-up
}
# load_is_well WHAT [EXCUSE]: no request failed, or EXCUSE says why it may have.
load_is_well() {
  sleep 3
  docker kill --signal INT "$NAME-load" >/dev/null || die "the load ended before: $1"
  wait "$loading" || "${2:-false}" || die "requests failed: $1"
  say "$1: $(sed -n 's/^replies */replies: /p; s/^refused */refused: /p' "$work/load" | tr '\n' ' ')"
}

# Before 3.1 HAProxy takes a new server for ready until its first check; calls are told there to come again.
is_told_to_come_again() {
  grep -q '^replies ' "$work/load" && grep -q 'UNAVAILABLE: the server is starting' "$work/load" &&
    ! grep -E '^ +[0-9]+ [A-Z_]+:' "$work/load" |
      grep -qvE 'UNAVAILABLE: the server is starting|RESOURCE_EXHAUSTED:|DEADLINE_EXCEEDED:'
}

say "three servers, HAProxy, Prometheus, Grafana"
compose up -d --no-build headlight haproxy prometheus grafana
balanced 3

say "load, balanced"
# Counted by the replicas themselves, of all that they have answered. On a busy machine one of them may stand still more often than
# the others for a while, which more load evens out, and what is wrong does not.
counted='headlight_requests_total{method="Attend",code="OK"}'
even() { awk '$1 < 0.9 || $1 > 1.1 { off = 1 } END { exit off || NR != 3 }' "$work/shares"; }
for _ in 1 2 3; do
  load 200 20 >"$work/load" 2>&1 || die "requests failed"
  ended=$(date +%s.%N)
  wait_for "Prometheus scrapes all replicas after the load" prometheus_says "count(timestamp($counted) > $ended)" 3
  ask "$counted / scalar(avg($counted))" | tee "$work/shares" | sed 's/^/compose:   share of the mean: /'
  if even; then break; fi
done
even || die "the load is not even within 10 %"
if [[ $GRAFANA_IMAGE == headlight-test-* ]]; then
  say "no Grafana, which Debian has no package of"
else
  wait_for "Grafana has the dashboard" \
    curl -sf -o /dev/null "http://$(published grafana 3000)/api/dashboards/uid/headlight"
fi

say "one replica restarted under load"
load_in_background
one=$(replicas | sed -n 2p)
docker stop "$one" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$one")
[ "$code" -eq 0 ] || die "docker stop ended it with exit code $code"
docker start "$one" >/dev/null
balanced 3
load_is_well "one restarted" is_told_to_come_again

say "one replica added under load"
load_in_background
quietly compose up -d --no-build --no-recreate --scale headlight=4 headlight
balanced 4
load_is_well "one added" is_told_to_come_again
quietly compose down --volumes

say "TLS on every leg"
deploy/tls/make-test-ca.sh "$TLS_DIR"
files+=(-f deploy/compose-tls.yaml)
quietly compose up -d --no-build headlight haproxy prometheus
balanced 3
# health FLAGS...: asks from this machine through the published port.
health() {
  docker run --rm --network host --volume "$TLS_DIR/client:/tls:ro" --entrypoint headlight "$HEADLIGHT_IMAGE" health \
    --server "localhost:$(published haproxy 8001 | sed 's/.*://')" --tls-ca /tls/ca.pem "$@"
}
is_serving() { health --tls-cert /tls/cert.pem --tls-key /tls/key.pem --timeout-ms 30000 >/dev/null; }
is_serving || die "with a certificate: not SERVING"
if health --timeout-ms 3000 >/dev/null 2>&1; then die "it answers callers without a certificate"; fi

say "certificates exchanged under load"
load_in_background
for _ in 1 2; do
  until=$(ask 'max(headlight_tls_certificate_expiry_time_seconds)') || die "no metric of when certificates expire"
  sleep 1
  deploy/tls/make-test-ca.sh "$TLS_DIR"
  quietly compose kill -s USR2 haproxy
  wait_for "every server shows its new certificate" \
    prometheus_says "count(headlight_tls_certificate_expiry_time_seconds > $until)" 3
  is_serving || die "with the new certificate: not SERVING"
done
load_is_well "certificates exchanged"
quietly compose down --volumes

say "docs/operations.md"
tests/e2e/page/operations_page.py --class compose --image "$HEADLIGHT_IMAGE"
say "ok in $SECONDS s"
