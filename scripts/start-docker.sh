#!/usr/bin/env bash
# Makes sure that a Docker engine answers: takes the one there is, or else, as root on Debian, installs and
# starts one. Prints the process id of an engine it had to start, for the caller to end, and nothing if one
# was there. Exits with 1 and a reason where no engine can run.
#   scripts/start-docker.sh LOG     LOG: a file for what the engine and its installation have to say
set -euo pipefail

readonly LOG=${1:?usage: scripts/start-docker.sh LOG}

die() { echo "start-docker: $*" >&2; exit 1; }
apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" </dev/null >>"$LOG" 2>&1
}
answers() { timeout 20 docker info >/dev/null 2>&1; }

if command -v docker >/dev/null && answers; then exit 0; fi
[ "$(id -u)" -eq 0 ] || die "no Docker engine answers, and only root can start one"

if ! command -v docker >/dev/null || ! command -v dockerd >/dev/null; then
  command -v apt-get >/dev/null || die "Docker is not installed, and there is no apt-get to install it"
  echo "start-docker: installing Docker" >&2
  apt_get update || true  # a source out of reach matters only if a package is missed below
  apt_get install docker.io docker-compose || die "apt-get cannot install Docker: $(grep -m 1 '^E:' "$LOG")"
  command -v docker >/dev/null || apt_get install docker-cli || die "apt-get cannot install docker-cli"
  if answers; then exit 0; fi  # its installation has started it
fi

# The engine picks the storage driver itself; where it fails to, vfs is slow and needs nothing. A session of
# its own keeps an interrupt from the terminal away: the caller still has containers to remove.
for driver in "" vfs; do
  setsid dockerd ${driver:+--storage-driver="$driver"} </dev/null >>"$LOG" 2>&1 &
  engine=$!
  trap 'kill "$engine" 2>/dev/null; exit 130' INT TERM
  for _ in {1..60}; do
    kill -0 "$engine" 2>/dev/null || break
    if answers; then
      trap - INT TERM
      disown "$engine"
      echo "$engine"
      exit 0
    fi
    sleep 1
  done
  kill "$engine" 2>/dev/null || true
  wait "$engine" || true
done
die "dockerd does not come up: $(tail -n 1 "$LOG")"
