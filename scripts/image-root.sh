#!/usr/bin/env bash
# Makes the root of the container image: programs and what they load, with neither a shell nor a package manager.
#   scripts/image-root.sh PREFIX ROOT    PREFIX: where `cmake --install` put the programs; ROOT: a folder to be made
# Runs in the image's build stage, on Debian. Each package that a file is taken from leaves its copyright and, for scanners,
# its entry below /var/lib/dpkg/status.d; scripts/sbom.sh lists them all. Files have the time SOURCE_DATE_EPOCH, 0 unless set.
set -euo pipefail

readonly PREFIX=${1:?usage: scripts/image-root.sh PREFIX ROOT} ROOT=${2:?usage: scripts/image-root.sh PREFIX ROOT}
readonly DOC=/usr/local/share/doc/headlight
# Compiled into the programs, which ldd cannot tell: headers without a library of their own.
readonly HEADER_PACKAGES=(libcli11-dev libhwy-dev libspdlog-dev libtomlplusplus-dev nlohmann-json3-dev)

die() { echo "image-root: error: $*" >&2; exit 1; }

# The path of $1 without links to folders: the archive knows /usr/lib, programs say /lib.
canonical() { echo "$(realpath "$(dirname "$1")")/$(basename "$1")"; }
# copy FILE...: into ROOT, at the same path, with the file that a link leads to.
copy() {
  local file target
  for file in "$@"; do
    file=$(canonical "$file")
    target=$(realpath "$file")
    mkdir -p "$ROOT$(dirname "$target")" "$ROOT$(dirname "$file")"
    cp "$target" "$ROOT$target"
    [ "$file" = "$target" ] || ln -sf "$target" "$ROOT$file"
  done
}

[ ! -e "$ROOT" ] || die "$ROOT is there already"
mkdir -p "$ROOT"/{etc,proc,sys,dev,usr/lib,usr/lib64,var/lib/dpkg/status.d,usr/local} "$ROOT$DOC"
mkdir -m 1777 "$ROOT/tmp"
ln -s usr/lib usr/lib64 "$ROOT/"
cp -a "$PREFIX/." "$ROOT/usr/local/"

# The loader and libraries, then what is opened by name at run time: certificates. Names are resolved by glibc itself and by
# c-ares; character sets, locales and time zones are not used.
libraries=$(for program in "$PREFIX"/bin/*; do ldd "$program"; done |
  sed -n -E 's,^[^/]*(/[^ ]*) \(0x[0-9a-f]*\)$,\1,p' | sort -u)
missing=$(for program in "$PREFIX"/bin/*; do ldd "$program"; done | grep 'not found' || true)
[ -z "$missing" ] || die "a library is missing: $missing"
[ -n "$libraries" ] || die "ldd finds no library of the programs in $PREFIX/bin"
mapfile -t files <<<"$libraries"
files+=(/usr/lib/os-release)
copy "${files[@]}"
copy /etc/ssl/certs/ca-certificates.crt  # made on this machine, of its packages: no package owns it
ln -s ../usr/lib/os-release "$ROOT/etc/os-release"
cat >"$ROOT/etc/passwd" <<<$'root:x:0:0::/:/sbin/nologin\nheadlight:x:65532:65532::/:/sbin/nologin'
cat >"$ROOT/etc/group" <<<$'root:x:0:\nheadlight:x:65532:'
cat >"$ROOT/etc/nsswitch.conf" <<<'hosts: files dns'

packages=(ca-certificates)
for file in "${files[@]}"; do
  owner=$(dpkg-query -S "$(realpath "$file")") || die "no package owns $file"
  packages+=("${owner%%:*}")
done
mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
for package in "${packages[@]}"; do
  dpkg-query -s "$package" >"$ROOT/var/lib/dpkg/status.d/$package"
done
for package in "${packages[@]}" "${HEADER_PACKAGES[@]}"; do
  copyright=/usr/share/doc/$package/copyright
  [ -e "$copyright" ] || die "$package has no $copyright, which who gives the image away must enclose"
  install -D -m 644 "$(realpath "$copyright")" "$ROOT$copyright"
done
"$(dirname "$0")/sbom.sh" "$("$PREFIX/bin/headlight-server" --version | sed 's/.* //')" \
  "${packages[*]}" "${HEADER_PACKAGES[*]}" >"$ROOT$DOC/sbom.spdx.json"

find "$ROOT" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
