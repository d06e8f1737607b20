#!/usr/bin/env bash
# Makes a minimal Debian 13 in a folder, with debootstrap, as root, from the archive that this machine installs its packages from.
#   scripts/trixie-root.sh ROOT     ROOT: the folder, empty or not there yet
set -euo pipefail

readonly ROOT=${1:?usage: scripts/trixie-root.sh ROOT}

die() { echo "trixie-root: error: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "only root can make the root of a system"
if ! command -v debootstrap >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends debootstrap </dev/null >&2
fi
# shellcheck disable=SC2016  # apt expands these
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
  sed -n -E 's/^(bookworm|trixie) //p' | head -n 1)
[ -n "$mirror" ] || die "apt knows no archive of Debian 12 or 13"
echo "trixie-root: making $ROOT from $mirror" >&2
mkdir -p "$ROOT"
chmod 755 "$ROOT"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
debootstrap --variant=minbase trixie "$ROOT" "$mirror" >"$log" 2>&1 ||
  { tail -n 20 "$log" >&2; die "debootstrap failed"; }
rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/lib/apt/lists/* "$ROOT"/usr/share/{man,locale}
find "$ROOT/usr/share/doc" -type f ! -name copyright -delete  # licences are passed on with what they are of
