# SPDX-License-Identifier: Apache-2.0
"""Small models with random weights, saved as their libraries save them, with inputs and outputs.

A case is a model folder and a file beside it, <folder>.case.safetensors:
  ids [tokens] int64, token_types [tokens] int64 (optional), lens [sequences] int64, output [tokens, embed_dim],
  outputs.KIND (optional) as attention.proto has them, of token_logits those of every token and of sparse a weight for each
  id, or
  query, key, value [tokens, dim], lens, kv_lens [sequences] int64, output [tokens, embed_dim], weights: [num_heads, q_len,
  kv_len + appended keys] of each sequence, one after the other.
Outputs are computed in double precision, one sequence at a time, so nothing is padded.
"""
import json
import math
import os

import torch
from safetensors.torch import save_file


WITH_TOKEN_TYPES = ('albert', 'bert', 'deberta', 'deberta-v2', 'electra', 'gte', 'nomic_bert')


def randomize(module, seed):
    """Weights that make attention neither uniform nor one-hot, norms and biases that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2 and 'embed' not in name and not name.endswith(('wte.weight', 'wpe.weight')):
                noise = noise / math.sqrt(parameter.shape[-1])
            elif parameter.dim() < 2:
                noise = 0.1 * noise + (1.0 if name.endswith('weight') else 0.0)
            parameter.copy_(noise)
    return module.eval()


def save_case(folder, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder + '.case.safetensors')


@torch.no_grad()
def save_transformers(folder, model, lens, seed, ids=None, save=None, dtype=torch.float32):
    """Saves a transformers model and what its encoder says about random ids."""
    randomize(model, seed)
    model.to(dtype).save_pretrained(folder, **(save or {}))
    if os.path.exists(folder + '/generation_config.json'):
        os.remove(folder + '/generation_config.json')
    save_transformers_case(folder, type(model), lens, seed, ids)


@torch.no_grad()
def save_transformers_case(folder, model_class, lens, seed, ids=None):
    """What the encoder in a folder says about random ids, as the class reads it."""
    model, info = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager',
                                              output_loading_info=True)
    missing = [name for name in info['missing_keys'] if 'pooler' not in name]
    if missing:
        raise ValueError(f'no numbers for {missing}')
    model = model.double().eval()
    encoder = getattr(model, model.base_model_prefix, model)
    generator = torch.Generator().manual_seed(seed + 1)
    config = model.config
    if ids is None:
        ids = torch.randint(0, config.vocab_size, (sum(lens),), generator=generator)
    types = None
    if config.model_type in WITH_TOKEN_TYPES and config.type_vocab_size > 1:
        types = torch.randint(0, config.type_vocab_size, (sum(lens),), generator=generator)
    outputs = []
    logits = []
    kind = kind_of_logits(model)
    if kind == 'scores' and hasattr(model, 'score'):
        config.pad_token_id = None  # scores are of the last token, whatever its id: nothing is padded
    begin = 0
    for length in lens:
        part = slice(begin, begin + length)
        options = {} if types is None else {'token_type_ids': types[part][None]}
        outputs.append(encoder(ids[part][None], **options).last_hidden_state[0])
        if kind:
            logits.append(model(ids[part][None], **options).logits[0])
        begin += length
    tensors = {'ids': ids, 'lens': torch.tensor(lens), 'output': torch.cat(outputs).float()}
    if types is not None:
        tensors['token_types'] = types
    if kind == 'scores':
        activation = {'Sigmoid': torch.sigmoid}.get(activation_of(folder), lambda x: x)
        tensors['outputs.scores'] = activation(torch.stack(logits)).float()
    elif kind:
        tensors['outputs.' + kind] = torch.cat(logits).float()
    if kind == 'token_logits' and not is_causal(model):
        tensors['outputs.sparse'] = torch.stack([splade(rows) for rows in logits]).float()
    save_case(folder, tensors)


def kind_of_logits(model):
    """What headlight calls the logits of a class."""
    name = type(model).__name__
    for ending, kind in (('ForSequenceClassification', 'scores'), ('ForTokenClassification', 'token_scores'),
                         ('ForMaskedLM', 'token_logits'), ('ForCausalLM', 'token_logits'),
                         ('LMHeadModel', 'token_logits')):
        if name.endswith(ending):
            return kind
    return None


def is_causal(model):
    return type(model).__name__.endswith(('ForCausalLM', 'LMHeadModel'))


def activation_of(folder):
    """The class that a cross-encoder's config.json names."""
    with open(folder + '/config.json', encoding='utf-8') as file:
        config = json.load(file)
    name = config.get('sentence_transformers', {}).get('activation_fn', config.get('sbert_ce_default_activation_function'))
    return (name or 'Identity').split('.')[-1]


def splade(logits):
    """log(1 + relu(the largest logit of each id over the tokens)), of logits [tokens, vocab_size]."""
    return torch.log1p(torch.relu(logits).max(dim=0).values)


def save_torch_folder(folder, module, config, prefix=''):
    os.makedirs(folder, exist_ok=True)
    state = {prefix + name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_file(state, folder + '/model.safetensors')
    with open(folder + '/config.json', 'w', encoding='utf-8') as file:
        json.dump({'format': 'headlight', **config}, file, indent=2)
        file.write('\n')


@torch.no_grad()
def save_attention(folder, layer, config, lens, kv_lens, seed, prefix=''):
    """torch.nn.MultiheadAttention (batch_first)."""
    randomize(layer, seed)
    save_torch_folder(folder, layer, {'layout': 'torch.nn.MultiheadAttention', 'num_heads': layer.num_heads, **config},
                      prefix)
    layer = layer.double()
    generator = torch.Generator().manual_seed(seed + 1)
    inputs = [torch.randn(sum(tokens), dim, generator=generator)
              for tokens, dim in ((lens, layer.embed_dim), (kv_lens, layer.kdim), (kv_lens, layer.vdim))]
    splits = [tensor.double().split(tokens) for tensor, tokens in zip(inputs, (lens, kv_lens, kv_lens))]
    outputs, weights = [], []
    for q, k, v in zip(*splits):
        mask = torch.ones(len(q), len(k)).triu(1).bool() if config.get('causal') else None
        output, weight = layer(q[None], k[None], v[None], attn_mask=mask, average_attn_weights=False)
        outputs.append(output[0])
        weights.append(weight.flatten())
    save_case(folder, {'query': inputs[0], 'key': inputs[1], 'value': inputs[2], 'lens': torch.tensor(lens),
                       'kv_lens': torch.tensor(kv_lens), 'output': torch.cat(outputs).float(),
                       'weights': torch.cat(weights).float()})


@torch.no_grad()
def save_encoder(folder, module, config, lens, seed, prefix=''):
    """torch.nn.TransformerEncoder or TransformerEncoderLayer (batch_first)."""
    randomize(module, seed)
    save_torch_folder(folder, module, config, prefix)
    # Training mode without dropout takes the plain path: the fused one of inference knows fewer options.
    module = module.double().train()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(part, torch.nn.MultiheadAttention):
            part.dropout = 0.0
    layer = module.layers[0] if hasattr(module, 'layers') else module
    width = layer.linear1.in_features
    query = torch.randn(sum(lens), width, generator=torch.Generator().manual_seed(seed + 1))
    outputs = []
    for x in query.double().split(lens):
        mask = torch.ones(len(x), len(x)).triu(1).bool() if config.get('causal') else None
        outputs.append(module(x[None], mask)[0])
    save_case(folder, {'query': query, 'lens': torch.tensor(lens), 'output': torch.cat(outputs).float()})
