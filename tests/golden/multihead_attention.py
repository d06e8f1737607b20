#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what torch.nn.MultiheadAttention gives for the layers of tests/core/attention/reference_test.cc.

The numbers were taken from PyTorch 1.12.1 in double precision; run it again after changing a case. Inputs and
weights are exact binary fractions made by the same formula on both sides, so no data file is needed.
"""
import torch


def numbers(seed, *shape):
    """((seed + 37 * i) mod 23 - 11) / 16 for i = 0, 1, ... in the given shape."""
    count = torch.Size(shape).numel()
    return torch.tensor([((seed + 37 * i) % 23 - 11) / 16 for i in range(count)], dtype=torch.float64).reshape(shape)


def attention(embed_dim, num_heads, kdim, vdim, add_bias_kv, add_zero_attn):
    layer = torch.nn.MultiheadAttention(embed_dim, num_heads, kdim=kdim, vdim=vdim, add_bias_kv=add_bias_kv,
                                        add_zero_attn=add_zero_attn, batch_first=True).double().eval()
    # numbers() fills the [in, out] layout of core/attention/parameters.h; torch keeps [out, in].
    w_q, w_k, w_v = numbers(1, embed_dim, embed_dim).T, numbers(2, kdim, embed_dim).T, numbers(3, vdim, embed_dim).T
    with torch.no_grad():
        if layer.in_proj_weight is None:
            layer.q_proj_weight.copy_(w_q)
            layer.k_proj_weight.copy_(w_k)
            layer.v_proj_weight.copy_(w_v)
        else:
            layer.in_proj_weight.copy_(torch.cat([w_q, w_k, w_v]))
        layer.in_proj_bias.copy_(torch.cat([numbers(5, embed_dim), numbers(6, embed_dim), numbers(7, embed_dim)]))
        layer.out_proj.weight.copy_(numbers(4, embed_dim, embed_dim).T)
        layer.out_proj.bias.copy_(numbers(8, embed_dim))
        if add_bias_kv:
            layer.bias_k.copy_(numbers(9, 1, 1, embed_dim))
            layer.bias_v.copy_(numbers(10, 1, 1, embed_dim))
    return layer


def show(name, output, weights):
    print(f'// {name}')
    for label, tensor in (('output', output), ('weights', weights)):
        print(f'{label} {list(tensor.shape)}')
        print(', '.join(f'{x:.15g}' for x in tensor.flatten().tolist()))


@torch.no_grad()
def main():
    # Appended keys: bias_k/bias_v, then a zero; widths of their own; an additive mask.
    layer = attention(4, 2, kdim=6, vdim=3, add_bias_kv=True, add_zero_attn=True)
    output, weights = layer(numbers(11, 1, 2, 4), numbers(12, 1, 3, 6), numbers(13, 1, 3, 3),
                            attn_mask=numbers(14, 2, 3), average_attn_weights=False)
    show('AppendedKeys', output[0], weights[0])

    # Self attention, causal, the last key padded out.
    layer = attention(4, 2, kdim=4, vdim=4, add_bias_kv=False, add_zero_attn=False)
    x = numbers(15, 1, 3, 4)
    causal = torch.ones(3, 3).triu(1).bool()
    output, weights = layer(x, x, x, attn_mask=causal, key_padding_mask=torch.tensor([[False, False, True]]),
                            average_attn_weights=True)
    show('CausalAndPadded (mean weights)', output[0], weights[0])


if __name__ == '__main__':
    main()
