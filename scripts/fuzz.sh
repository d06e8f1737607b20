#!/usr/bin/env bash
# Builds the fuzzers with clang, installing it where it is missing (Debian 12 or 13), and runs each over its corpus.
#   scripts/fuzz.sh [--seconds N] [--allow-skip]
#     --seconds N     of each fuzzer; 60 by default
#     --allow-skip    succeed, and say so, where clang cannot be had
# What a fuzzer finds is left in build/fuzz/found/NAME. Once fixed it belongs in tests/fuzz/corpus/NAME, where
# fuzz_corpus_test reads it again in every build.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "fuzz: $*"; }
die() { echo "fuzz: error: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi; }

seconds=60 allow_skip=false
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:-}; shift ;;
    --allow-skip) allow_skip=true ;;
    *) die "got the argument '$1', wanted --seconds N or --allow-skip" ;;
  esac
  shift
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds: got '$seconds', wanted a positive number"

folder=$(mktemp -d)
trap 'wait; rm -rf "$folder"' EXIT  # a fuzzer beside one that failed comes to its end

# Whether clang links a program with libFuzzer and the sanitizers, which come in a package of their own.
clang_can_fuzz() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address,undefined -o "$folder/probe" - 2>"$folder/log"
}
apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$folder/log" 2>&1
}
install_clang() {
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || { echo "must run as root, or find sudo" >"$folder/log"; return 1; }
  say "installing clang and its run-time libraries"
  apt_get update || true  # a list out of reach is no reason to stop: the install will tell
  command -v clang++ >/dev/null || apt_get install -y --no-install-recommends clang || return 1
  ! clang_can_fuzz || return 0
  local version libc
  version=$(clang++ -dumpversion | cut -d. -f1)
  # The package holds 32-bit libraries too and wants a 32-bit libc6, of exactly the version of the other one. That need
  # not be the one apt would take: scripts/install-deps.sh may have brought libc6 from Debian 13.
  libc=$(dpkg-query -W -f '${Version}' libc6)
  apt_get install -y --no-install-recommends "libclang-rt-$version-dev" "libc6-i386=$libc" ||
    apt_get install -y --no-install-recommends "libclang-rt-$version-dev"
}

scripts/install-deps.sh  # first: it may bring a libc6 that what follows must match
if ! clang_can_fuzz && ! { install_clang && clang_can_fuzz; }; then
  sed 's/^/fuzz: | /' "$folder/log" >&2
  "$allow_skip" || die "no clang with libFuzzer here, see above (--allow-skip makes this a success)"
  say "SKIPPED: no clang with libFuzzer here, see above"
  exit 0
fi

cmake --preset fuzz
cmake --build --preset fuzz
# fuzz PROGRAM: over its corpus, and what it did.
fuzz() {
  local name found log limits most_mb=2
  name=$(basename "$1" _fuzz)
  found=build/fuzz/found/$name
  log=$folder/$name.log
  mkdir -p "$found"
  # Inputs are small, so no single allocation may be large: a size that was believed unchecked shows. Of recordings
  # protobuf parses messages within messages: of one that lies about its length it believes a string's, and reserves
  # for that up to 50 MB, which it neither touches nor keeps.
  [ "$name" != recording ] || most_mb=64
  limits=(-max_len=4096 -timeout=5 -rss_limit_mb=512 "-malloc_limit_mb=$most_mb")
  say "$name: $seconds s, from $(find "tests/fuzz/corpus/$name" -type f | wc -l) committed files"
  "$1" "${limits[@]}" -max_total_time="$seconds" -dict="tests/fuzz/$name.dict" -artifact_prefix="$found/" \
    -print_final_stats=1 "$found" "tests/fuzz/corpus/$name" >"$log" 2>&1 ||
    { tail -n 60 "$log" >&2; die "$name: see above; the input is in $found"; }
  sed -n 's/^stat::number_of_executed_units: */executions: /p; s/^stat::peak_rss_mb: */peak MiB: /p' "$log" |
    sed "s/^/fuzz: $name: /"
}
# Each is one thread: two at a time.
programs=(build/fuzz/bin/*_fuzz)
for ((i = 0; i < ${#programs[@]}; i += 2)); do
  running=()
  for program in "${programs[@]:i:2}"; do
    fuzz "$program" &
    running+=($!)
  done
  for one in "${running[@]}"; do wait "$one"; done
done
say "passed"
