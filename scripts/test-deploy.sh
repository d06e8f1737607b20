#!/usr/bin/env bash
# Deploys as an operator would: builds the container image from a clean clone of this commit, looks into it and runs it
# (tests/deploy/image.sh), types what docs/operations.md says of Docker, then runs the fleet of deploy/compose.yaml
# (tests/deploy/compose.sh).
#   scripts/test-deploy.sh [--allow-skip] [--twice]
#     --allow-skip  succeed, and say so, where Docker cannot run
#     --twice       build once more, without what Docker keeps, and compare every file of the two images
set -euo pipefail
cd "$(dirname "$0")/.."

readonly IMAGE=headlight:test
say() { echo "test-deploy: $*"; }
die() { echo "test-deploy: error: $*" >&2; exit 1; }

allow_skip=""
twice=""
for argument; do
  case $argument in
    --allow-skip) allow_skip=1 ;;
    --twice) twice=1 ;;
    *) die "unknown argument $argument, wanted --allow-skip or --twice" ;;
  esac
done

work=$(mktemp -d)
engine=
beside=
finish() {
  if [ -n "$beside" ]; then kill "$beside" 2>/dev/null || true; wait; fi
  if [ -n "$engine" ]; then
    kill "$engine" || true
    timeout 30 tail --pid="$engine" -f /dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
  [ -n "$allow_skip" ] || die "$1"
  say "skipped: $1"
  exit 0
}
# build TAG ARGUMENTS...: of the clone.
build() {
  local tag=$1
  shift
  docker build "$@" --network host --build-arg http_proxy --build-arg https_proxy --build-arg "BASE=$base" \
    --build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)" --build-arg "REVISION=$(git rev-parse HEAD)" \
    --tag "$tag" "$work/clone"
}
# digests IMAGE: of every file in it, with its path, mode and time.
digests() {
  local container
  container=$(docker create "$1")
  mkdir "$work/files"
  docker export "$container" | tar -C "$work/files" -x
  docker rm "$container" >/dev/null
  # /dev, /etc/hosts and the like are the engine's.
  (cd "$work/files" && find usr var -type f -printf '%m %TY-%Tm-%Td %TT ' -exec sha256sum {} \; | sort -k 5)
  rm -rf "$work/files"
}

for folder in /models deploy/tls/test; do
  [ ! -e "$folder" ] || give_up "there is a $folder, which docs/operations.md makes and whose commands are tried here"
done
engine=$(scripts/start-docker.sh "$work/docker.log" 2>"$work/reason") || give_up "$(tail -n 1 "$work/reason")"
base=$(scripts/base-image.sh)
docker run --rm --memory 64m --cpus 1 "$base" true 2>"$work/reason" ||
  give_up "the Docker engine cannot run a container: $(tail -n 1 "$work/reason")"

git clone --quiet --no-hardlinks . "$work/clone"
# Beside the compilers, as it waits for packages.
tests/deploy/peer-images.sh "$base" >"$work/peers" 2>"$work/peers.log" &
beside=$!
say "building $IMAGE from $base, of commit $(git rev-parse --short HEAD)"
build "$IMAGE"
say "built, $SECONDS s after the start"
if [ -n "$twice" ]; then
  build "$IMAGE-again" --no-cache
  digests "$IMAGE" >"$work/first"
  digests "$IMAGE-again" >"$work/second"
  diff "$work/first" "$work/second" >&2 || die "two builds of one commit differ"
  say "two builds gave the same $(wc -l <"$work/first") files"
fi
wait "$beside" || tests/deploy/peer-images.sh "$base" >"$work/peers" 2>"$work/peers.log" ||
  die "no images beside ours: $(cat "$work/peers.log")"
cat "$work/peers.log"
set -o allexport
# shellcheck source=/dev/null  # made above
. "$work/peers"
set +o allexport
tests/e2e/page/operations_page.py --class docker --image "$IMAGE"
say "the page's part of Docker, $SECONDS s after the start"
# Both wait most of the time.
tests/deploy/image.sh "$IMAGE" >"$work/image.log" 2>&1 &
beside=$!
tests/deploy/compose.sh "$IMAGE"
wait "$beside" || { cat "$work/image.log" >&2; die "the image: see above"; }
cat "$work/image.log"
say "ok in $SECONDS s"
