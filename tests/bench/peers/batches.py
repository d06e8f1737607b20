# SPDX-License-Identifier: Apache-2.0
"""What the peers' workers share: a folder of `headlight-server init-model` as numpy arrays, and a case as the padded batches
that an engine without ragged ones is given."""
import json
import os

import numpy as np

BUCKETS = 8


def read_folder(folder):
    """config.json, and the tensors by name: wq .. wo, up and down are [in, out]."""
    with open(os.path.join(folder, 'config.json'), encoding='utf-8') as file:
        config = json.load(file)
    with open(os.path.join(folder, 'model.safetensors'), 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        data = file.read()
    return config, {name: np.frombuffer(data, '<f4', (entry['data_offsets'][1] - entry['data_offsets'][0]) // 4,
                                        entry['data_offsets'][0]).reshape(entry['shape'])
                    for name, entry in header.items() if name != '__metadata__'}


class Batch:
    """Sequences padded to the longest of them: `rows` are their places in the case, `data` [batch, seq_len] ids or
    [batch, seq_len, width] numbers, `mask` [batch, seq_len] i64, 1 where there is a token."""

    def __init__(self, sequences, rows):
        self.rows = rows
        chosen = [sequences[row] for row in rows]
        self.lens = np.array([len(one) for one in chosen], np.int64)
        self.data = np.zeros((len(chosen), self.lens.max()) + chosen[0].shape[1:], chosen[0].dtype)
        for row, one in enumerate(chosen):
            self.data[row, :len(one)] = one
        self.mask = (np.arange(self.data.shape[1]) < self.lens[:, None]).astype(np.int64)


def forms(case, width):
    """The case's batches by form. Dense ones are one batch without padding. Ragged ones are one padded batch, or sorted by
    length and cut into buckets of as many sequences each, the longest first."""
    lengths = case['lengths']
    if case['kind'] == 'encoder':
        packed = np.fromfile(case['input'], np.int32)
    else:
        packed = np.fromfile(case['input'], np.float32).reshape(-1, width)
    sequences = np.split(packed, np.cumsum(lengths)[:-1])
    everything = list(range(len(lengths)))
    if len(set(lengths)) == 1:
        return {'dense': [Batch(sequences, everything)]}
    by_length = sorted(everything, key=lambda row: -lengths[row])
    size = -(-len(lengths) // BUCKETS)
    return {'padded': [Batch(sequences, everything)],
            'buckets': [Batch(sequences, by_length[i:i + size]) for i in range(0, len(lengths), size)]}


def packed_answer(batches, outputs):
    """Bytes of pooled vectors in the case's order, or of a dense layer's rows."""
    first = np.asarray(outputs[0], np.float32)
    answer = np.empty((sum(len(batch.rows) for batch in batches),) + first.shape[1:], np.float32)
    for batch, output in zip(batches, outputs):
        answer[batch.rows] = output
    return answer.tobytes()


def calibration(case, config):
    """Inputs to calibrate int8 with, of the kind that is measured but not the same: [1, seq_len] ids or rows."""
    random = np.random.default_rng(2)
    if case['kind'] == 'encoder':
        return [random.integers(0, config['embedding']['vocab_size'], (1, int(length)), dtype=np.int32)
                for length in random.integers(16, 129, 32)]
    return [random.uniform(-2, 2, (1, 128, config['embed_dim'])).astype(np.float32) for _ in range(16)]
