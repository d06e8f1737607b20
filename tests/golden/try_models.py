#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes models with random options on the fly and compares what a built program computes with what PyTorch does.

  python3 tests/golden/try_models.py --program build/dev/bin/golden_run_model [--count 100] [--seed 1] [--family bert]
    [--strange-keys]

With --strange-keys each folder of transformers gets one key more in its config.json, of any family there is: it must be
computed as transformers does with it, or refused, or reported as not understood.

Exit 77, which means skipped, where torch, transformers or safetensors are missing.
"""
import argparse
import collections
import functools
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    import cases
    import encoders
    import remote_encoders
    from draw import activation, bert_like, labels, lens, widths
    import tails
except ImportError as error:
    print(f'skipped: {error}')
    sys.exit(77)

# As golden_test.cc, of the largest expected number where that is above 1: sums of larger numbers round further.
MAX_ERROR = 2e-5


def bert(rng):
    t = transformers
    decoder = rng.random() < 0.2
    config = bert_like(rng, t.BertConfig, **labels(rng), max_position_embeddings=rng.randint(22, 40),
                       type_vocab_size=rng.choice([1, 2, 3]), is_decoder=decoder)
    heads = [t.BertLMHeadModel, t.BertModel] if decoder else [
        t.BertModel, t.BertForMaskedLM, t.BertForSequenceClassification, t.BertForQuestionAnswering,
        t.BertForTokenClassification, t.BertForPreTraining, t.BertForNextSentencePrediction, t.BertForMultipleChoice]
    return rng.choice(heads)(config)


def roberta(rng):
    t = transformers
    kind, heads = rng.choice([
        (t.RobertaConfig, [t.RobertaModel, t.RobertaForMaskedLM, t.RobertaForSequenceClassification,
                           t.RobertaForQuestionAnswering]),
        (t.XLMRobertaConfig, [t.XLMRobertaModel, t.XLMRobertaForMaskedLM, t.XLMRobertaForTokenClassification]),
        (t.CamembertConfig, [t.CamembertModel, t.CamembertForMaskedLM])])
    config = bert_like(rng, kind, max_position_embeddings=rng.randint(27, 40), type_vocab_size=rng.choice([1, 2]),
                       pad_token_id=rng.choice([0, 1, 3]))
    return rng.choice(heads)(config)


def distilbert(rng):
    t = transformers
    width, heads = widths(rng)
    config = t.DistilBertConfig(vocab_size=rng.randint(5, 90), dim=width, n_heads=heads, n_layers=rng.randint(1, 4),
                                hidden_dim=rng.randint(1, 99), activation=rng.choice(['gelu', 'relu']),
                                max_position_embeddings=rng.randint(22, 40),
                                sinusoidal_pos_embds=rng.random() < 0.3, attn_implementation='eager')
    return rng.choice([t.DistilBertModel, t.DistilBertForMaskedLM, t.DistilBertForSequenceClassification,
                       t.DistilBertForQuestionAnswering, t.DistilBertForTokenClassification])(config)


def gpt2(rng):
    t = transformers
    width, heads = widths(rng)
    config = t.GPT2Config(vocab_size=rng.randint(5, 90), n_embd=width, n_head=heads, n_layer=rng.randint(1, 4),
                          n_positions=rng.randint(22, 40), n_inner=rng.choice([None, rng.randint(1, 99)]),
                          activation_function=activation(rng), layer_norm_epsilon=rng.choice([1e-5, 1e-2]),
                          scale_attn_weights=rng.random() < 0.7,
                          scale_attn_by_inverse_layer_idx=rng.random() < 0.5, **labels(rng), bos_token_id=0,
                          eos_token_id=1, pad_token_id=2, tie_word_embeddings=rng.random() < 0.5, attn_implementation='eager')
    return rng.choice([t.GPT2Model, t.GPT2LMHeadModel, t.GPT2ForSequenceClassification,
                       t.GPT2ForQuestionAnswering, t.GPT2ForTokenClassification, t.GPT2DoubleHeadsModel])(config)


def rope(rng, dims, kinds=('default', 'default', 'linear', 'llama3', 'dynamic', 'yarn', 'longrope')):
    """Positions of heads of which that many dimensions turn. Lengths are such that all sequences turn alike."""
    common = {'rope_theta': rng.choice([10000.0, 500000.0, 123.0])}
    kind = rng.choice(kinds)
    if kind == 'dynamic' and dims == 2:
        kind = 'linear'
    common['rope_type'] = kind
    if kind == 'default':
        return common
    if kind in ('linear', 'dynamic'):
        return {**common, 'factor': rng.choice([2.0, 3.5])}
    common['original_max_position_embeddings'] = rng.choice([32, 512, 8192] if kind == 'longrope' else [8, 32, 8192])
    if kind == 'llama3':
        return {**common, 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0}
    if rng.random() < 0.3:
        common['attention_factor'] = rng.choice([0.75, 1.5])
    if kind == 'longrope':
        factors = [[round(rng.uniform(0.8, 4.0), 3) for _ in range(dims // 2)] for _ in range(2)]
        return {**common, 'short_factor': factors[0], 'long_factor': factors[1],
                **({'factor': rng.choice([0.5, 4.0])} if rng.random() < 0.5 else {})}
    options = {'beta_fast': rng.choice([4, 16.0, 32.0]), 'beta_slow': rng.choice([0.25, 2.0]),
               'truncate': rng.random() < 0.5, 'mscale': rng.choice([0.7, 1.0]),
               'mscale_all_dim': rng.choice([0.5, 1.0])}
    return {**common, 'factor': rng.choice([2.0, 8.0]),
            **{key: value for key, value in options.items() if rng.random() < 0.5}}


def llama_sizes(rng, narrowest=0):
    width, heads = widths(rng, even=True)
    while width < narrowest:
        width, heads = widths(rng, even=True)
    head_dim = rng.choice([2, 8, 18]) if rng.random() < 0.4 else None
    return {'vocab_size': rng.randint(5, 90), 'hidden_size': width, 'num_attention_heads': heads,
            'num_key_value_heads': rng.choice([n for n in range(1, heads + 1) if heads % n == 0]),
            'num_hidden_layers': rng.randint(1, 4), 'intermediate_size': rng.randint(1, 99),
            'rms_norm_eps': rng.choice([1e-6, 1e-5, 1e-2]), 'rope_parameters': rope(rng, head_dim or width // heads),
            **labels(rng), 'bos_token_id': 0, 'eos_token_id': 1, 'pad_token_id': 2, 'tie_word_embeddings': rng.random() < 0.5,
            'attn_implementation': 'eager', **({'head_dim': head_dim} if head_dim else {})}


def llama(rng):
    t = transformers
    config = t.LlamaConfig(**llama_sizes(rng), hidden_act=activation(rng), attention_bias=rng.random() < 0.3,
                           mlp_bias=rng.random() < 0.3)
    return rng.choice([t.LlamaModel, t.LlamaForCausalLM, t.LlamaForSequenceClassification,
                       t.LlamaForQuestionAnswering, t.LlamaForTokenClassification])(config)


def mistral(rng):
    t = transformers
    config = t.MistralConfig(**llama_sizes(rng), sliding_window=rng.choice([None, 1, 3, 4096]))
    return rng.choice([t.MistralModel, t.MistralForCausalLM, t.MistralForSequenceClassification,
                       t.MistralForTokenClassification])(config)


def qwen_windows(rng, layers):
    types = {'layer_types': [rng.choice(['full_attention', 'sliding_attention']) for _ in range(layers)]}
    return rng.choice([{}, {'use_sliding_window': True, 'sliding_window': rng.choice([1, 3, 4096]),
                            'max_window_layers': rng.randint(0, layers), **(types if rng.random() < 0.5 else {})}])


def qwen2(rng):
    t = transformers
    sizes = llama_sizes(rng)
    config = t.Qwen2Config(**sizes, **qwen_windows(rng, sizes['num_hidden_layers']), hidden_act=activation(rng))
    return rng.choice([t.Qwen2Model, t.Qwen2ForCausalLM, t.Qwen2ForSequenceClassification,
                       t.Qwen2ForTokenClassification])(config)


def qwen3(rng):
    t = transformers
    sizes = llama_sizes(rng)
    if 'head_dim' not in sizes:
        sizes['rope_parameters'] = rope(rng, 128)
    config = t.Qwen3Config(**sizes, **qwen_windows(rng, sizes['num_hidden_layers']), hidden_act=activation(rng),
                           attention_bias=rng.random() < 0.4)
    return rng.choice([t.Qwen3Model, t.Qwen3ForCausalLM, t.Qwen3ForSequenceClassification,
                       t.Qwen3ForTokenClassification, t.Qwen3ForQuestionAnswering])(config)


def olmo2(rng):
    t = transformers
    config = t.Olmo2Config(**llama_sizes(rng, narrowest=8), hidden_act=activation(rng),
                           attention_bias=rng.random() < 0.4)
    return rng.choice([t.Olmo2Model, t.Olmo2ForCausalLM, t.Olmo2ForSequenceClassification])(config)


def part_of_a_head(rng, head_dim):
    """How many dimensions turn, an even number, and the factor that says so."""
    dims = rng.randrange(2, head_dim + 1, 2)
    factor = dims / head_dim
    return dims, factor if int(head_dim * factor) == dims else factor + 1e-9


def phi3(rng):
    t = transformers
    sizes = llama_sizes(rng)
    sizes.pop('head_dim', None)
    dims, factor = part_of_a_head(rng, sizes['hidden_size'] // sizes['num_attention_heads'])
    positions = rope(rng, dims, ('default', 'longrope', 'longrope'))
    length = positions.pop('original_max_position_embeddings', 4096)
    sizes['rope_parameters'] = {**positions, 'partial_rotary_factor': factor}
    config = t.Phi3Config(**sizes, original_max_position_embeddings=length, hidden_act=activation(rng),
                          max_position_embeddings=rng.choice([4096, 131072]),
                          sliding_window=rng.choice([None, 1, 3, 2047]))
    return rng.choice([t.Phi3Model, t.Phi3ForCausalLM, t.Phi3ForSequenceClassification,
                       t.Phi3ForTokenClassification])(config)


def gemma3(rng):
    t = transformers
    # Norms of what few numbers a part adds magnify their rounding, and so do scores of tens, in transformers' f32 too.
    sizes = llama_sizes(rng, narrowest=8)
    sizes.setdefault('head_dim', rng.choice([4, 16]))
    kinds = ('default', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope')
    sizes['rope_parameters'] = {'full_attention': rope(rng, sizes['head_dim'], kinds),
                                'sliding_attention': rope(rng, sizes['head_dim'], ('default', 'default', 'linear'))}
    sizes['rope_parameters']['full_attention'].pop('truncate', None)
    layers = sizes['num_hidden_layers']
    types = rng.choice([{}, {'sliding_window_pattern': rng.randint(1, 3)},
                        {'layer_types': [rng.choice(['full_attention', 'sliding_attention']) for _ in range(layers)]}])
    # No cap far below the logits: what it leaves of them is small beside their rounding.
    config = t.Gemma3TextConfig(**sizes, **types, hidden_activation=activation(rng), attention_bias=rng.random() < 0.3,
                                query_pre_attn_scalar=rng.choice([16, 24, 256]),
                                sliding_window=rng.choice([1, 2, 5, 8, 512]),
                                use_bidirectional_attention=rng.random() < 0.5,
                                final_logit_softcapping=rng.choice([None, 30.0, 80.0]))
    return rng.choice([t.Gemma3TextModel, t.Gemma3ForCausalLM, t.Gemma3TextForSequenceClassification])(config)


def gpt_neox(rng):
    t = transformers
    while True:
        width, heads = widths(rng, even=rng.random() < 0.5)
        if width // heads > 1:
            break
    dims, factor = part_of_a_head(rng, width // heads)
    config = t.GPTNeoXConfig(vocab_size=rng.randint(5, 90), hidden_size=width, num_attention_heads=heads,
                             num_hidden_layers=rng.randint(1, 4), intermediate_size=rng.randint(1, 99),
                             hidden_act=activation(rng), layer_norm_eps=rng.choice([1e-5, 1e-2]),
                             use_parallel_residual=rng.random() < 0.6, attention_bias=rng.random() < 0.7,
                             rope_parameters={**rope(rng, dims), 'partial_rotary_factor': factor}, bos_token_id=0,
                             eos_token_id=1, tie_word_embeddings=rng.random() < 0.3, **labels(rng),
                             attn_implementation='eager')
    return rng.choice([t.GPTNeoXModel, t.GPTNeoXForCausalLM, t.GPTNeoXForSequenceClassification,
                       t.GPTNeoXForTokenClassification, t.GPTNeoXForQuestionAnswering])(config)


def use_old_tensors(folder, model_type):
    """Adds the constant buffers that old versions saved, and the names of norms that came from TensorFlow."""
    path = folder + '/model.safetensors'
    if not os.path.exists(path):
        return
    tensors = load_file(path)
    for name in list(tensors):
        if name.endswith('embeddings.word_embeddings.weight') and model_type != 'distilbert':
            tensors[name.replace('word_embeddings.weight', 'position_ids')] = torch.arange(32)[None]
        if name.endswith('.attn.c_attn.weight'):
            attention = name.removesuffix('c_attn.weight')
            tensors[attention + 'bias'] = torch.ones(1, 1, 8, 8).tril()
            tensors[attention + 'masked_bias'] = torch.tensor(-1e4)
        if name.endswith('self_attn.q_proj.weight'):
            tensors[name.replace('q_proj.weight', 'rotary_emb.inv_freq')] = torch.ones(2)
        if name.endswith('.attention.query_key_value.weight'):
            attention = name.removesuffix('query_key_value.weight')
            tensors[attention + 'bias'] = torch.ones(1, 1, 8, 8).tril()
            tensors[attention + 'masked_bias'] = torch.tensor(-1e9)
            tensors[attention + 'rotary_emb.inv_freq'] = torch.ones(2)
        for new, old in (('LayerNorm.weight', 'LayerNorm.gamma'), ('LayerNorm.bias', 'LayerNorm.beta')):
            if model_type == 'bert' and name.endswith(new):
                tensors[name.replace(new, old)] = tensors.pop(name)
    save_file(tensors, path)


def use_old_positions(config):
    """Rewrites rope_parameters as versions before transformers 5 had them, where they could."""
    parameters = config.get('rope_parameters')
    if not parameters or config['model_type'] == 'modernbert':
        return
    if config['model_type'] == 'gemma3_text':
        local = parameters['sliding_attention']
        if local['rope_type'] != 'default':
            return
        config['rope_local_base_freq'] = local['rope_theta']
        parameters = parameters['full_attention']
    del config['rope_parameters']
    theta, part = parameters.pop('rope_theta'), parameters.pop('partial_rotary_factor', None)
    if config['model_type'] == 'gpt_neox':
        config['rotary_emb_base'], config['rotary_pct'] = theta, part
    if config['model_type'] != 'gpt_neox' or theta != 123.0:
        config['rope_theta'] = theta
        if part is not None:
            config['partial_rotary_factor'] = part
    kind = parameters.pop('rope_type')
    parameters.pop('type', None)
    if config['model_type'] == 'phi3':
        parameters.pop('original_max_position_embeddings', None)
    old = kind == 'linear' and config['model_type'] != 'gemma3_text'
    config['rope_scaling'] = None if kind == 'default' else {'type' if old else 'rope_type': kind, **parameters}


def drop_defaults(rng, folder):
    """Leaves out keys of config.json that have the value which their absence has."""
    path = folder + '/config.json'
    with open(path, encoding='utf-8') as file:
        config = json.load(file)
    defaults = transformers.CONFIG_MAPPING[config['model_type']]().to_dict()
    for key in list(config):
        if key in defaults and config[key] == defaults[key] and key != 'model_type' and rng.random() < 0.7:
            del config[key]
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(config, file)


def use_old_keys(folder):
    """Rewrites config.json as versions before transformers 5 did."""
    path = folder + '/config.json'
    with open(path, encoding='utf-8') as file:
        config = json.load(file)
    config['torch_dtype'] = config.pop('dtype', 'float32')
    config['transformers_version'] = '4.31.0'
    encoders.use_old_keys(config)
    use_old_positions(config)
    if config['model_type'] in ('bert', 'roberta'):
        config.update(position_embedding_type='absolute', gradient_checkpointing=False, pruned_heads={})
    if config['model_type'] == 'gpt2':
        config['n_ctx'] = config['n_positions']
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(config, file)
    use_old_tensors(folder, config['model_type'])


FAMILIES = [bert, roberta, distilbert, gpt2, llama, mistral, qwen2, qwen3, olmo2, phi3, gemma3, gpt_neox,
            *encoders.FAMILIES]


def try_transformers(rng, folder):
    model = rng.choice(FAMILIES)(rng)
    dtype = rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    save = {'max_shard_size': rng.choice(['2KB', '20KB'])} if rng.random() < 0.4 else {}
    save['save_original_format'] = rng.random() < 0.7
    if type(model).__name__.endswith('ForSequenceClassification') and rng.random() < 0.5:
        name = rng.choice(['torch.nn.modules.activation.Sigmoid', 'torch.nn.modules.linear.Identity'])
        if rng.random() < 0.5:
            model.config.sentence_transformers = {'activation_fn': name, 'version': '5.0.0'}
        else:
            model.config.sbert_ce_default_activation_function = name
    description = f'{type(model).__name__} {dtype} {save} {json.dumps(model.config.to_dict())}'
    cases.save_transformers(folder, model, lens(rng), rng.randint(0, 1 << 30), save=save, dtype=dtype)
    if rng.random() < 0.5:
        use_old_keys(folder)
        description += ' (old keys)'
    if rng.random() < 0.5:
        drop_defaults(rng, folder)
        description += ' (without defaults)'
    return description + tails.add(rng, folder, model.config)


def try_attention(rng, folder):
    width, heads = widths(rng)
    options = {'bias': rng.random() < 0.6, 'add_bias_kv': rng.random() < 0.3, 'add_zero_attn': rng.random() < 0.3}
    if rng.random() < 0.5:
        options.update(kdim=rng.randint(1, 70), vdim=rng.randint(1, 70))
    layer = torch.nn.MultiheadAttention(width, heads, batch_first=True, **options)
    prefix = rng.choice(['', 'attn.', 'layers.3.self_attn.'])
    config = {'add_zero_attn': options['add_zero_attn'], 'prefix': prefix}
    kv_lens = q_lens = lens(rng)
    if 'kdim' in options:
        kv_lens = [rng.randint(1, 30) for _ in q_lens]
    elif not options['add_bias_kv'] and not options['add_zero_attn'] and rng.random() < 0.4:
        config['causal'] = True
    cases.save_attention(folder, layer, config, q_lens, kv_lens, rng.randint(0, 1 << 30), prefix)
    return f'MultiheadAttention({width}, {heads}, {options}) {config}'


def try_encoder(rng, folder):
    width, heads = widths(rng)
    name = rng.choice(['relu', 'gelu', 'silu'])
    options = {'dim_feedforward': rng.randint(1, 99), 'bias': rng.random() < 0.7, 'norm_first': rng.random() < 0.5,
               'layer_norm_eps': rng.choice([1e-5, 1e-2])}
    function = {'relu': 'relu', 'gelu': 'gelu', 'silu': torch.nn.functional.silu}[name]
    module = torch.nn.TransformerEncoderLayer(width, heads, activation=function, batch_first=True, **options)
    layout = 'torch.nn.TransformerEncoderLayer'
    final = {}
    if rng.random() < 0.7:
        norm = None
        if rng.random() < 0.7:
            final = {'final_norm_kind': rng.choice(['layer_norm', 'rms_norm']), 'final_norm_eps': rng.choice([1e-5, 1e-2])}
            norm = (torch.nn.RMSNorm(width, final['final_norm_eps']) if final['final_norm_kind'] == 'rms_norm' else
                    torch.nn.LayerNorm(width, final['final_norm_eps'], bias=rng.random() < 0.7))
        module = torch.nn.TransformerEncoder(module, rng.randint(1, 12), norm, enable_nested_tensor=False)
        layout = 'torch.nn.TransformerEncoder'
    prefix = rng.choice(['', 'encoder.'])
    config = {'layout': layout, 'num_heads': heads, 'activation': name, 'norm_first': options['norm_first'],
              'layer_norm_eps': options['layer_norm_eps'], 'prefix': prefix, 'causal': rng.random() < 0.3, **final}
    cases.save_encoder(folder, module, config, lens(rng), rng.randint(0, 1 << 30), prefix)
    return f'{layout} {options} {config}'


def try_remote(rng, folder):
    config = remote_encoders.save(rng, folder, lens(rng))
    return f'with code of its own: {json.dumps(config)}'


def run(program, folder):
    return subprocess.run([program, folder, folder + '.case.safetensors'], capture_output=True, text=True, check=False)


def compare(program, folder):
    """What is wrong, or nothing."""
    result = run(program, folder)
    if result.returncode != 0:
        return result.stderr or f'exit {result.returncode}'
    error, largest = (float(word) for word in result.stdout.split()[1:3])
    if not error <= MAX_ERROR * max(1.0, largest):
        return f'off by {error}, largest expected {largest}'
    return ''


@functools.cache
def all_keys():
    """Every key of every config class, with the default that it has there first."""
    keys = {}
    for name in sorted(set(transformers.CONFIG_MAPPING.keys())):
        try:
            config = transformers.CONFIG_MAPPING[name]().to_dict()
        except Exception:  # pylint: disable=broad-except
            continue
        for key, value in config.items():
            keys.setdefault(key, []).append(value)
    return sorted(keys.items())


def other_value(rng, value):
    """A value of the kind that a key has."""
    if rng.random() < 0.1:
        return None
    if isinstance(value, bool):
        return rng.random() < 0.7
    if isinstance(value, int):
        return rng.choice([0, 1, 2, 3, 4, 8, value])
    if isinstance(value, float):
        return rng.choice([0.0, 0.5, 1.0, 2.0, value])
    if value is None:
        return rng.choice([True, 1, 2, 0.5, None])
    return value


def try_strange_key(rng, folder, program):
    """The description, what became of it, and what is wrong."""
    seed = rng.randint(0, 1 << 30)
    description = try_transformers(rng, folder)
    path = folder + '/config.json'
    with open(path, encoding='utf-8') as file:
        config = json.load(file)
    key, values = rng.choice([(key, values) for key, values in all_keys() if key not in config])
    config[key] = other_value(rng, rng.choice(values))
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(config, file)
    description = f'{key} = {config[key]!r} in {description}'
    try:
        cases.save_transformers_case(folder, transformers.AutoModel, lens(rng), seed)
    except Exception:  # pylint: disable=broad-except
        return description, 'refused by transformers', ''
    result = run(program, folder)
    if result.returncode != 0:
        return description, 'refused', '' if key in result.stderr else result.stderr
    problem = compare(program, folder)
    if problem and key in result.stdout.split()[6:]:
        return description, 'other and reported', ''
    return description, 'right', problem


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--program', required=True)
    parser.add_argument('--count', type=int, default=100)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--strange-keys', action='store_true')
    parser.add_argument('--family', help='one of ' + ', '.join(family.__name__ for family in FAMILIES))
    options = parser.parse_args()
    if options.family:
        FAMILIES[:] = [family for family in FAMILIES if family.__name__ == options.family]
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    wrong = 0
    outcomes = collections.Counter()
    for seed in range(options.seed, options.seed + options.count):
        rng = random.Random(seed)
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as root:
            folder = os.path.join(root, 'model')
            if options.strange_keys:
                description, outcome, problem = try_strange_key(rng, folder, options.program)
                outcomes[outcome] += 1
            else:
                kinds = [try_transformers] if options.family else [
                    *[try_transformers] * 5, try_remote, try_attention, try_encoder]
                description = rng.choice(kinds)(rng, folder)
                problem = compare(options.program, folder)
        if problem:
            wrong += 1
            print(f'--seed {seed} --count 1: {problem}\n  {description}')
    if outcomes:
        print(', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common()))
    print(f'{options.count - wrong} passed, {wrong} failed')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
