#!/usr/bin/env bash
# Builds the container image and runs it as an operator would: read-only root, no capabilities, limits on
# memory and CPU; requests through the published port; health; stop; and deploy/compose.yaml.
#   scripts/test-image.sh [--allow-skip]    --allow-skip: succeed, and say so, where Docker cannot run
set -euo pipefail
cd "$(dirname "$0")/.."
unset "${!HEADLIGHT_@}"  # the client reads options from variables of this name
export COMPOSE_HTTP_TIMEOUT=${COMPOSE_HTTP_TIMEOUT:-300}  # copying images takes its time without overlay file systems

readonly ALLOW_SKIP=${1:-} IMAGE=headlight:test NAME=headlight-test-$$
say() { echo "test-image: $*"; }
die() { echo "test-image: error: $*" >&2; exit 1; }

explain() {
  say "what its health checks said: $(field '{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}; {{end}}')"
  say "the server's log:"
  docker logs "$NAME"
}

work=$(mktemp -d)
engine=
finish() {
  local status=$?
  [ ! -f "$work/running" ] || [ "$status" -eq 0 ] || explain >&2 || true
  [ ! -f "$work/running" ] || docker rm -f "$NAME" >/dev/null 2>&1 || true
  [ ! -f "$work/composed" ] || compose down --timeout 5 >/dev/null 2>&1 || true
  if [ -n "$engine" ]; then
    kill "$engine" || true
    timeout 30 tail --pid="$engine" -f /dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

compose() {
  local command=(docker compose)
  docker compose version >/dev/null 2>&1 || command=(docker-compose)
  HEADLIGHT_IMAGE=$IMAGE HEADLIGHT_PORT=0 "${command[@]}" -p "$NAME" -f deploy/compose.yaml "$@"
}
field() { docker inspect --format "$1" "$NAME"; }

give_up() {
  [ "$ALLOW_SKIP" = --allow-skip ] || die "$1"
  say "skipped: $1"
  exit 0
}
engine=$(scripts/start-docker.sh "$work/docker.log" 2>"$work/reason") || give_up "$(tail -n 1 "$work/reason")"
base=$(scripts/base-image.sh)
docker run --rm --memory 64m --cpus 1 "$base" true 2>"$work/reason" ||
  give_up "the Docker engine cannot run a container: $(tail -n 1 "$work/reason")"

say "building $IMAGE from $base"
docker build --network host --build-arg http_proxy --build-arg https_proxy --build-arg "BASE=$base" \
  --tag "$IMAGE" .
say "image size: $(($(docker image inspect --format '{{.Size}}' "$IMAGE") / 1000000)) MB"
built=$SECONDS

touch "$work/running"
docker run --detach --name "$NAME" --read-only --cap-drop ALL --security-opt no-new-privileges \
  --memory 1g --memory-swap 1g --cpus 1 --publish 127.0.0.1::8001 "$IMAGE" >/dev/null
health="running starting"
for ((wait = 0; wait < 60; ++wait)); do
  [ "$health" = "running starting" ] || break
  sleep 1
  health=$(field '{{.State.Status}} {{.State.Health.Status}}')
done
[ "$health" = "running healthy" ] || die "the server is not healthy but: $health"
say "healthy, $((SECONDS - built)) s after the start"

user=$(docker exec "$NAME" id -u)
[ "$user" -ne 0 ] || die "it runs as root"
docker logs "$NAME" >"$work/server.log" 2>&1
grep -q 'compute_threads=1\b' "$work/server.log" || die "with --cpus 1 it should log compute_threads=1"

# Requests come through the published port, from this machine's client or else the image's own.
address=$(docker port "$NAME" 8001/tcp)
client=(build/release/bin/headlight)
[ -x "${client[0]}" ] || client=(docker run --rm --network host --entrypoint headlight "$IMAGE")
"${client[@]}" health --server "$address"
"${client[@]}" attend --server "$address" --model demo --seq-lens 5,16,9 --causal --weights mean
"${client[@]}" loadtest --server "$address" --model demo --shape 4x128 --concurrency 4 --duration 3s
[ "$(field '{{.State.OOMKilled}} {{.RestartCount}}')" = "false 0" ] || die "it ran out of memory"

stopping=$SECONDS
docker stop --time 30 "$NAME" >/dev/null
code=$(field '{{.State.ExitCode}}')
[ "$code" -eq 0 ] || die "docker stop ended it with exit code $code"
say "docker stop ended it with exit code 0 in $((SECONDS - stopping)) s"

if docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; then
  say "deploy/compose.yaml: a server and a load test"
  touch "$work/composed"
  compose up --no-build --exit-code-from loadtest
else
  say "no docker compose here: deploy/compose.yaml not tried"
fi
say "ok in $SECONDS s"
