#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzzers: small files, right ones and ones with a single fault each.

    tests/fuzz/make_corpus.py      writes tests/fuzz/corpus/*/seed-*; what fuzzers have found lies beside them
"""
import pathlib
import struct


def file(header: str, data: bytes = b"", length=None) -> bytes:
    text = header.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(name="w", dtype='"F32"', shape="[2]", offsets="[0,8]") -> str:
    return f'"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def one(**fields) -> bytes:
    return file("{" + tensor(**fields) + "}", b"\0\0\x80?\0\0\0@")


EIGHT = b"\0\0\x80?\0\0\0@"
SAFETENSORS = {
    "empty-map": file("{}"),
    "f32": one(),
    "f16": one(dtype='"F16"', shape="[2,2]"),
    "bf16": one(dtype='"BF16"', shape="[4,1]"),
    "f64": one(dtype='"F64"', shape="[]"),
    "i64": one(dtype='"I64"', shape="[1]"),
    "f4": one(dtype='"F4"', shape="[16]"),
    "two": file("{" + tensor() + "," + tensor("b", '"U8"', "[3]", "[8,11]") + "}", EIGHT + b"abc"),
    "metadata": file('{"__metadata__":{"format":"pt","\\u00e9":""},' + tensor() + "}  ", EIGHT),
    "zero-size": file("{" + tensor(shape="[3,0]", offsets="[0,0]") + "}"),
    "no-bytes": b"",
    "short": EIGHT[:7],
    "length-huge": file("{}", length=1 << 63),
    "length-long": file("{}", length=3),
    "truncated": one()[:-1],
    "surplus": one() + b"x",
    "array": file("[]"),
    "deep": file('{"w":' + "[" * 40),
    "bad-utf8": file('{"\udcff":{}}'),
    "surrogate": file('{"\\ud800":{}}'),
    "nul": file("{}\0"),
    "twice": file("{" + tensor() + "," + tensor() + "}", EIGHT),
    "no-shape": file('{"w":{"dtype":"F32","data_offsets":[0,8]}}', EIGHT),
    "unknown-dtype": one(dtype='"F33"'),
    "unknown-field": file('{"w":{"strides":[1]}}'),
    "negative-dim": one(shape="[-2]"),
    "fraction-dim": one(shape="[2.5]"),
    "nan-dim": one(shape="[NaN]"),
    "huge-float": one(shape="[1e999]"),
    "overflow": one(shape="[4294967296,4294967296]"),
    "bomb": one(shape="[1099511627776]", offsets="[0,4398046511104]"),
    "reversed": one(offsets="[8,0]"),
    "negative-offset": one(offsets="[-8,0]"),
    "offset-2-63": one(offsets="[0,9223372036854775808]"),
    "gap": file("{" + tensor(offsets="[8,16]") + "}", EIGHT + EIGHT),
    "overlap": file("{" + tensor() + "," + tensor("b", offsets="[4,12]") + "}", EIGHT + b"abcd"),
}


def main():
    folder = pathlib.Path(__file__).parent / "corpus" / "safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in SAFETENSORS.items():
        (folder / f"seed-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
