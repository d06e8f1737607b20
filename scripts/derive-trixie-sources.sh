#!/usr/bin/env bash
# Prints apt sources of Debian 13 (trixie) that mirror this machine's own sources of Debian 12 (bookworm,
# its -updates and -security): same addresses, components, keys and options. A helper of install-deps.sh.
#
# Reads both formats of sources.list(5) and writes stanzas (deb822). Only Debian's own archives count, by
# the Origin in their Release files, so the package lists must have been read: somebody else's repository
# may well have a suite named bookworm too.
set -euo pipefail
shopt -s nullglob

# Reads one-line entries, `deb [option=value,value ...] URI SUITE COMPONENT...`; prints stanzas.
stanzas_of_lines() {
  awk '
    BEGIN { field["arch"] = "Architectures"; field["lang"] = "Languages"; field["target"] = "Targets" }
    { sub(/#.*/, "") }
    $1 == "deb" {
      options = ""
      if (match($0, /^[ \t]*deb[ \t]+\[[^]]*\]/)) {
        options = substr($0, index($0, "[") + 1, RSTART + RLENGTH - index($0, "[") - 2)
        $0 = "deb " substr($0, RSTART + RLENGTH)
      }
      printf "Types: deb\nURIs: %s\nSuites: %s\nComponents:", $2, $3
      for (i = 4; i <= NF; i++) printf " %s", $i
      count = split(options, option)
      for (i = 1; i <= count; i++) {
        name = substr(option[i], 1, index(option[i], "=") - 1)
        value = substr(option[i], length(name) + 2)
        gsub(/,/, " ", value)
        printf "\n%s: %s", (name in field) ? field[name] : name, value
      }
      printf "\n\n"
    }' "$@"
}

# Reads stanzas; prints those of Debian 12 from one of the addresses $1, turned into ones of Debian 13.
trixie_of_bookworm() {
  awk -v RS= -v addresses="$1" '{
    rest = suites = name = ""
    binary = debian = 0
    lines = split($0, line, "\n")
    for (i = 1; i <= lines; i++) {
      if (line[i] ~ /^#/) continue
      value = line[i]
      if (match(value, /^[^ \t:]+:/)) {
        name = tolower(substr(value, 1, RLENGTH - 1))
        value = substr(value, RLENGTH + 1)
      }
      if (name != "types" && name != "suites") rest = rest line[i] "\n"
      words = split(value, word)
      for (j = 1; j <= words; j++) {
        if (name == "types" && word[j] == "deb") binary = 1
        if (name == "uris" && index(addresses " ", word[j] " ")) debian = 1
        if (name == "suites" && word[j] ~ /^bookworm(-updates|-security)?$/) {
          sub(/bookworm/, "trixie", word[j])
          suites = suites " " word[j]
        }
      }
    }
    if (binary && debian && suites != "") printf "Types: deb\nSuites:%s\n%s\n", suites, rest
  }'
}

# shellcheck disable=SC2016  # apt expands these
addresses=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' |
  sed -n -E 's, bookworm(-updates|-security)?$,,p' | sort -u | sed 's,/*$,,; s,.*,& &/,' | tr '\n' ' ')
{
  for file in /etc/apt/sources.list.d/*.sources; do
    printf '%s\n\n' "$(cat "$file")"
  done
  stanzas_of_lines /dev/null /etc/apt/sources.list.d/*.list
  [ ! -r /etc/apt/sources.list ] || stanzas_of_lines /etc/apt/sources.list
} | trixie_of_bookworm "$addresses"
