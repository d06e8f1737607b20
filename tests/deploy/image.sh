#!/usr/bin/env bash
# What a container image holds, and how it runs: read-only root, no capabilities, limits on memory and CPU, health, drain.
#   tests/deploy/image.sh IMAGE
# scripts/test-deploy.sh has the image built and a Docker engine running.
set -euo pipefail
unset "${!HEADLIGHT_@}"  # docker would not pass them on, but scripts of this folder might

readonly IMAGE=${1:?usage: tests/deploy/image.sh IMAGE} NAME=headlight-test-$$
readonly MOST_MB=120
readonly SBOM=usr/local/share/doc/headlight/sbom.spdx.json
# As deploy/compose.yaml runs it.
readonly HARDENED=(--read-only --cap-drop ALL --security-opt no-new-privileges)
readonly LIMITS=(--memory 1g --memory-swap 1g --cpus 1)
# Health within seconds: the image itself asks every 5 s.
readonly BRISK=(--health-interval 1s --health-timeout 3s --health-retries 2)

say() { echo "image: $*"; }
die() { echo "image: error: $*" >&2; exit 1; }
field() { docker inspect --format "$2" "$1"; }

work=$(mktemp -d)
chmod 755 "$work"  # the server's user reads certificates there
finish() {
  local status=$? container
  for container in $(docker ps --all --quiet --filter "name=$NAME"); do
    if [ "$status" -ne 0 ]; then
      say "$(field "$container" '{{.Name}} {{.State.Status}}')"
      field "$container" '{{range .State.Health.Log}}health: {{.ExitCode}} {{.Output}}{{end}}' 2>/dev/null || true
      docker logs "$container" 2>&1 | tail -n 20
    fi >&2
    docker rm -f "$container" >/dev/null 2>&1 || true
  done
  docker network rm "$NAME" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start SUFFIX ARGUMENTS...: a container "$NAME-SUFFIX" of arguments to `docker run` and, after "--", to the server.
start() {
  local name=$NAME-$1 run=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do run+=("$1"); shift; done
  [ $# -eq 0 ] || shift
  docker run --detach --name "$name" "${HARDENED[@]}" "${LIMITS[@]}" "${BRISK[@]}" --publish 127.0.0.1::8001 \
    "${run[@]}" "$IMAGE" "$@" >/dev/null
}
# expect_health SUFFIX WANTED: within two minutes.
expect_health() {
  local seen
  for ((i = 0; i < 240; ++i)); do
    seen=$(field "$NAME-$1" '{{.State.Status}} {{.State.Health.Status}}')
    [ "$seen" != "running $2" ] || return 0
    [[ $seen == running* ]] || break
    sleep 0.5
  done
  die "$1: wanted running $2, got: $seen"
}
# client ARGUMENTS...: the image's own `headlight`, on this machine's network.
client() { client_in host "$@"; }
# client_in NETWORK ARGUMENTS...: on one of Docker's.
client_in() {
  docker run --rm --network "$1" --volume "$work:/test:ro" "${HARDENED[@]}" --no-healthcheck --entrypoint headlight "$IMAGE" "${@:2}"
}
# admin SUFFIX PATH: what the admin port says, asked inside.
admin() { docker exec "$NAME-$1" headlight-server probe --path "$2"; }

# --- what is in it ---
megabytes=$(($(field "$IMAGE" '{{.Size}}') / 1000000))
say "$megabytes MB"
[ "$megabytes" -lt "$MOST_MB" ] || die "it has $megabytes MB, wanted less than $MOST_MB"
[ "$(field "$IMAGE" '{{.Config.User}}')" = 65532:65532 ] || die "its user is $(field "$IMAGE" '{{.Config.User}}')"

docker create --name "$NAME-files" "$IMAGE" >/dev/null
docker export "$NAME-files" >"$work/root.tar"
tar -tvf "$work/root.tar" >"$work/list"
tar -tf "$work/root.tar" >"$work/paths"
# Neither a compiler, a shell, nor anything else that runs: two programs, and what Debian marks as runnable of the C library.
others=$(awk '$1 ~ /^-.*[xs]/ && $3 > 0 { print $6 }' "$work/list" |
  grep -vxE 'usr/local/bin/headlight(-server)?|usr/lib/[^/]*/(ld-linux-[^/]*|libc\.so\.6)|usr/lib/ld-linux-[^/]*' || true)
[ -z "$others" ] || die "there is more to run in it than our programs: $others"
! grep -qE '^[^ ]*[sS]' "$work/list" || die "something in it is setuid or setgid"

tar -xOf "$work/root.tar" "$SBOM" >"$work/sbom"
packages=$(sed -n 's,^var/lib/dpkg/status\.d/\(.\+\)$,\1,p' "$work/paths")
[ -n "$packages" ] || die "it names no packages below /var/lib/dpkg/status.d"
for package in $packages; do
  version=$(tar -xOf "$work/root.tar" "var/lib/dpkg/status.d/$package" | sed -n 's/^Version: //p')
  grep -A 1 -F "\"name\": \"$package\"" "$work/sbom" | grep -qF "\"versionInfo\": \"$version\"" ||
    die "the SBOM does not have $package $version"
  grep -qxF "usr/share/doc/$package/copyright" "$work/paths" || die "there is no copyright of $package"
done
if command -v python3 >/dev/null; then python3 -m json.tool "$work/sbom" >/dev/null || die "the SBOM is no JSON"; fi
say "two programs, no shell; the SBOM names $(wc -w <<<"$packages") packages"

# --- health, under limits ---
docker network create "$NAME" >/dev/null
start plain --network "$NAME" --network-alias server --health-interval 3s  # so that it is seen starting
[ "$(field "$NAME-plain" '{{.State.Health.Status}}')" = starting ] || die "its health does not begin as starting"
# Elsewhere than where the image listens, with certificates and with proxies that lead nowhere.
start moved --env HEADLIGHT_LISTEN=127.0.0.1:9001 --env HEADLIGHT_ADMIN_LISTEN=127.0.0.1:9002
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
chmod 644 "$work/key.pem"
proxies=()
for variable in http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY grpc_proxy; do
  proxies+=(--env "$variable=http://127.0.0.1:9")
done
start secured --volume "$work:/test:ro" "${proxies[@]}" -- --tls-cert /test/cert.pem --tls-key /test/key.pem
expect_health plain healthy
expect_health moved healthy
expect_health secured healthy
say "healthy by the image's own check: as it is, on other addresses, with TLS and proxies"
docker rm -f "$NAME-moved" >/dev/null

uid=$(awk '$1 == "Uid:" { print $2 }' "/proc/$(field "$NAME-plain" '{{.State.Pid}}')/status")
[ "$uid" = 65532 ] || die "it runs as user $uid"
docker logs "$NAME-plain" >"$work/plain.log" 2>&1
grep -q 'compute_threads=1\b' "$work/plain.log" || die "with --cpus 1 it should log compute_threads=1"
admin plain /metrics >"$work/metrics"
# 1 GiB less 64 MiB and a sixteenth.
grep -qE '^headlight_memory_limit_bytes 9\.39524096e\+08$|^headlight_memory_limit_bytes 939524096$' "$work/metrics" ||
  die "with --memory 1g it should budget 939524096 bytes: $(grep -i 'memory' "$work/metrics")"

# --- requests ---
address=$(docker port "$NAME-plain" 8001/tcp)
client health --server "$address" --timeout-ms 30000
client_in "$NAME" health --server server:8001 --timeout-ms 30000  # a name, which Docker's DNS knows
client attend --server "$address" --model demo --seq-lens 5,16,9 --causal --weights mean
client loadtest --server "$address" --model demo --shape 4x128 --concurrency 4 --duration 3s
client attend --server "$(docker port "$NAME-secured" 8001/tcp)" --tls-ca /test/cert.pem --model demo --shape 1x16
[ "$(field "$NAME-plain" '{{.State.OOMKilled}} {{.RestartCount}}')" = "false 0" ] || die "it ran out of memory"
docker rm -f "$NAME-secured" >/dev/null

# --- a server that does nothing, and one that does again ---
docker kill --signal STOP "$NAME-plain" >/dev/null
expect_health plain unhealthy
docker kill --signal CONT "$NAME-plain" >/dev/null
expect_health plain healthy
say "unhealthy while it is stopped, and healthy again"

# --- drain: requests under way when `docker stop` comes are answered ---
start drained --env HEADLIGHT_SHUTDOWN_GRACE_S=110
expect_health drained healthy
address=$(docker port "$NAME-drained" 8001/tcp)
client loadtest --server "$address" --model demo --shape 1x8192 --concurrency 3 --count 3 --warmup 0s --timeout-ms 110000 \
  >"$work/caller" 2>&1 &
caller=$!
under_way() { admin drained /metrics | awk '/^headlight_backlog_requests/ { n += $2 } END { print n + 0 }'; }
for ((i = 0; i < 240; ++i)); do
  [ "$(under_way)" -lt 3 ] || break
  kill -0 "$caller" || die "requests were answered before all were sent: $(cat "$work/caller")"
done
begun=$SECONDS
docker stop --time 120 "$NAME-drained" >/dev/null
say "docker stop took $((SECONDS - begun)) s with 3 requests under way"
code=$(field "$NAME-drained" '{{.State.ExitCode}}')
[ "$code" -eq 0 ] || die "docker stop ended it with exit code $code"
wait "$caller" && grep -q '^replies *3,' "$work/caller" ||
  die "a request that was under way is lost: $(cat "$work/caller")"

# Without a request it ends at once, well before the 10 s after which Docker kills.
begun=$SECONDS
docker stop "$NAME-plain" >/dev/null
code=$(field "$NAME-plain" '{{.State.ExitCode}}')
[ "$code" -eq 0 ] || die "docker stop ended an idle server with exit code $code after $((SECONDS - begun)) s"
say "ok in $SECONDS s"
