#!/usr/bin/env bash
# Prints, as assignments, the images that deploy/compose.yaml runs beside headlight: its own where they are there or can be
# pulled, and else one each that is built of a Debian package (tests/deploy/images).
#   tests/deploy/peer-images.sh BASE     BASE: an image of Debian 13
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly BASE=${1:?usage: tests/deploy/peer-images.sh BASE}

for peer in haproxy prometheus grafana; do
  variable=${peer^^}_IMAGE
  image=$(sed -n "s/^ *image: \${$variable:-\(.*\)}$/\1/p" deploy/compose.yaml)
  if ! docker image inspect "$image" >/dev/null 2>&1 && ! timeout 60 docker pull -q "$image" >/dev/null 2>&1; then
    echo "peer-images: cannot pull $image; building a stand-in" >&2
    image=headlight-test-$peer
    docker build -q --network host --build-arg http_proxy --build-arg https_proxy --build-arg "BASE=$BASE" --tag "$image" - \
      <"tests/deploy/images/$peer.dockerfile" >/dev/null
  fi
  echo "$variable=$image"
done
