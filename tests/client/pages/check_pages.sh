#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_pages.sh CLIENT_SAMPLE_PAGES [SCREENSHOT_FOLDER]: opens a page and a picture of each kind in headless
# Chromium, as a file and without a network. Fails where one does not draw itself to the end, is not well-formed,
# says nothing when pointed at, or writes to the console. With a folder, leaves screenshots there to be looked at, of
# light and dark screens. Exit code 77: there is no Chromium.
set -euo pipefail

sample_pages=$1
screenshots=${2:-}
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$chromium" ]; then
  echo "skipped: pages are checked in Chromium, which is not installed (apt-get install chromium)"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

# browse ARGUMENT...: one run of the browser, with a profile of its own; what the page says goes to $folder/log.
browse() {
  timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --no-first-run --disable-extensions \
    --disable-background-networking --host-resolver-rules='MAP * ~NOTFOUND' --user-data-dir="$folder/profile" \
    --hide-scrollbars --enable-logging=stderr --v=0 --virtual-time-budget=10000 "$@" 2>"$folder/log"
}

# A reader who looks at everything once: points at all plots and maps, chooses each run, changes the scales. Each
# plot and map must say something when pointed at.
reader='<script>
const silent =
    () => [...document.querySelectorAll("svg.plot:not(.empty), .maps canvas")].filter((picture) => {
      const box = picture.getBoundingClientRect();
      for (let i = 0; i < 400; ++i) {
        const at = {
          clientX: box.left + box.width * (i % 20 + 0.5) / 20,
          clientY: box.top + box.height * (Math.floor(i / 20) + 0.5) / 20
        };
        picture.dispatchEvent(new PointerEvent("pointermove", at));
        if (!document.getElementById("tip").hidden) {
          picture.dispatchEvent(new PointerEvent("pointerleave", at));
          return !document.getElementById("tip").hidden || document.getElementById("tip").textContent === "";
        }
      }
      return true;
    });
let pictures = silent().length;
for (const choice of document.querySelectorAll("select")) {
  for (const option of choice.options) {
    choice.value = option.value;
    choice.dispatchEvent(new Event("change"));
    pictures += silent().length;
  }
}
for (const box of document.querySelectorAll("input")) {
  box.click();
  pictures += silent().length;
}
for (const canvas of document.querySelectorAll("canvas[tabindex]")) {
  for (const key of ["ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft"])
    canvas.dispatchEvent(new KeyboardEvent("keydown", {key}));
}
document.documentElement.setAttribute("data-silent", pictures);
</script>'

# check FILE SIZE: as said above.
check() {
  local file=$1 size=$2 name=${1%.*} read=$1
  if [ "${file##*.}" = html ]; then
    read=read_$file
    { cat "$folder/$file"; echo "$reader"; } >"$folder/$read"
  fi
  if ! browse --dump-dom "file://$folder/$read" >"$folder/dom"; then
    echo "$file: the browser failed:"
    tail -n 5 "$folder/log"
    failures=1
  fi
  if grep 'CONSOLE' "$folder/log"; then
    echo "$file: wrote to the console"
    failures=1
  fi
  case $file in
    *.html)
      if ! grep -q '<html[^>]* data-drawn="yes"' "$folder/dom"; then
        echo "$file: did not draw itself"
        failures=1
      elif ! grep -q '<html[^>]* data-silent="0"' "$folder/dom"; then
        echo "$file: plots that say nothing when pointed at: $(grep -o 'data-silent="[0-9]*"' "$folder/dom" || true)"
        failures=1
      fi
      ;;
    *.svg)
      if ! grep -q '<svg' "$folder/dom" || grep -q 'parsererror' "$folder/dom"; then
        echo "$file: is not well-formed"
        failures=1
      fi
      ;;
  esac
  if [ -z "$screenshots" ] || [ "$name" = broken ]; then return 0; fi
  browse --screenshot="$screenshots/$name.png" --window-size="$size" "file://$folder/$file"
  browse --screenshot="$screenshots/$name-dark.png" --window-size="$size" --blink-settings=preferredColorScheme=0 \
    "file://$folder/$file"
}

"$sample_pages" "$folder"
[ -z "$screenshots" ] || mkdir -p "$screenshots"
check load_sweep.html 1280,2650
check load_single.html 1280,800
check load_refusals.html 1280,2000
check load_empty.html 1280,400
check maps_small.svg 900,800
check maps_long.svg 700,500
check maps_large.html 1280,1000
check maps_huge.html 1280,900
check summary_small.svg 700,700
check summary_large.svg 900,1900

# The check can fail: it finds a page that throws, one that is silent when pointed at, and markup that does not end.
failures_before=$failures
expect_failure() {
  failures=0
  check "$1" 800,600 >"$folder/report"
  [ "$failures" = 1 ] && return 0
  echo "$1 passed the check"
  failures_before=1
}
sed 's/drawPage((/drawPage(nothing, (/' "$folder/load_single.html" >"$folder/broken.html"
expect_failure broken.html
sed 's/    addPointer(picture/    void (picture/' "$folder/load_single.html" >"$folder/broken.html"
expect_failure broken.html
sed 's/<.text>//' "$folder/summary_small.svg" >"$folder/broken.svg"
expect_failure broken.svg
exit "$failures_before"
