# SPDX-License-Identifier: Apache-2.0
"""What lies behind an encoder in files of its own, added to a case (cases.py): the modules of sentence-transformers, as that
computes them, the heads of BGE-M3 and ColBERT's projection by their formulas."""
import json
import math
import os

import torch
from safetensors.torch import load_file, save_file

import cases

try:
    from sentence_transformers import models as modules
except ImportError:
    modules = None

POOLINGS = ['cls', 'mean', 'max', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken']


def sequences_of(case):
    return case['output'].split(case['lens'].tolist())


def linear(rng, width, out, bias=True):
    generator = torch.Generator().manual_seed(rng.randint(0, 1 << 30))
    weight = torch.randn(out, width, generator=generator) / math.sqrt(width)
    return weight, torch.randn(out, generator=generator) * 0.1 if bias else torch.zeros(out)


@torch.no_grad()
def add_modules(rng, folder, case):
    """Pooling, then Dense and Normalize in any order."""
    width = case['output'].shape[1]
    pooling = rng.choice(POOLINGS)
    chain = [modules.Pooling(width, pooling_mode=pooling)]
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.4:
            chain.append(modules.Normalize())
            continue
        out = rng.randint(1, 90)
        activation = rng.choice([torch.nn.Tanh(), torch.nn.Identity(), torch.nn.ReLU(), torch.nn.GELU(), torch.nn.SiLU(),
                                 torch.nn.Sigmoid()])
        dense = modules.Dense(width, out, bias=rng.random() < 0.7, activation_function=activation)
        cases.randomize(dense, rng.randint(0, 1 << 30))
        chain.append(dense)
        width = out
    listed = [{'idx': 0, 'name': '0', 'path': '', 'type': 'sentence_transformers.models.Transformer'}]
    for i, module in enumerate(chain):
        name = type(module).__name__
        path = f'{i + 1}_{name}'
        os.makedirs(f'{folder}/{path}', exist_ok=True)
        module.save(f'{folder}/{path}')
        listed.append({'idx': i + 1, 'name': str(i + 1), 'path': path, 'type': f'sentence_transformers.models.{name}'})
    with open(folder + '/modules.json', 'w', encoding='utf-8') as file:
        json.dump(listed, file)
    vectors = []
    for hidden in sequences_of(case):
        features = {'token_embeddings': hidden[None].double(), 'attention_mask': torch.ones(1, len(hidden)).long()}
        for module in chain:
            features = module.double()(features)
        vectors.append(features['sentence_embedding'][0])
    case['outputs.pooled'] = torch.stack(vectors).float()
    return ' then ' + ', '.join(type(module).__name__ for module in chain)


def add_token_dense(rng, folder, case):
    """A Dense of tokens alone, as PyLate saves ColBERT."""
    width = case['output'].shape[1]
    dense = modules.Dense(width, rng.randint(2, 40), bias=False, activation_function=torch.nn.Identity())
    os.makedirs(folder + '/1_Dense', exist_ok=True)
    dense.save(folder + '/1_Dense')
    with open(folder + '/modules.json', 'w', encoding='utf-8') as file:
        json.dump([{'idx': 0, 'name': '0', 'path': '', 'type': 'sentence_transformers.models.Transformer'},
                   {'idx': 1, 'name': '1', 'path': '1_Dense', 'type': 'pylate.models.Dense.Dense'}], file)
    with torch.no_grad():
        vectors = case['output'].double() @ dense.linear.weight.double().T
    case['outputs.token_vectors'] = torch.nn.functional.normalize(vectors, dim=-1).float()
    return ' then Dense of tokens'


def add_bge_m3(rng, folder, case, config):
    """sparse_linear and colbert_linear, as FlagEmbedding computes them."""
    width = case['output'].shape[1]
    sparse, colbert = linear(rng, width, 1), linear(rng, width, rng.randint(2, 40))
    for name, (weight, bias) in (('sparse_linear', sparse), ('colbert_linear', colbert)):
        save_file({'weight': weight, 'bias': bias}, f'{folder}/{name}.safetensors')
    silent = {config.bos_token_id, config.eos_token_id, config.pad_token_id, 3}
    weights = torch.zeros(len(case['lens']), config.vocab_size)
    vectors = []
    begin = 0
    for i, hidden in enumerate(sequences_of(case)):
        hidden = hidden.double()
        of_tokens = torch.relu(hidden @ sparse[0].double().T + sparse[1].double())[:, 0]
        for token, weight in zip(case['ids'][begin:begin + len(hidden)].tolist(), of_tokens.tolist()):
            if token not in silent:
                weights[i, token] = max(weights[i, token].item(), weight)
        vectors.append(hidden[1:] @ colbert[0].double().T + colbert[1].double())
        begin += len(hidden)
    case['outputs.sparse'] = weights
    vectors = torch.cat(vectors)
    if len(vectors):
        case['outputs.token_vectors'] = torch.nn.functional.normalize(vectors, dim=-1).float()
    return ' with heads of BGE-M3'


def add(rng, folder, config):
    """Adds a tail or none; returns its description."""
    path = folder + '.case.safetensors'
    case = load_file(path)
    description = ''
    if config.model_type == 'xlm-roberta' and 'outputs.sparse' not in case and rng.random() < 0.7:
        description += add_bge_m3(rng, folder, case, config)
    elif modules is not None and config.model_type == 'bert' and rng.random() < 0.15:
        return save(path, case, add_token_dense(rng, folder, case))
    if modules is not None and rng.random() < 0.4:
        description += add_modules(rng, folder, case)
    return save(path, case, description)


def save(path, case, description):
    save_file({name: tensor.contiguous() for name, tensor in case.items()}, path)
    return description
