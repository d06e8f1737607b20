#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the archives beside it, which tests/client/npz_test.cc reads. Wants NumPy; a second run changes no byte."""
import io
import pathlib
import zipfile

import numpy

HERE = pathlib.Path(__file__).parent
TIME = (1980, 1, 1, 0, 0, 0)


def arrays():
    return {
        "query": (numpy.arange(24, dtype="<f4").reshape(1, 6, 4) / 8),
        "key": (numpy.arange(12, dtype="<f8").reshape(1, 3, 4) / 10),
        "value": numpy.arange(12, dtype="<f2").reshape(1, 3, 4),
        "mask": numpy.tril(numpy.ones((1, 1, 6, 3), dtype="?")),
        "seq_lens": numpy.array([6], dtype="<i8"),
        "kv_seq_lens": numpy.array([3], dtype="<i4"),
    }


def write(name, method, **open_arguments):
    """As numpy.savez does, but for the time of its entries."""
    with zipfile.ZipFile(HERE / name, "w", method) as archive:
        for array_name, array in arrays().items():
            npy = io.BytesIO()
            numpy.lib.format.write_array(npy, array)
            info = zipfile.ZipInfo(array_name + ".npy", TIME)
            info.compress_type = method
            with archive.open(info, "w", **open_arguments) as entry:
                entry.write(npy.getvalue())


class Pipe(io.BytesIO):
    """What cannot seek makes zipfile write sizes behind the entries."""

    def seekable(self):
        return False

    def seek(self, *arguments):
        raise OSError("a pipe")

    def tell(self):
        raise OSError("a pipe")


def write_streamed(name):
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for array_name, array in arrays().items():
            npy = io.BytesIO()
            numpy.lib.format.write_array(npy, array)
            info = zipfile.ZipInfo(array_name + ".npy", TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, npy.getvalue())
    (HERE / name).write_bytes(pipe.getvalue())


write("stored.npz", zipfile.ZIP_STORED, force_zip64=True)
write("plain.npz", zipfile.ZIP_STORED)
write("deflated.npz", zipfile.ZIP_DEFLATED, force_zip64=True)
write_streamed("streamed.npz")
