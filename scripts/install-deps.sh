#!/usr/bin/env bash
# Installs what it takes to build and test Headlight on Debian 12 or 13, as root or through sudo. A second
# run finds everything in place and changes nothing.
# Debian 13 has all of it. Debian 12 lacks a recent oneDNN and Highway; these two come from Debian 13
# (trixie), through a second source derived from the machine's own and pinned so low that apt takes
# nothing else from it unasked. They bring a few libraries along, libc6 and base-files among them, and
# /etc/os-release then reads 13: so this script asks apt what it can install, not the system its age.
# Left out is opentelemetry-cpp-dev, of Debian 13 alone, which -DHEADLIGHT_OPENTELEMETRY=ON takes.
#   scripts/install-deps.sh [--tests | --list]
#     --tests  what only tests start as well, HAProxy and Prometheus; as services they are not started
#     --list   prints what Debian 13 must have to build, one package a line, and installs nothing
set -euo pipefail

readonly RELEASE_PACKAGES=(
  g++ cmake ninja-build pkg-config libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libabsl-dev libtbb-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev prometheus-cpp-dev
  libcivetweb-dev libisal-dev libssl-dev libtomlplusplus-dev zlib1g-dev libgtest-dev libgmock-dev libbenchmark-dev help2man
  openssl curl)
readonly TEST_PACKAGES=(haproxy prometheus)
declare -rA NEWER_PACKAGES=([libdnnl-dev]=3.6 [libhwy-dev]=1.2)  # and the least version of each
readonly SECOND_SOURCE=/etc/apt/sources.list.d/headlight-trixie.sources
readonly PIN=/etc/apt/preferences.d/headlight-trixie
readonly START_POLICY=/usr/sbin/policy-rc.d

wanted=("${RELEASE_PACKAGES[@]}")
case ${1:-} in
  '') ;;
  --tests) wanted+=("${TEST_PACKAGES[@]}") ;;
  --list)
    printf '%s\n' "${RELEASE_PACKAGES[@]}" "${!NEWER_PACKAGES[@]}"
    exit 0
    ;;
  *)
    echo "install-deps: error: unknown argument $1, wanted --tests or --list" >&2
    exit 1
    ;;
esac

say() { echo "install-deps: $*"; }
die() { echo "install-deps: error: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi; }

# Runs apt-get with its output in $log. The conffile options keep what an administrator has changed.
apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1
}
# A source out of reach, somebody else's perhaps, is no reason to stop: the install will tell.
update() {
  say "reading the package lists"
  apt_get update || true
  sed -n 's/^[EW]: /install-deps: apt-get update: &/p' "$log"
}
install_packages() {
  apt_get install -y --no-install-recommends "$@" || { cat "$log" >&2; die "apt-get install $*: see above"; }
  sed -n 's/^[0-9]* upgraded, .*/install-deps: &/p' "$log"
}

installed_version() {
  dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p'
}
candidate_version() { LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: \([0-9]\)/\1/p'; }
# Whether function $1 gives a sufficient version for each of the newer packages.
recent_by() {
  local package
  for package in "${!NEWER_PACKAGES[@]}"; do
    dpkg --compare-versions "$("$1" "$package" || true)" ge "${NEWER_PACKAGES[$package]}" || return 1
  done
}

knows_trixie() {
  # shellcheck disable=SC2016  # apt expands this
  [[ $(apt-get indextargets --format ' $(RELEASE) ' 'Origin: Debian') == *" trixie "* ]]
}
add_second_source() {
  local sources
  sources=$("$(dirname "$0")/derive-trixie-sources.sh")
  [ -n "$sources" ] || die "found no source of Debian 12 to derive one of Debian 13 from"
  say "adding Debian 13 as a second source: $SECOND_SOURCE, held back by $PIN"
  as_root install -m 644 /dev/stdin "$PIN" <<<$'Package: *\nPin: release n=trixie*\nPin-Priority: 100'
  as_root install -m 644 /dev/stdin "$SECOND_SOURCE" <<<"$sources"
  install_packages debian-archive-keyring  # the latest of Debian 12 knows the keys of Debian 13
  update
  knows_trixie || die "apt could not read the lists of Debian 13. Is it where Debian 12 comes from, and" \
    "does the keyring named in $SECOND_SOURCE hold its keys (package debian-archive-keyring)?"
}

# shellcheck source=/dev/null
. /etc/os-release
[ "${ID:-}" = debian ] || die "this is ${PRETTY_NAME:-no Debian}; it knows Debian 12 and 13. Elsewhere," \
  "install what Debian calls ${RELEASE_PACKAGES[*]}," \
  "libdnnl-dev (oneDNN >= ${NEWER_PACKAGES[libdnnl-dev]}, built with ONEDNN_EXPERIMENTAL_UKERNEL=ON)" \
  "and libhwy-dev (Highway >= ${NEWER_PACKAGES[libhwy-dev]})"

missing=()
for package in "${wanted[@]}"; do
  [ -n "$(installed_version "$package")" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || ! recent_by installed_version || { say "everything is here"; exit 0; }
[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || die "must run as root, or find sudo"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
update
if [ "${1:-}" = --tests ] && [ ! -e "$START_POLICY" ]; then
  # What packages ask before they start a service: no.
  as_root install -m 755 /dev/stdin "$START_POLICY" <<<$'#!/bin/sh\nexit 101'
  trap 'rm -f "$log"; as_root rm -f "$START_POLICY"' EXIT
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  install_packages "${missing[@]}"
fi
if ! recent_by installed_version; then
  from=()
  if ! recent_by candidate_version; then
    from=(-t 'trixie*')
    knows_trixie || add_second_source
  fi
  say "installing ${!NEWER_PACKAGES[*]}${from[1]:+ from Debian 13}"
  install_packages "${from[@]}" "${!NEWER_PACKAGES[@]}"
  recent_by installed_version || die "still too old: ${!NEWER_PACKAGES[*]}"
fi
say "done"
