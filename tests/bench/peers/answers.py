# SPDX-License-Identifier: Apache-2.0
"""Whether two engines computed the same. Only the standard library."""
import array
import math
import operator

# To ours in f32, by family of precisions. Below, an engine computes something else, not less exactly.
LEAST_COSINE = {'f32': 0.9999, 'bf16': 0.999, 'int8': 0.95}


def read(path):
    """The f32 numbers of a file."""
    numbers = array.array('f')
    with open(path, 'rb') as file:
        numbers.frombytes(file.read())
    return numbers


def cosine(a, b):
    """Of the angle between two answers, each taken as one vector; not a number where they differ in length."""
    if len(a) != len(b):
        return math.nan

    def dot(x, y):
        return sum(map(operator.mul, x, y))

    squares = dot(a, a) * dot(b, b)
    return dot(a, b) / math.sqrt(squares) if squares > 0 else math.nan
