#!/usr/bin/env bash
# Prints the name of a Debian 13 image to build on: debian:trixie-slim where it is there or can be pulled,
# and else a minimal one made with debootstrap from the archive this machine installs its packages from.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly OFFICIAL=debian:trixie-slim MADE=headlight-base:trixie

here() { docker image inspect "$1" >/dev/null 2>&1; }

if here "$OFFICIAL" || timeout 60 docker pull -q "$OFFICIAL" >/dev/null 2>&1; then
  echo "$OFFICIAL"
  exit 0
fi
if here "$MADE"; then
  echo "$MADE"
  exit 0
fi

echo "base-image: cannot pull $OFFICIAL; making $MADE" >&2
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
scripts/trixie-root.sh "$root"
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$MADE" >&2
echo "$MADE"
