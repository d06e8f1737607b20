#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/models: one case (cases.py) for each layout, which tests/core/checkpoint/golden_test.cc loads.

  pip install torch transformers safetensors
  python3 tests/golden/make_models.py

The files in the repository were made with torch 2.15 and transformers 5.24.
"""
import os
import random
import shutil

import torch
import transformers

import cases
import remote_encoders

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'models')
LENS = [1, 7, 19]
BERT_SIZES = {'vocab_size': 53, 'hidden_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 4,
              'intermediate_size': 80, 'max_position_embeddings': 24, 'attn_implementation': 'eager'}


def folder(name):
    return os.path.join(ROOT, name)


def make_torch():
    cases.save_attention(folder('mha-packed'), torch.nn.MultiheadAttention(48, 4, batch_first=True), {}, LENS, LENS, 1)
    cases.save_attention(
        folder('mha-separate'),
        torch.nn.MultiheadAttention(40, 2, kdim=24, vdim=56, add_bias_kv=True, add_zero_attn=True, batch_first=True),
        {'add_zero_attn': True, 'prefix': 'decoder.attn'}, [1, 5, 8], [3, 5, 20], 2, prefix='decoder.attn.')
    cases.save_attention(folder('mha-no-bias'), torch.nn.MultiheadAttention(33, 1, bias=False, batch_first=True),
                         {'causal': True}, LENS, LENS, 3)
    layer = torch.nn.TransformerEncoderLayer(48, 4, 72, activation='gelu', norm_first=True, batch_first=True)
    cases.save_encoder(folder('encoder-layer-pre'), layer,
                       {'layout': 'torch.nn.TransformerEncoderLayer', 'num_heads': 4, 'norm_first': True,
                        'activation': 'gelu', 'layer_norm_eps': 1e-5}, LENS, 4)
    layer = torch.nn.TransformerEncoderLayer(36, 3, 50, bias=False, layer_norm_eps=1e-3, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 3, norm=torch.nn.LayerNorm(36, eps=1e-3), enable_nested_tensor=False)
    cases.save_encoder(folder('encoder-post'), encoder,
                       {'layout': 'torch.nn.TransformerEncoder', 'num_heads': 3, 'layer_norm_eps': 1e-3,
                        'causal': True, 'norm_first': False, 'activation': 'relu', 'final_norm_eps': 1e-3}, LENS, 5)


def make_transformers():
    t = transformers
    cases.save_transformers(folder('bert'), t.BertForMaskedLM(t.BertConfig(**BERT_SIZES)), LENS, 11)
    config = t.RobertaConfig(**{**BERT_SIZES, 'max_position_embeddings': 26}, type_vocab_size=1, layer_norm_eps=1e-5)
    ids = torch.tensor([5] + [0, 7, 1, 1, 9, 30, 2] + [0] + list(range(2, 18)) + [2, 1])  # 1 is padding
    cases.save_transformers(folder('roberta'), t.RobertaModel(config, add_pooling_layer=False), LENS, 12, ids=ids)
    config = t.DistilBertConfig(vocab_size=53, dim=48, n_layers=2, n_heads=4, hidden_dim=80, max_position_embeddings=24,
                                attn_implementation='eager')
    cases.save_transformers(folder('distilbert'), t.DistilBertForSequenceClassification(config), LENS, 13)
    config = t.GPT2Config(vocab_size=53, n_embd=48, n_layer=2, n_head=4, n_positions=24, bos_token_id=0, eos_token_id=1,
                          scale_attn_by_inverse_layer_idx=True, attn_implementation='eager')
    cases.save_transformers(folder('gpt2'), t.GPT2LMHeadModel(config), LENS, 14)
    config = t.LlamaConfig(**{**BERT_SIZES, 'max_position_embeddings': 64}, num_key_value_heads=2,
                           rope_parameters={'rope_type': 'llama3', 'rope_theta': 500.0, 'factor': 4.0,
                                            'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
                                            'original_max_position_embeddings': 16})
    cases.save_transformers(folder('llama'), t.LlamaForCausalLM(config), LENS, 15, save={'max_shard_size': '60KB'})
    config = t.MistralConfig(**BERT_SIZES, num_key_value_heads=1, head_dim=16, sliding_window=4)
    cases.save_transformers(folder('mistral'), t.MistralModel(config), LENS, 16)
    config = t.Qwen2Config(**BERT_SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=5,
                           max_window_layers=1)
    cases.save_transformers(folder('qwen2'), t.Qwen2Model(config), LENS, 17)
    make_llama_like()


def make_llama_like():
    t = transformers
    sizes = {**BERT_SIZES, 'hidden_size': 32, 'intermediate_size': 40, 'max_position_embeddings': 64}
    config = t.Qwen3Config(**sizes, num_key_value_heads=2, head_dim=12, attention_bias=True, use_sliding_window=True,
                           sliding_window=5, max_window_layers=1,
                           rope_parameters={'rope_type': 'yarn', 'rope_theta': 500.0, 'factor': 4.0,
                                            'original_max_position_embeddings': 16})
    cases.save_transformers(folder('qwen3'), t.Qwen3Model(config), LENS, 18)
    config = t.Olmo2Config(**sizes, num_key_value_heads=2, pad_token_id=1)
    cases.save_transformers(folder('olmo2'), t.Olmo2Model(config), LENS, 19)
    config = t.Phi3Config(**sizes, num_key_value_heads=2, sliding_window=6, pad_token_id=1,
                          original_max_position_embeddings=32,
                          rope_parameters={'rope_type': 'longrope', 'rope_theta': 500.0, 'partial_rotary_factor': 0.75,
                                           'short_factor': [1.0, 1.25, 2.0], 'long_factor': [1.0, 4.0, 8.0]})
    cases.save_transformers(folder('phi3'), t.Phi3Model(config), LENS, 20)
    config = t.Gemma3TextConfig(**sizes, num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=10, sliding_window=6,
                                layer_types=['sliding_attention', 'full_attention'], use_bidirectional_attention=True,
                                rope_parameters={'full_attention': {'rope_type': 'linear', 'rope_theta': 500.0,
                                                                    'factor': 8.0},
                                                 'sliding_attention': {'rope_type': 'default', 'rope_theta': 50.0}})
    cases.save_transformers(folder('gemma3-text'), t.Gemma3TextModel(config), LENS, 21)
    config = t.GPTNeoXConfig(**sizes, rope_parameters={'rope_type': 'default', 'rope_theta': 500.0,
                                                       'partial_rotary_factor': 0.25})
    cases.save_transformers(folder('gpt-neox'), t.GPTNeoXModel(config), LENS, 22)


def make_encoders():
    t = transformers
    sizes = {**BERT_SIZES, 'hidden_size': 32, 'intermediate_size': 40}
    cases.save_transformers(folder('mpnet'), t.MPNetForMaskedLM(t.MPNetConfig(**{**sizes, 'max_position_embeddings': 26})),
                            LENS, 21)
    cases.save_transformers(folder('electra'), t.ElectraForPreTraining(t.ElectraConfig(**sizes, embedding_size=12)), LENS, 22)
    config = t.AlbertConfig(**{**sizes, 'num_hidden_layers': 5}, num_hidden_groups=2, inner_group_num=1, embedding_size=12)
    cases.save_transformers(folder('albert'), t.AlbertForMaskedLM(config), LENS, 23)
    config = t.ModernBertConfig(**{**sizes, 'num_hidden_layers': 4, 'hidden_size': 24, 'intermediate_size': 24}, local_attention=6,
                                pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    cases.save_transformers(folder('modernbert'), t.ModernBertForMaskedLM(config), LENS, 24)
    cases.save_transformers(folder('nomic_bert'), t.NomicBertModel(t.NomicBertConfig(**sizes)), LENS, 25)
    cases.save_transformers(folder('gte'), t.GteModel(t.GteConfig(**sizes)), LENS, 26)
    config = t.DebertaV2Config(**sizes, relative_attention=True, position_buckets=8, max_relative_positions=32,
                               share_att_key=True, position_biased_input=False, pos_att_type='p2c|c2p',
                               norm_rel_ebd='layer_norm')
    cases.save_transformers(folder('deberta-v2'), t.DebertaV2Model(config), LENS, 27)
    config = t.DebertaConfig(**{**sizes, 'hidden_size': 24}, relative_attention=True, position_biased_input=False,
                             pos_att_type='c2p|p2c')
    cases.save_transformers(folder('deberta'), t.DebertaModel(config), LENS, 28)
    # Of a width that is small and that int8 is not too coarse for.
    for seed, name, family in ((257, 'jina-bert', remote_encoders.jina), (193, 'new', remote_encoders.new),
                               (193, 'nomic-old', remote_encoders.nomic)):
        remote_encoders.save(random.Random(seed), folder(name), LENS, family, torch.float32)


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    os.makedirs(ROOT)
    torch.set_num_threads(1)
    make_torch()
    make_transformers()
    make_encoders()


if __name__ == '__main__':
    main()
