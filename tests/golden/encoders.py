# SPDX-License-Identifier: Apache-2.0
"""Random encoders of transformers beside BERT's own, and what their older config.json files say."""
import transformers as t

from draw import activation, bert_like, labels, widths


def positions(rng):
    return {'max_position_embeddings': rng.randint(26, 40)}


def head_activation(rng):
    return rng.choice(['tanh', 'sigmoid', activation(rng)])


def mpnet(rng):
    config = bert_like(rng, t.MPNetConfig, **positions(rng), **labels(rng), pad_token_id=rng.choice([1, 0]))
    return rng.choice([t.MPNetModel, t.MPNetForMaskedLM, t.MPNetForSequenceClassification,
                       t.MPNetForTokenClassification])(config)


def electra(rng):
    decoder = rng.random() < 0.2
    config = bert_like(rng, t.ElectraConfig, **positions(rng), **labels(rng), type_vocab_size=rng.choice([1, 2, 3]),
                       embedding_size=rng.choice([3, 5, 8, 24]), is_decoder=decoder)
    if rng.random() < 0.3:
        config.embedding_size = config.hidden_size
    heads = [t.ElectraForCausalLM, t.ElectraModel] if decoder else [
        t.ElectraModel, t.ElectraForPreTraining, t.ElectraForMaskedLM, t.ElectraForSequenceClassification,
        t.ElectraForTokenClassification, t.ElectraForQuestionAnswering]
    return rng.choice(heads)(config)


def albert(rng):
    config = bert_like(rng, t.AlbertConfig, **positions(rng), **labels(rng), type_vocab_size=rng.choice([1, 2, 3]),
                       embedding_size=rng.choice([3, 5, 8, 24]), inner_group_num=rng.choice([1, 1, 2, 3]))
    config.num_hidden_layers = rng.randint(1, 7)
    if config.hidden_size < 8:  # many norms of few numbers magnify the rounding of any implementation
        config.num_hidden_layers = config.inner_group_num = 1
    config.num_hidden_groups = rng.randint(1, config.num_hidden_layers)
    if rng.random() < 0.2:
        config.embedding_size = config.hidden_size
    return rng.choice([t.AlbertModel, t.AlbertForMaskedLM, t.AlbertForPreTraining, t.AlbertForSequenceClassification,
                       t.AlbertForTokenClassification, t.AlbertForQuestionAnswering])(config)


def rope(rng, theta):
    kind = rng.choice([{'rope_type': 'default'}, {'rope_type': 'default'},
                       {'rope_type': 'linear', 'factor': rng.choice([2.0, 3.5])}])
    return {**kind, **({'rope_theta': theta} if rng.random() < 0.7 else {})}


def modernbert(rng):
    width, heads = widths(rng, even=True)
    layers = rng.randint(1, 5)
    every = rng.randint(1, 4)
    types = ['sliding_attention' if i % every else 'full_attention' for i in range(layers)]
    if rng.random() < 0.4:
        types = [rng.choice(['full_attention', 'sliding_attention']) for _ in range(layers)]
    parameters = {'full_attention': rope(rng, 5000.0), 'sliding_attention': rope(rng, 77.0)}
    config = t.ModernBertConfig(
        vocab_size=rng.randint(5, 90), hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers,
        intermediate_size=rng.randint(1, 99), hidden_activation=activation(rng), norm_eps=rng.choice([1e-5, 1e-2]),
        norm_bias=rng.random() < 0.3, attention_bias=rng.random() < 0.3, mlp_bias=rng.random() < 0.3,
        layer_types=types, local_attention=rng.choice([1, 2, 5, 8, 128]), pad_token_id=0, bos_token_id=1,
        eos_token_id=2, cls_token_id=1, sep_token_id=2, attn_implementation='eager', **labels(rng),
        classifier_activation=head_activation(rng), classifier_bias=rng.random() < 0.4,
        classifier_pooling=rng.choice(['cls', 'mean']), decoder_bias=rng.random() < 0.6,
        **({'rope_parameters': parameters} if rng.random() < 0.7 else {}))
    return rng.choice([t.ModernBertModel, t.ModernBertForMaskedLM, t.ModernBertForSequenceClassification,
                       t.ModernBertForTokenClassification])(config)


def nomic_bert(rng):
    config = bert_like(rng, t.NomicBertConfig, even=True, **labels(rng), type_vocab_size=rng.choice([1, 2, 3]),
                       **({'rope_parameters': rope(rng, 123.0)} if rng.random() < 0.7 else {}))
    return rng.choice([t.NomicBertModel, t.NomicBertForMaskedLM, t.NomicBertForSequenceClassification,
                       t.NomicBertForTokenClassification])(config)


def gte(rng):
    config = bert_like(rng, t.GteConfig, even=True, **labels(rng), type_vocab_size=rng.choice([0, 1, 2]),
                       **({'rope_parameters': rope(rng, 123.0)} if rng.random() < 0.7 else {}))
    return rng.choice([t.GteModel, t.GteForMaskedLM, t.GteForSequenceClassification,
                       t.GteForTokenClassification])(config)


def deberta_heads(rng):
    return {**labels(rng), 'pooler_hidden_act': head_activation(rng), 'legacy': rng.random() < 0.5}


def deberta_v2(rng):
    relative = rng.random() < 0.85
    furthest = rng.choice([-1, 5, 9, 24, 30])
    buckets = rng.choice([-1, -1, 4, 6, 8])
    if buckets > 0 and 0 < furthest < buckets:
        furthest = 30
    config = bert_like(rng, t.DebertaV2Config, **positions(rng), **deberta_heads(rng), type_vocab_size=rng.choice([0, 0, 2]),
                       relative_attention=relative, max_relative_positions=furthest, position_buckets=buckets,
                       share_att_key=rng.random() < 0.7, position_biased_input=rng.random() < 0.5,
                       pos_att_type=rng.choice([['p2c', 'c2p'], ['p2c', 'c2p'], ['c2p'], ['p2c'], [], None]),
                       norm_rel_ebd=rng.choice(['none', 'layer_norm', 'layer_norm']))
    return rng.choice([t.DebertaV2Model, t.DebertaV2ForMaskedLM, t.DebertaV2ForSequenceClassification,
                       t.DebertaV2ForTokenClassification])(config)


def deberta(rng):
    config = bert_like(rng, t.DebertaConfig, **positions(rng), **deberta_heads(rng), type_vocab_size=rng.choice([0, 0, 2]),
                       relative_attention=rng.random() < 0.85, max_relative_positions=rng.choice([-1, 5, 9, 24, 30]),
                       position_biased_input=rng.random() < 0.5,
                       pos_att_type=rng.choice([['c2p', 'p2c'], ['c2p', 'p2c'], ['c2p'], ['p2c'], [], None]))
    return rng.choice([t.DebertaModel, t.DebertaForMaskedLM, t.DebertaForSequenceClassification,
                       t.DebertaForTokenClassification])(config)


FAMILIES = [mpnet, electra, albert, modernbert, nomic_bert, gte, deberta, deberta_v2]


def use_old_keys(config):
    """Rewrites what config.json says in a way of its own; the rest is left to who calls."""
    family = config['model_type']
    if family in ('electra', 'albert'):
        config['position_embedding_type'] = 'absolute'
    if family == 'albert':
        config.update(down_scale_factor=1, gap_size=0, net_structure_type=0, num_memory_blocks=0)
    if family in ('deberta', 'deberta-v2') and config.get('pos_att_type'):
        config['pos_att_type'] = '|'.join(config['pos_att_type'])
    if family != 'modernbert':
        return
    config.update(layer_norm_eps=config['norm_eps'], position_embedding_type='absolute', reference_compile=None)
    kinds = config['rope_parameters']
    if all(kind['rope_type'] == 'default' for kind in kinds.values()):
        config.update(global_rope_theta=kinds['full_attention']['rope_theta'],
                      local_rope_theta=kinds['sliding_attention']['rope_theta'])
        del config['rope_parameters']
    types = config['layer_types']
    for every in range(1, len(types) + 1):
        if types == ['sliding_attention' if i % every else 'full_attention' for i in range(len(types))]:
            config['global_attn_every_n_layers'] = every
            del config['layer_types']
            break
