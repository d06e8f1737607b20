# SPDX-License-Identifier: Apache-2.0
"""Reads the one layer of a folder that `headlight-server init-model --norm-placement none` made."""
import json

import numpy as np


def read_layer(folder):
    """wq, wk, wv, wo [in, out] and their biases as f32, and num_heads."""
    with open(folder + '/model.safetensors', 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        data = file.read()
    layer = {}
    for name, entry in header.items():
        if name != '__metadata__':
            begin, end = entry['data_offsets']
            layer[name.removeprefix('layers.0.attention.')] = np.frombuffer(data[begin:end], '<f4').reshape(entry['shape'])
    for kind in 'qkvo':
        layer.setdefault('b' + kind, np.zeros(layer['w' + kind].shape[1], np.float32))
    with open(folder + '/config.json', encoding='utf-8') as file:
        layer['num_heads'] = json.load(file)['num_heads']
    return layer
