#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make_page.sh HELP2MAN "PROGRAM [COMMAND]" PAGE DESCRIPTION VERSION OUTPUT: one man page from --help.
set -eu
help2man=$1 call=$2 page=$3 description=$4 version=$5 output=$6
LC_ALL=C "$help2man" --no-info --no-discard-stderr --name="$description" --version-string="$version" \
  --source="Headlight $version" --manual="Headlight" --output="$output" "$call"
# help2man names the page after the program, not after its command, and dates it in words that mandoc cannot read.
day=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%d)
title=$(printf %s "$page" | tr '[:lower:]' '[:upper:]')
sed -i "s|^\.TH [^ ]* \"1\" \"[^\"]*\"|.TH \"$title\" \"1\" \"$day\"|; s|^$(basename "${call%% *}")[a-z -]* \\\\-|$page \\\\-|" "$output"
# What follows the options is laid out by its own line breaks: notes and examples, which help2man would fill.
last=$(grep -n '^\.PP$' "$output" | tail -n 1 | cut -d: -f1)
if [ -n "$last" ]; then
  sed -i "${last}s/.*/.SH NOTES\n.nf/; ${last},\$ { /^\.IP\$/d }" "$output"
  echo .fi >> "$output"
fi
