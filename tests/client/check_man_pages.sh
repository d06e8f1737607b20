#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_man_pages.sh DIRECTORY: every page in it is read by man and by mandoc, whichever there are, without a warning.
set -eu
directory=$1
for tool in man mandoc; do
  command -v "$tool" >/dev/null && found=yes
done
[ "${found:-}" ] || { echo "skipped: neither man nor mandoc is here"; exit 77; }
pages=0
for page in "$directory"/*.1; do
  [ -e "$page" ] || { echo "skipped: $directory holds no page; build the target headlight_man"; exit 77; }
  name=$(basename "$page" .1)
  pages=$((pages + 1))
  if command -v man >/dev/null; then
    warnings=$(LC_ALL=C MANWIDTH=100 man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null)
    [ -z "$warnings" ] || { echo "man: $page: $warnings"; exit 1; }
  fi
  if command -v mandoc >/dev/null; then
    warnings=$(mandoc -Tlint -Wwarning "$page") || { echo "mandoc: $warnings"; exit 1; }
  fi
  grep -q "^$name *\\\\-" "$page" || { echo "$page: its name is not $name"; exit 1; }
done
echo "$pages pages"
