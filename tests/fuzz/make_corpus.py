#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzzers: small files, right ones and ones with a single fault each.

    tests/fuzz/make_corpus.py      writes tests/fuzz/corpus/*/seed-*; what fuzzers have found lies beside them
"""
import io
import pathlib
import struct
import zipfile


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



def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, wire_type: int, value: bytes) -> bytes:
    return varint(number << 3 | wire_type) + value


def blob(number: int, value: bytes) -> bytes:
    return field(number, 2, varint(len(value)) + value)


# Payloads are field 3, of which four are allowed beside 512 bytes of everything else.
PAYLOAD = blob(3, b"payload")
ENVELOPE = {
    "nothing": b"",
    "payload": PAYLOAD,
    "empty-payload": blob(3, b""),
    "fields": blob(1, b"model") + field(2, 0, varint(300)) + PAYLOAD,
    "after-payload": PAYLOAD + blob(1, b"model") + PAYLOAD,
    "fixed": field(4, 1, b"12345678") + PAYLOAD + field(5, 5, b"1234"),
    "number-of-ten-bytes": field(2, 0, b"\xff" * 9 + b"\x01"),
    "padded-tag": b"\x9a\x80\x80\x80\x00" + b"\x07payload",
    "padded-length": b"\x1a" + b"\x87\x80\x80\x80\x00" + b"payload",
    "largest-field": field((1 << 29) - 1, 0, b"\x01"),
    "four-payloads": PAYLOAD * 4,
    "five-payloads": PAYLOAD * 5,
    "full": blob(1, b"x" * 509),
    "too-full": blob(1, b"x" * 510),
    "many-numbers": field(2, 0, b"\x01") * 300,
    "payload-is-a-number": field(3, 0, b"\x01"),
    "payload-is-a-group": field(3, 3, b""),
    "group": field(4, 3, b"") + field(4, 4, b""),
    "wire-type-6": field(4, 6, b""),
    "wire-type-7": field(4, 7, b""),
    "field-0": field(0, 0, b"\x01"),
    "long-tag": b"\xff" * 5 + b"\x01",
    "large-tag": b"\xff\xff\xff\xff\x1f",
    "long-number": field(2, 0, b"\xff" * 10 + b"\x01"),
    "long-length": b"\x1a" + b"\xff" * 6,
    "large-length": b"\x1a" + b"\xff" * 4 + b"\x7f" + b"payload",
    "cut-tag": b"\x9a",
    "cut-length": b"\x1a\x80",
    "cut-payload": PAYLOAD[:-1],
    "cut-field": blob(1, b"model")[:-1],
    "cut-fixed": field(4, 1, b"1234567"),
}


def npy(header: str, data: bytes = b"", version=(1, 0), length=None) -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes(version) + struct.pack(
        "<H" if version[0] == 1 else "<I", len(text) if length is None else length) + text + data


def array(dtype="<f4", shape="(2,)", data=EIGHT, order="False", **kwargs) -> bytes:
    return npy(f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}\n", data, **kwargs)


NPY = {
    "f4": array(),
    "f8": array("<f8", "(1,)"),
    "f2": array("<f2", "(2, 2)"),
    "i4": array("<i4"),
    "i8": array("<i8", "(1, 1)"),
    "b1": array("|b1", "(8,)"),
    "u1": array("|u1", "(2, 2, 2)"),
    "scalar": array("<f8", "()"),
    "empty": array(shape="(0, 3)", data=b""),
    "version-2": array(version=(2, 0)),
    "version-3": array(version=(3, 0)),
    "fortran-vector": array(order="True"),
    "no-bytes": b"",
    "magic": b"\x93NUMPY",
    "version-4": array(version=(4, 0)),
    "version-1-1": array(version=(1, 1)),
    "header-cut": array()[:40],
    "header-long": npy("{}", length=65535),
    "header-huge": npy("{}", version=(2, 0), length=0xFFFFFFFF),
    "surplus": array() + b"x",
    "short": array()[:-1],
    "fortran": array(shape="(2, 1)", order="True"),
    "big-endian": array(">f4"),
    "object": array("|O"),
    "control-in-dtype": array("\x1b[31m<f4"),
    "long-dtype": array("f" * 4000),
    "control-in-key": npy("{'\x1b]0;title\x07': 1}"),
    "long-key": npy("{'" + "k" * 3000 + "': 1}"),
    "number-not-tuple": array(shape="(2)"),
    "negative": array(shape="(-2,)"),
    "overflow": array(shape="(4294967296, 4294967296)", data=b""),
    "bomb": array(shape="(1099511627776,)"),
    "dimension-2-63": array(shape="(9223372036854775808,)"),
    "zero-times-much": array(shape="(0, 9223372036854775807, 9223372036854775807)", data=b""),
    "many-dimensions": array(shape="(" + "1," * 33 + ")"),
    "twice": npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", EIGHT),
    "no-shape": npy("{'descr': '<f4', 'fortran_order': False}", EIGHT),
    "unknown-key": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", EIGHT),
    "record-dtype": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", EIGHT),
    "behind-the-end": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", EIGHT),
}


def archive(entries, method=zipfile.ZIP_STORED, comment=b"", zip64=False, streamed=False) -> bytes:
    class Unseekable(io.BytesIO):  # makes zipfile write sizes behind an entry
        def seekable(self):
            return False

        def tell(self):
            raise OSError

        def seek(self, *_):
            raise OSError

    out = Unseekable() if streamed else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as zip_file:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with zip_file.open(info, "w", force_zip64=zip64) as entry:
                entry.write(data)
        zip_file.comment = comment
    return out.getvalue()


def replaced(data: bytes, old: bytes, new: bytes, count=-1) -> bytes:
    assert old in data and len(old) == len(new), (old, data)
    return data.replace(old, new, count)


ONE = archive([("a.npy", NPY["f4"])])
TWO = archive([("a.npy", NPY["f4"]), ("b.npy", NPY["i8"])])
DEFLATED = archive([("a.npy", NPY["u1"] + b"")], zipfile.ZIP_DEFLATED)
ZERO = archive([("z.npy", b"\0" * 65536)], zipfile.ZIP_DEFLATED)
END = b"PK\x05\x06"
RECORD = b"PK\x01\x02"


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    at = data.rindex(mark) + offset
    return data[:at] + new + data[at + len(new):]


ZIP = {
    "nothing-in-it": archive([]),
    "one": ONE,
    "two": TWO,
    "deflated": DEFLATED,
    "zeros": ZERO,
    "zip64": archive([("a.npy", NPY["f4"])], zip64=True),
    "streamed": archive([("a.npy", NPY["f4"])], zipfile.ZIP_DEFLATED, streamed=True),
    "comment": archive([("a.npy", NPY["f4"])], comment=b"a comment"),
    "no-bytes": b"",
    "cut": ONE[:-1],
    "no-end": ONE[:-22],
    "two-disks": patched(ONE, END, 4, b"\1\0"),
    "more-entries": patched(ONE, END, 8, b"\2\0\2\0"),
    "fewer-entries": patched(TWO, END, 8, b"\1\0\1\0"),
    "too-many-entries": patched(ONE, END, 8, b"\xff\0\xff\0"),
    "huge-directory": patched(ONE, END, 12, b"\0\0\x02\0"),
    "directory-beyond": patched(ONE, END, 16, b"\xff\xff\xff\x7f"),
    "zip64-end-missing": patched(ONE, END, 16, b"\xff\xff\xff\xff"),
    "encrypted": patched(patched(ONE, RECORD, 8, b"\1\0"), b"PK\x03\x04", 6, b"\1\0"),
    "method-12": patched(patched(ONE, RECORD, 10, b"\x0c\0"), b"PK\x03\x04", 8, b"\x0c\0"),
    "wrong-crc": patched(patched(ONE, RECORD, 16, b"crc!"), b"PK\x03\x04", 14, b"crc!"),
    "headers-contradict": patched(ONE, RECORD, 16, b"crc!"),
    "header-beyond": patched(ONE, RECORD, 42, b"\xff\xff\0\0"),
    "bomb": patched(DEFLATED, RECORD, 24, b"\xff\xff\xff\x7f"),
    "size-64-missing": patched(ONE, RECORD, 24, b"\xff\xff\xff\xff"),
    "larger-than-told": patched(patched(ZERO, RECORD, 24, b"\0\1\0\0"), b"PK\x03\x04", 22, b"\0\1\0\0"),
    "same-bytes-twice": patched(TWO, RECORD, 42, b"\0\0\0\0"),
    "same-name-twice": replaced(TWO, b"b.npy", b"a.npy"),
    "bad-deflate": replaced(DEFLATED, DEFLATED[35:39], b"\xff\xff\xff\xff"),
    "control-in-name": replaced(patched(ONE, RECORD, 16, b"crc!"), b"a.npy", b"\x1b[0mx"),
}

NPZ = {
    "one": ONE,
    "two": TWO,
    "deflated": DEFLATED,
    "streamed": ZIP["streamed"],
    "zip64": ZIP["zip64"],
    "nothing-in-it": ZIP["nothing-in-it"],
    "several": archive([(f"{name}.npy", NPY[name]) for name in ("f2", "f8", "b1", "i4", "scalar", "empty")],
                       zipfile.ZIP_DEFLATED),
    "zeros": ZERO,
    "too-large": archive([("a.npy", b"\0" * (256 * 1024 + 1))], zipfile.ZIP_DEFLATED),
    "other-file": archive([("a.txt", b"text")]),
    "no-name": archive([(".npy", NPY["f4"])]),
    "control-in-name": archive([("\x1b.npy", NPY["f4"])]),
    "wrong-array": archive([("a.npy", NPY["short"])]),
    "long-dtype": archive([("a.npy", NPY["long-dtype"])], zipfile.ZIP_DEFLATED),
    "wrong-crc": ZIP["wrong-crc"],
    "bad-deflate": ZIP["bad-deflate"],
    "larger-than-told": ZIP["larger-than-told"],
    "not-an-archive": NPY["f4"],
}

FLOATS = struct.pack("<2f", 1.0, -2.0)


def infer_input(*fields, name=b"query", datatype=b"FP32") -> bytes:
    """One of ModelInferRequest.inputs."""
    return blob(5, blob(1, name) + blob(2, datatype) + blob(3, varint(2)) + b"".join(fields))


RAW = blob(7, FLOATS)
PARAMETER = blob(4, blob(1, b"causal") + blob(2, field(1, 0, b"\x01")))
INFER = {
    "nothing": b"",
    "raw": blob(1, b"demo") + infer_input() + RAW,
    "raw-first": RAW + infer_input() + blob(1, b"demo"),
    "two-raw": infer_input() + infer_input(name=b"key") + RAW + RAW,
    "output": infer_input() + blob(6, blob(1, b"output")) + RAW,
    "parameter": PARAMETER + infer_input(PARAMETER) + RAW,
    "id-and-version": blob(2, b"1") + blob(3, b"id") + infer_input() + RAW,
    "typed": infer_input(blob(5, blob(6, FLOATS))),
    "typed-first": blob(5, blob(5, blob(6, FLOATS)) + blob(1, b"query")),
    "typed-one-by-one": infer_input(blob(5, field(6, 5, FLOATS[:4]) + field(6, 5, FLOATS[4:]))),
    "typed-twice": infer_input(blob(5, blob(6, FLOATS[:4])), blob(5, blob(6, FLOATS[4:]))),
    "typed-empty": infer_input(blob(5, b"")),
    "int64": infer_input(blob(5, blob(3, varint(300) + b"\xff" * 9 + b"\x01")), datatype=b"INT64"),
    "int32": infer_input(blob(5, blob(2, b"\x01\x02")), datatype=b"INT32"),
    "bool": infer_input(blob(5, blob(1, b"\x01\x00")), datatype=b"BOOL"),
    "bytes": infer_input(blob(5, blob(8, b"text")), datatype=b"BYTES"),
    "two-fields": infer_input(blob(5, blob(6, FLOATS) + blob(7, FLOATS))),
    "mixed": infer_input(blob(5, blob(6, FLOATS))) + RAW,
    "unknown-fields": field(9, 0, b"\x01") + infer_input(field(9, 1, FLOATS)) + RAW,
    "padded-length": b"\x2a\x84\x80\x80\x80\x00" + b"\x0a\x02hi" + RAW,
    "input-is-a-number": field(5, 0, b"\x01"),
    "contents-cut": infer_input(blob(5, blob(6, FLOATS)[:-1])),
    "contents-group": infer_input(blob(5, field(6, 3, b""))),
    "contents-three-bytes": infer_input(blob(5, blob(6, b"abc"))),
    "contents-varint-cut": infer_input(blob(5, blob(3, b"\x80"))),
    "contents-are-a-number": infer_input(field(5, 0, b"\x01")),
    "input-too-long": b"\x2a\x08" + blob(1, b"query"),
    "inside-too-long": blob(5, b"\x0a\x08query"),
    "inside-cut-tag": blob(5, b"\x80"),
    "inside-field-0": blob(5, field(0, 0, b"\x01")),
    "inside-group": infer_input(field(9, 3, b"")),
    "many-inputs": blob(5, b"") * 65,
    "most-inputs": blob(5, b"") * 64,
    "many-raw": RAW * 65,
    "raw-is-a-number": field(7, 0, b"\x01"),
    "bad-utf8": blob(1, b"\xff"),
    "parameter-cut": blob(4, blob(1, b"causal")[:-1]),
    "cut": (infer_input() + RAW)[:-1],
}



def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def exchange(message: bytes, length=None, crc=None) -> bytes:
    length = len(message) if length is None else length
    return struct.pack("<II", length, crc32c(message) if crc is None else crc) + message


def recorded(request=b"", model=b"", version=b"1.0.0", payloads=(b"output",)) -> bytes:
    kept = b"".join(blob(4, blob(1, name) + field(2, 5, struct.pack("<I", 0x12345678))) for name in payloads)
    return blob(1, request) + blob(2, model) + blob(3, version) + kept


RECORDING_BEGINS = b"headlight recording 1\n"
RECORDED_REQUEST = blob(1, b"demo") + blob(15, FLOATS)
RECORDED_MODEL = blob(1, b"demo") + blob(2, b"1")
DEMO = recorded(RECORDED_REQUEST, RECORDED_MODEL)
RECORDING = {
    "one": RECORDING_BEGINS + exchange(DEMO),
    "two": RECORDING_BEGINS + exchange(DEMO) + exchange(recorded(RECORDED_REQUEST, RECORDED_MODEL, b"1.0.1")),
    "other-payloads": RECORDING_BEGINS + exchange(DEMO) + exchange(recorded(payloads=(b"output", b"weights"))),
    "no-exchanges": RECORDING_BEGINS,
    "empty-message": RECORDING_BEGINS + exchange(b"") * 3,
    "unknown-fields": RECORDING_BEGINS + exchange(DEMO + blob(99, b"from tomorrow") + field(98, 0, b"\x01")),
    "empty-payloads": RECORDING_BEGINS + exchange(blob(4, b"") * 1500),
    "empty-outputs": RECORDING_BEGINS + exchange(blob(1, blob(27, b"") * 900)),
    "no-bytes": b"",
    "no-begin": exchange(DEMO),
    "begin-cut": RECORDING_BEGINS[:-1],
    "version-2": RECORDING_BEGINS.replace(b"1", b"2") + exchange(DEMO),
    "carriage-return": RECORDING_BEGINS[:-1] + b"\r\n" + exchange(DEMO),
    "frame-cut": RECORDING_BEGINS + exchange(DEMO)[:7],
    "message-cut": RECORDING_BEGINS + exchange(DEMO)[:-1],
    "second-cut": RECORDING_BEGINS + exchange(DEMO) + exchange(DEMO)[:20],
    "surplus": RECORDING_BEGINS + exchange(DEMO) + b"x",
    "wrong-crc": RECORDING_BEGINS + exchange(DEMO, crc=0),
    "second-wrong": RECORDING_BEGINS + exchange(DEMO) + exchange(DEMO, crc=1),
    "most-bytes": RECORDING_BEGINS + exchange(DEMO, length=1 << 28),
    "too-many-bytes": RECORDING_BEGINS + exchange(DEMO, length=(1 << 28) + 1),
    "all-bytes": RECORDING_BEGINS + exchange(DEMO, length=0xFFFFFFFF),
    "no-message": RECORDING_BEGINS + exchange(b"\xff\xff"),
    "message-field-cut": RECORDING_BEGINS + exchange(DEMO[:-1]),
    "bad-utf8": RECORDING_BEGINS + exchange(recorded(version=b"\xff")),
    "payload-is-a-number": RECORDING_BEGINS + exchange(field(4, 0, b"\x01") + field(1, 0, b"\x01")),
    "deep-groups": RECORDING_BEGINS + exchange(field(9, 3, b"") * 300),
}

CORPORA = {"envelope": ENVELOPE, "infer": INFER, "npy": NPY, "npz": NPZ, "recording": RECORDING, "safetensors": SAFETENSORS,
           "zip": ZIP}


def main():
    for corpus, seeds in CORPORA.items():
        folder = pathlib.Path(__file__).parent / "corpus" / corpus
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (folder / f"seed-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
