# SPDX-License-Identifier: Apache-2.0
"""What is compared: models of random parameters, and what they are given. Only the standard library."""
import array
import os
import random
import subprocess

VOCAB_SIZE = 30522
MODELS = {
    # MiniLM-L6's shape.
    'encoder': ['--embed-dim', '384', '--num-heads', '12', '--num-layers', '6', '--vocab-size', str(VOCAB_SIZE)],
    # One layer of attention, its four projections and nothing else.
    'layer': ['--embed-dim', '768', '--num-heads', '12', '--norm-placement', 'none'],
}
LAYER_WIDTH = 768


def ragged_lengths():
    """64 texts of 4 to 79 tokens, most of them short, 1,614 tokens in all, in no order."""
    lengths = [round(4 + 75 * (i / 63) ** 2.566) for i in range(64)]
    random.Random(1).shuffle(lengths)
    return lengths


# (name, kind, lengths); the encoder's four are those of the geometric mean.
CASES = [
    ('32x128', 'encoder', [128] * 32),
    ('64 ragged', 'encoder', ragged_lengths()),
    ('1x16', 'encoder', [16]),
    ('1x512', 'encoder', [512]),
    ('8x128x768', 'layer', [128] * 8),
    ('1x512x768', 'layer', [512]),
    ('1x2048x768', 'layer', [2048]),
    ('32x16x768', 'layer', [16] * 32),
]


def make(folder, server, names=None):
    """The cases of these names (None: all) as workers are told of them; writes models and inputs below `folder`, once."""
    os.makedirs(folder, exist_ok=True)
    made = []
    for name, kind, lengths in CASES:
        if names is not None and name not in names:
            continue
        model = os.path.join(folder, kind)
        if not os.path.exists(os.path.join(model, 'config.json')):
            subprocess.run([server, 'init-model', '--out', model, '--seed', '1', *MODELS[kind]], check=True,
                           stdout=subprocess.DEVNULL)
        path = os.path.join(folder, name.replace(' ', '-') + '.input')
        numbers = random.Random(1)
        if kind == 'encoder':
            data = array.array('i', (numbers.randrange(VOCAB_SIZE) for _ in range(sum(lengths))))
        else:
            data = array.array('f', (numbers.uniform(-2, 2) for _ in range(sum(lengths) * LAYER_WIDTH)))
        with open(path, 'wb') as file:
            data.tofile(file)
        made.append({'name': name, 'kind': kind, 'folder': model, 'lengths': lengths, 'input': path})
    return made
