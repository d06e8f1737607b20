#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# record_requests.sh HEADLIGHT ADDRESS FILE: has the server at ADDRESS, with the built-in models and those of
# tests/golden/models, answer a request of every kind, and appends what it was asked and the checksums of its answers to
# FILE. `headlight verify FILE` then tells whether a server gives the same bits.
set -euo pipefail
headlight=$1 address=$2 file=$3
models=$(dirname "$(readlink -f "$0")")/models
seed=0

# record FLAGS...: one request of random values of its own.
record() {
  seed=$((seed + 1))
  "$headlight" attend --server "$address" --record "$file" --seed "$seed" "$@" >/dev/null 2>"$file.errors" ||
    { cat "$file.errors" >&2; echo "record_requests: headlight attend $*: see above" >&2; exit 1; }
}

# What may be asked of attention. Models of 768 columns get few tokens, in 16 bits: the file shall stay small.
narrow=(--dtype bf16)
record "${narrow[@]}" --model demo --shape 1x1
record "${narrow[@]}" --model demo --shape 2x3 --weights full
record "${narrow[@]}" --model demo --seq-lens 1,4,2 --causal --weights mean
record "${narrow[@]}" --model demo --shape 1x6 --window-left 2 --window-right 1 --weights top-k --top-k 3 --heads 0,11 --queries 1:4
record "${narrow[@]}" --model demo --seq-lens 4,2 --weights summary
record "${narrow[@]}" --model demo --shape 1x2 --kv-shape 1x5 --causal
record "${narrow[@]}" --model demo --shape 1x3 --output-dtype bf16
record --dtype f16 --model demo --shape 1x3 --output-dtype f16
record "${narrow[@]}" --model demo-gqa --seq-lens 5,1 --causal --weights full
record "${narrow[@]}" --model demo-alibi --shape 1x4 --weights full
record "${narrow[@]}" --model demo-alibi --shape 1x4 --causal

# Whole models from token ids: sequences longer than a tile, each pooling, several outputs of one pass.
record --model bert --seq-lens 1,17,12
record --model bert --shape 2x20 --layer 0 --weights summary
for pooling in cls mean max mean_sqrt_len weighted_mean last; do
  record --model bert --seq-lens 3,9 --pooling "$pooling"
done
record --model bert --seq-lens 3,9 --pooling mean --dimensions 24
record --model bert --seq-lens 20,9 --layers 1,0 --weights grid --grid 8x5
record --model bert --seq-lens 3,9 --output-kind hidden_states,sparse --sparse-top-k 8

# Every family.
for folder in "$models"/*/; do
  family=$(basename "$folder")
  keys=()
  [ "$family" != mha-separate ] || keys=(--kv-seq-lens 3,5)  # of another width than its queries
  record --model "$family" --seq-lens 2,7 "${keys[@]}"
done
rm -f "$file.errors"
