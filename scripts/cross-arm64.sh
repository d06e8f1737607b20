#!/usr/bin/env bash
# Compiles Headlight for aarch64 on another machine, and runs tests under qemu-user: that it compiles, and computes what the
# reference does. It says nothing of speed.
#   scripts/cross-arm64.sh [--allow-skip]
#     --allow-skip  succeed, and say so, where no root of another system can be worked in
# Works in a Debian 13 of its own below build/, where a second architecture cannot upset this system's packages; made by the
# first run, which takes root, and kept.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROOT=$PWD/build/arm64-root MADE=$PWD/build/arm64-root/.made
readonly TARGETS=(core_tensor_test core_attention_test core_kernel_test server_wire_test client_wire_test headlight-server headlight)

say() { echo "cross-arm64: $*"; }
die() { echo "cross-arm64: error: $*" >&2; exit 1; }

# in_root COMMAND...: there, with this folder at /src; what is mounted for it goes with the command.
in_root() {
  # shellcheck disable=SC2016  # the inner shell expands these
  unshare --mount sh -euc '
    mount --bind "$1" "$2/src"
    mount -t proc proc "$2/proc"
    root=$2; shift 2
    exec chroot "$root" env --chdir=/src DEBIAN_FRONTEND=noninteractive "$@"' sh "$PWD" "$ROOT" "$@"
}

# Prints what to install there: tools for the machine that compiles, libraries for the one that runs.
packages() {
  local package
  for package in $(scripts/install-deps.sh --list); do
    case $package in
      g++) echo g++-aarch64-linux-gnu ;;
      help2man | openssl) ;;
      *-dev) if in_root apt-cache show "$package" | grep -q '^Architecture: all$'; then echo "$package"; else echo "$package:arm64"; fi ;;
      *) echo "$package" ;;
    esac
  done
  echo qemu-user
}

make_root() {
  local log=$PWD/build/arm64-root.log
  rm -rf --one-file-system "$ROOT"
  scripts/trixie-root.sh "$ROOT"
  mkdir -p "$ROOT/src"
  echo force-unsafe-io >"$ROOT/etc/dpkg/dpkg.cfg.d/unsafe-io"  # a root that is lost half-made is made anew
  in_root dpkg --add-architecture arm64
  in_root apt-get -q update >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "no package lists"; }
  # shellcheck disable=SC2046  # one word each
  in_root apt-get -q install -y --no-install-recommends $(packages) >>"$log" 2>&1 </dev/null ||
    { tail -n 20 "$log" >&2; die "the packages cannot be installed: $log"; }
  in_root apt-get clean
  touch "$MADE"
}

allow_skip=""
case ${1:-} in
  "") ;;
  --allow-skip) allow_skip=1 ;;
  *) die "unknown argument $1, wanted --allow-skip" ;;
esac
unshare --mount true 2>/dev/null || {
  [ -n "$allow_skip" ] || die "this user may not mount, even for a process of its own: it takes root"
  say "skipped: this user may not mount, even for a process of its own"
  exit 0
}
if [ ! -e "$MADE" ]; then
  make_root
  say "$ROOT made in $SECONDS s"
fi
SECONDS=0
in_root cmake --preset arm64
in_root cmake --build --preset arm64 --target "${TARGETS[@]}"
say "compiled in $SECONDS s"
SECONDS=0
in_root ctest --preset arm64
say "tests under qemu-user passed in $SECONDS s"
