# SPDX-License-Identifier: Apache-2.0
"""What random models have in common, whatever their family."""


def widths(rng, even=False):
    """embed_dim, num_heads. Never a width of 2 or 3: LayerNorm of two numbers is a step function of their difference, which
    magnifies the rounding of any implementation, and that of three is not much better."""
    while True:
        heads = rng.choice([1, 1, 2, 3, 4, 5])
        head_dim = rng.choice([2, 4, 6, 10, 16, 34] if even else [1, 3, 5, 8, 13, 16, 37])
        if heads * head_dim not in (2, 3):
            return heads * head_dim, heads


def lens(rng):
    return [rng.randint(1, 22) for _ in range(rng.randint(1, 4))]


def activation(rng, served=('gelu', 'gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'relu', 'silu', 'swish')):
    return rng.choice(served)


def bert_like(rng, config_class, even=False, **options):
    width, heads = widths(rng, even)
    return config_class(vocab_size=rng.randint(5, 90), hidden_size=width, num_attention_heads=heads,
                        num_hidden_layers=rng.randint(1, 4), intermediate_size=rng.randint(1, 99),
                        hidden_act=activation(rng), layer_norm_eps=rng.choice([1e-12, 1e-5, 1e-2]),
                        attn_implementation='eager', **options)


def labels(rng):
    """How many numbers a classifier gives."""
    return {'num_labels': rng.choice([1, 2, 2, 3, 7])}
