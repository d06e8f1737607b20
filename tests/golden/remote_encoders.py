# SPDX-License-Identifier: Apache-2.0
"""Encoders that come with code of their own, which is not run here: small random models and what they compute,
written in PyTorch from what is published of them.

  jina   Jina's embeddings 2 (arXiv:2310.19923): "bert" with ALiBi
  nomic  Nomic's BERT (arXiv:2402.01613) with the keys of GPT-2
  new    GTE (arXiv:2407.19669) as its makers save it
"""
import json
import math
import os

import torch
from safetensors.torch import save_file

from cases import save_case, splade
from draw import activation, widths

ACTIVATIONS = {
    'gelu': torch.nn.functional.gelu, 'relu': torch.relu, 'silu': torch.nn.functional.silu,
    'gelu_new': lambda x: torch.nn.functional.gelu(x, approximate='tanh')}


class Tensors:
    """Named random tensors in a file's dtype, read in double precision."""

    def __init__(self, seed, dtype, prefix):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype, self.prefix = dtype, prefix
        self.saved = {}

    def draw(self, name, *shape, mean=0.0, deviation=0.1):
        noise = mean + deviation * torch.randn(*shape, generator=self.generator)
        self.saved[self.prefix + name] = noise.to(self.dtype)
        return self.saved[self.prefix + name].double()

    def linear(self, name, inputs, outputs, bias=True):
        weight = self.draw(name + '.weight', outputs, inputs, deviation=1 / math.sqrt(inputs))
        offset = self.draw(name + '.bias', outputs) if bias else 0.0
        return lambda x: x @ weight.T + offset

    def norm(self, name, width, eps):
        gain, offset = self.draw(name + '.weight', width, mean=1.0), self.draw(name + '.bias', width)
        return lambda x: torch.nn.functional.layer_norm(x, (width,), gain, offset, eps)

    def table(self, name, rows, width):
        return self.draw(name, rows, width, deviation=1.0)


def alibi_slopes(heads):
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes + [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]


def turn(x, frequencies):
    """x [heads, tokens, head_dim], of which the leading 2 * len(frequencies) dimensions turn."""
    half = len(frequencies)
    angles = torch.arange(x.shape[1]).double()[:, None] * frequencies
    first, second, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def attend(q, k, v, heads, frequencies=None, slopes=None):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (q, k, v))
    if frequencies is not None:
        q, k = turn(q, frequencies), turn(k, frequencies)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if slopes is not None:
        places = torch.arange(q.shape[1]).double()
        scores = scores - torch.tensor(slopes).double()[:, None, None] * (places[:, None] - places).abs()
    return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def embed(draw, vocab_size, types, width, norm):
    tokens = draw.table('embeddings.word_embeddings.weight', vocab_size, width)
    kinds = draw.table('embeddings.token_type_embeddings.weight', types, width) if types else None
    return lambda ids, of: norm(tokens[ids] + (kinds[of] if types else 0.0))


def common(rng, even):
    width, heads = widths(rng, even)
    return {'vocab_size': rng.randint(5, 90), 'hidden_size': width, 'num_attention_heads': heads,
            'num_hidden_layers': rng.randint(1, 4), 'intermediate_size': rng.randint(1, 99),
            'layer_norm_eps': rng.choice([1e-12, 1e-5, 1e-2]), 'type_vocab_size': rng.choice([1, 2])}


def jina(rng, draw):
    kind = rng.choice(['geglu', 'geglu', 'reglu', 'original'])
    config = {**common(rng, False), 'model_type': 'bert', 'architectures': ['JinaBertForMaskedLM'],
              'position_embedding_type': 'alibi', 'feed_forward_type': kind, 'hidden_act': activation(rng, list(ACTIVATIONS)),
              'max_position_embeddings': 8192, 'emb_pooler': 'mean', 'attn_implementation': None,
              'auto_map': {'AutoConfig': 'jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig',
                           'AutoModel': 'jinaai/jina-bert-implementation--modeling_bert.JinaBertModel'}}
    if rng.random() < 0.2:
        del config['auto_map']
    width, hidden, eps = config['hidden_size'], config['intermediate_size'], config['layer_norm_eps']
    heads = config['num_attention_heads']
    start = embed(draw, config['vocab_size'], config['type_vocab_size'], width, draw.norm('embeddings.LayerNorm', width, eps))

    def layer(name):
        q, k, v = (draw.linear(f'{name}attention.self.{part}', width, width) for part in ('query', 'key', 'value'))
        out = draw.linear(name + 'attention.output.dense', width, width)
        first = draw.norm(name + 'attention.output.LayerNorm', width, eps)
        if kind == 'original':
            up = draw.linear(name + 'intermediate.dense', width, hidden)
            down = draw.linear(name + 'output.dense', hidden, width)
            second = draw.norm(name + 'output.LayerNorm', width, eps)
            act = ACTIVATIONS[config['hidden_act']]
            network = lambda x: down(act(up(x)))
        else:
            both = draw.linear(name + 'mlp.gated_layers', width, 2 * hidden, bias=False)
            down = draw.linear(name + 'mlp.wo', hidden, width)
            second = draw.norm(name + 'mlp.layernorm', width, eps)
            act = ACTIVATIONS['gelu' if kind == 'geglu' else 'relu']
            network = lambda x: down(act(both(x)[:, :hidden]) * both(x)[:, hidden:])
        slopes = alibi_slopes(heads)

        def forward(x):
            x = first(x + out(attend(q(x), k(x), v(x), heads, slopes=slopes)))
            return second(x + network(x))
        return forward

    return config, start, [layer(f'encoder.layer.{i}.') for i in range(config['num_hidden_layers'])]


def nomic(rng, draw):
    sizes = common(rng, True)
    width, heads, eps = sizes['hidden_size'], sizes['num_attention_heads'], sizes['layer_norm_eps']
    head_dim = width // heads
    kind = rng.choice(['swiglu', 'swiglu', 'geglu', 'gelu'])
    fraction = rng.choice([1.0, 1.0, 0.5]) if head_dim % 4 == 0 else 1.0
    multiple = rng.choice([1, 8])
    config = {'model_type': 'nomic_bert', 'architectures': ['NomicBertModel'], 'n_embd': width, 'n_head': heads,
              'n_inner': sizes['intermediate_size'], 'n_layer': sizes['num_hidden_layers'], 'n_positions': 8192,
              'vocab_size': sizes['vocab_size'], 'pad_vocab_size_multiple': multiple,
              'type_vocab_size': rng.choice([0, 1, 2]), 'layer_norm_epsilon': eps, 'activation_function': kind,
              'rotary_emb_base': rng.choice([1000, 10000.0]), 'rotary_emb_fraction': fraction,
              'rotary_emb_interleaved': False, 'rotary_emb_scale_base': None, 'max_trained_positions': 2048,
              'rotary_scaling_factor': rng.choice([None, 2]), 'qkv_proj_bias': rng.random() < 0.4,
              'mlp_fc1_bias': rng.random() < 0.4, 'mlp_fc2_bias': rng.random() < 0.4, 'prenorm': False,
              'parallel_block': False, 'parallel_block_tied_norm': False, 'use_rms_norm': False, 'causal': False,
              'scale_attn_weights': True, 'scale_attn_by_inverse_layer_idx': False, 'use_flash_attn': True,
              'fused_bias_fc': True, 'fused_dropout_add_ln': True, 'use_xentropy': True, 'dense_seq_output': True,
              'auto_map': {'AutoConfig': 'nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig',
                           'AutoModel': 'nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel'}}
    if rng.random() < 0.3:  # as the class of transformers 5 wants them, beside the older keys
        config.update(hidden_size=width, num_attention_heads=heads, num_hidden_layers=config['n_layer'],
                      intermediate_size=config['n_inner'], layer_norm_eps=eps,
                      hidden_act='silu' if kind == 'swiglu' else 'gelu', hidden_dropout_prob=0.0,
                      rope_parameters={'rope_type': 'default', 'rope_theta': config['rotary_emb_base']})
    hidden = config['n_inner']
    if kind != 'gelu':
        hidden = (hidden + 255) // 256 * 256
    tokens = (config['vocab_size'] + multiple - 1) // multiple * multiple
    start = embed(draw, tokens, config['type_vocab_size'], width, draw.norm('emb_ln', width, eps))
    turned = int(head_dim * fraction)
    frequencies = config['rotary_emb_base'] ** (-torch.arange(0, turned, 2).double() / turned)

    def layer(name):
        qkv = draw.linear(name + 'attn.Wqkv', width, 3 * width, config['qkv_proj_bias'])
        out = draw.linear(name + 'attn.out_proj', width, width, config['qkv_proj_bias'])
        first, second = draw.norm(name + 'norm1', width, eps), draw.norm(name + 'norm2', width, eps)
        down = draw.linear(name + 'mlp.fc2', hidden, width, config['mlp_fc2_bias'])
        act = ACTIVATIONS['silu' if kind == 'swiglu' else 'gelu']
        if kind == 'gelu':
            up = draw.linear(name + 'mlp.fc1', width, hidden, config['mlp_fc1_bias'])
            network = lambda x: down(act(up(x)))
        else:
            up, gate = (draw.linear(name + part, width, hidden, config['mlp_fc1_bias']) for part in ('mlp.fc11', 'mlp.fc12'))
            network = lambda x: down(up(x) * act(gate(x)))

        def forward(x):
            x = first(x + out(attend(*qkv(x).split(width, -1), heads, frequencies)))
            return second(x + network(x))
        return forward

    return config, start, [layer(f'encoder.layers.{i}.') for i in range(config['n_layer'])]


def new(rng, draw):
    config = {**common(rng, True), 'model_type': 'new', 'architectures': ['NewModel'],
              'type_vocab_size': rng.choice([0, 1, 2]), 'hidden_act': activation(rng, list(ACTIVATIONS)),
              'max_position_embeddings': 8192, 'rope_theta': rng.choice([160000, 20000.0, 50.0]),
              'rope_scaling': rng.choice([None, {'type': 'ntk', 'factor': rng.choice([2.0, 8.0])}]),
              'position_embedding_type': 'rope', 'layer_norm_type': 'layer_norm', 'pack_qkv': rng.random() < 0.7,
              'logn_attention_scale': False, 'logn_attention_clip1': False, 'unpad_inputs': 'true',
              'use_memory_efficient_attention': 'true',
              'auto_map': {'AutoConfig': 'Alibaba-NLP/new-impl--configuration.NewConfig',
                           'AutoModel': 'Alibaba-NLP/new-impl--modeling.NewModel'}}
    if rng.random() < 0.3:
        config.update(model_type='gte', architectures=['GteModel'],
                      auto_map={'AutoConfig': 'configuration_hf_alibaba_nlp_gte.GteConfig',
                                'AutoModel': 'modeling_hf_alibaba_nlp_gte.GteModel'})
    width, hidden, eps = config['hidden_size'], config['intermediate_size'], config['layer_norm_eps']
    heads = config['num_attention_heads']
    head_dim = width // heads
    start = embed(draw, config['vocab_size'], config['type_vocab_size'], width, draw.norm('embeddings.LayerNorm', width, eps))
    factor = (config['rope_scaling'] or {'factor': 1.0})['factor']
    exponents = torch.arange(0, head_dim, 2).double() / head_dim
    frequencies = (config['rope_theta'] * factor) ** -exponents / factor ** (2 / head_dim)
    act = ACTIVATIONS[config['hidden_act']]

    def layer(name):
        if config['pack_qkv']:
            qkv = draw.linear(name + 'attention.qkv_proj', width, 3 * width)
        else:
            parts = [draw.linear(f'{name}attention.{part}_proj', width, width) for part in 'qkv']
            qkv = lambda x: torch.cat([part(x) for part in parts], -1)
        out = draw.linear(name + 'attention.o_proj', width, width)
        first, second = draw.norm(name + 'attn_ln', width, eps), draw.norm(name + 'mlp_ln', width, eps)
        both = draw.linear(name + 'mlp.up_gate_proj', width, 2 * hidden, bias=False)
        down = draw.linear(name + 'mlp.down_proj', hidden, width)

        def forward(x):
            x = first(x + out(attend(*qkv(x).split(width, -1), heads, frequencies)))
            return second(x + down(both(x)[:, :hidden] * act(both(x)[:, hidden:])))
        return forward

    return config, start, [layer(f'encoder.layer.{i}.') for i in range(config['num_hidden_layers'])]


def add_head(rng, draw, family, config):
    """The kind of one of the heads that all of them have from BERT, and what computes it; or nothing."""
    classes = {jina: 'JinaBert', nomic: 'NomicBert', new: 'New' if config['model_type'] == 'new' else 'Gte'}[family]
    width, eps = (config.get(names[0], config.get(names[1]))
                  for names in (('n_embd', 'hidden_size'), ('layer_norm_epsilon', 'layer_norm_eps')))
    task = rng.choice(['Model', 'ForSequenceClassification', 'ForTokenClassification', 'ForMaskedLM'])
    config['architectures'] = [classes + task]
    top = Tensors(rng.randint(0, 1 << 30), draw.dtype, '')
    top.saved = draw.saved
    if task == 'ForSequenceClassification':
        pooler, classifier = draw.linear('pooler.dense', width, width), top.linear('classifier', width, rng.randint(1, 4))
        return 'scores', lambda x: classifier(torch.tanh(pooler(x[:1])))
    if task == 'ForTokenClassification':
        return 'token_scores', top.linear('classifier', width, rng.randint(1, 4))
    if task == 'Model':
        return None, None
    base, transform, norm = {jina: ('cls.predictions', 'cls.predictions.transform', 'LayerNorm'),
                             nomic: ('cls.predictions', 'cls.predictions.transform', 'layer_norm'),
                             new: ('lm_head', 'lm_head', 'norm')}[family]
    act = ACTIVATIONS['silu' if config.get('activation_function') == 'swiglu' else config.get('hidden_act', 'gelu')]
    dense, normed = top.linear(transform + '.dense', width, width), top.norm(f'{transform}.{norm}', width, eps)
    table = draw.saved[draw.prefix + 'embeddings.word_embeddings.weight'].double()
    bias = top.draw(base + ('.bias' if family == jina else '.decoder.bias'), len(table))
    return 'token_logits', lambda x: normed(act(dense(x))) @ table.T + bias


PREFIXES = {jina: ['', 'bert.'], nomic: ['', 'bert.'], new: ['', 'new.']}


@torch.no_grad()
def save(rng, folder, lens, family=None, dtype=None):
    """A model in a folder and its case; the config."""
    family = family or rng.choice(list(PREFIXES))
    draw = Tensors(rng.randint(0, 1 << 30), dtype or rng.choice([torch.float32, torch.float16, torch.bfloat16]),
                   rng.choice(PREFIXES[family]))
    config, start, layers = family(rng, draw)
    os.makedirs(folder, exist_ok=True)
    kind, head = add_head(rng, draw, family, config)
    save_file(draw.saved, folder + '/model.safetensors')
    with open(folder + '/config.json', 'w', encoding='utf-8') as file:
        json.dump(config, file, indent=2)
        file.write('\n')
    ids = torch.randint(0, config['vocab_size'], (sum(lens),), generator=draw.generator)
    kinds = config['type_vocab_size']
    types = torch.randint(0, max(kinds, 1), (sum(lens),), generator=draw.generator)
    outputs, logits = [], []
    for part_ids, part_types in zip(ids.split(lens), types.split(lens)):
        x = start(part_ids, part_types)
        for layer in layers:
            x = layer(x)
        outputs.append(x)
        if kind:
            logits.append(head(x))
    tensors = {'ids': ids, 'lens': torch.tensor(lens), 'output': torch.cat(outputs).float()}
    if kinds > 1:
        tensors['token_types'] = types
    if kind:
        tensors['outputs.' + kind] = torch.cat(logits).float()
    if kind == 'token_logits':
        tensors['outputs.sparse'] = torch.stack([splade(rows) for rows in logits]).float()
    save_case(folder, tensors)
    return config
