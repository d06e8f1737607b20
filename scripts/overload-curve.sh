#!/usr/bin/env bash
# Draws the overload curve of scripts/bench-serving.sh as SVG: what is answered in time, over what is offered, both in
# multiples of the closed-loop capacity.
#   scripts/overload-curve.sh BENCH.json > docs/overload.svg
# The dashed curve is that of 28 November 2026, before requests were admitted by predicted cost (docs/performance.md).
set -euo pipefail

if [ $# -ne 1 ] || [ ! -r "$1" ]; then
  echo "overload-curve.sh: wanted one file of scripts/bench-serving.sh" >&2
  exit 2
fi
awk '
function x(offered) { return 70 + offered * 85 }
function y(answered) { return 300 - answered * 220 }
function text(at_x, at_y, anchor, words) {
  printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", at_x, at_y, anchor, words
}
function line(x1, y1, x2, y2, color) {
  printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2, color
}
function number(name) { return match($0, "\"" name "\": [0-9.]+") ? substr($0, RSTART + length(name) + 4, RLENGTH) + 0 : -1 }
/"overload_demo"/ { demo = 1 }
/"factor"/ {
  if (demo) { demo_x = number("factor"); demo_y = number("of_capacity") }
  else { offered[++points] = number("factor"); answered[points] = number("of_capacity") }
}
END {
  if (points < 2) { print "overload-curve.sh: no points in that file" > "/dev/stderr"; exit 1 }
  print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 620 360\" font-family=\"sans-serif\" font-size=\"12\">"
  print "<title>Answered in time over offered, in multiples of the capacity</title>"
  print "<rect width=\"620\" height=\"360\" fill=\"white\"/>"
  for (tick = 0; tick <= 1; tick += 0.25) {
    line(x(0), y(tick), x(6), y(tick), "#ddd")
    text(x(0) - 8, y(tick) + 4, "end", tick)
  }
  for (tick = 0; tick <= 6; tick++) text(x(tick), y(0) + 18, "middle", tick)
  line(x(0), y(0), x(6), y(0), "#333")
  line(x(0), y(0), x(0), y(1.1), "#333")
  text(x(3), y(0) + 40, "middle", "offered, in multiples of the closed-loop capacity")
  text(x(0), y(1.1) - 12, "start", "answered within 200 ms, the same")
  before = "0.5,0.5 0.67,0.66 1,0.97 1.26,0.55 1.5,0.34 2,0.1 3,0.008"
  count = split(before, pairs, " ")
  printf "<polyline fill=\"none\" stroke=\"#999\" stroke-dasharray=\"5 4\" stroke-width=\"1.5\" points=\""
  for (i = 1; i <= count; i++) { split(pairs[i], pair, ","); printf "%.1f,%.1f ", x(pair[1]), y(pair[2]) }
  print "\"/>"
  text(x(2.05), y(0.13), "start", "before admission by predicted cost")
  printf "<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2\" points=\""
  for (i = 1; i <= points; i++) printf "%.1f,%.1f ", x(offered[i]), y(answered[i])
  print "\"/>"
  for (i = 1; i <= points; i++)
    printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"#1f5fa8\"/>\n", x(offered[i]), y(answered[i])
  text(x(offered[points]), y(answered[points]) - 10, "end", "encoder of 6 x 384, token ids")
  if (demo_x > 0) {
    printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\" fill=\"#b4531f\"/>\n", x(demo_x) - 4, y(demo_y) - 4
    text(x(demo_x), y(demo_y) + 20, "middle", "demo, embeddings")
  }
  print "</svg>"
}' "$1"
