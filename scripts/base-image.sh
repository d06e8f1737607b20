#!/usr/bin/env bash
# Prints the name of a Debian 13 image to build on: debian:trixie-slim where it is there or can be pulled,
# and else a minimal one made with debootstrap from the archive this machine installs its packages from.
set -euo pipefail

readonly OFFICIAL=debian:trixie-slim MADE=headlight-base:trixie

die() { echo "base-image: error: $*" >&2; exit 1; }
here() { docker image inspect "$1" >/dev/null 2>&1; }

if here "$OFFICIAL" || timeout 120 docker pull -q "$OFFICIAL" >/dev/null 2>&1; then
  echo "$OFFICIAL"
  exit 0
fi
if here "$MADE"; then
  echo "$MADE"
  exit 0
fi

[ "$(id -u)" -eq 0 ] || die "cannot pull $OFFICIAL, and only root can make a base image"
if ! command -v debootstrap >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends debootstrap </dev/null >&2
fi
# shellcheck disable=SC2016  # apt expands these
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
  sed -n -E 's/^(bookworm|trixie) //p' | head -n 1)
[ -n "$mirror" ] || die "apt knows no archive of Debian 12 or 13"
echo "base-image: cannot pull $OFFICIAL; making $MADE from $mirror" >&2
root=$(mktemp -d)
chmod 755 "$root"  # it becomes the image's /
trap 'rm -rf --one-file-system "$root" "$root.log"' EXIT
debootstrap --variant=minbase trixie "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log" >&2; die "debootstrap failed"; }
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$MADE" >&2
echo "$MADE"
