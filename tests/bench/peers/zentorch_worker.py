# SPDX-License-Identifier: Apache-2.0
"""zentorch, AMD's plugin of PyTorch, as its guide says: torch.compile with frozen parameters, the matrix product that it names for
language models; f32, and the model in bf16."""
import os

os.environ.setdefault('TORCHINDUCTOR_FREEZING', '1')
os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', '1')  # no processes beside this one
os.environ.setdefault('ZENDNNL_MATMUL_ALGO', '1')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

import torch
import zentorch
from torch import nn

import batches
import worker

# Each case is compiled for its own shape; PyTorch stops compiling a function after eight.
torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000  # pylint: disable=protected-access

DTYPES = {'f32': torch.float32, 'bf16': torch.bfloat16}


def linear(weight, bias):
    made = nn.Linear(*weight.shape)
    made.weight.data, made.bias.data = torch.tensor(weight.T.copy()), torch.tensor(bias)
    return made


def layer_norm(tensors, prefix, eps):
    made = nn.LayerNorm(len(tensors[prefix + 'gain']), eps)
    made.weight.data, made.bias.data = torch.tensor(tensors[prefix + 'gain']), torch.tensor(tensors[prefix + 'bias'])
    return made


class Attention(nn.Module):
    def __init__(self, tensors, prefix, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (linear(tensors[prefix + 'w' + kind], tensors[prefix + 'b' + kind]) for kind in 'qkvo')

    def forward(self, x, mask=None):
        batch, seq_len, width = x.shape
        q, k, v = (part(x).view(batch, seq_len, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o(mixed.transpose(1, 2).reshape(batch, seq_len, width))


class Layer(nn.Module):
    def __init__(self, config, tensors, prefix):
        super().__init__()
        self.attention = Attention(tensors, prefix + 'attention.', config['num_heads'])
        self.attention_norm = layer_norm(tensors, prefix + 'attention_norm.', config['norm_eps'])
        self.up = linear(tensors[prefix + 'feed_forward.up'], tensors[prefix + 'feed_forward.up_bias'])
        self.down = linear(tensors[prefix + 'feed_forward.down'], tensors[prefix + 'feed_forward.down_bias'])
        self.norm = layer_norm(tensors, prefix + 'feed_forward_norm.', config['norm_eps'])

    def forward(self, x, mask=None):
        x = self.attention_norm(self.attention(x, mask) + x)
        return self.norm(self.down(nn.functional.gelu(self.up(x))) + x)


class Encoder(nn.Module):
    """From ids to the mean of the hidden states of each sequence's tokens."""

    def __init__(self, config, tensors):
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(torch.tensor(tensors['embedding.tokens']))
        self.positions = nn.Embedding.from_pretrained(torch.tensor(tensors['embedding.positions']))
        self.norm = layer_norm(tensors, 'embedding.norm.', config['norm_eps'])
        self.layers = nn.ModuleList(Layer(config, tensors, f'layers.{i}.') for i in range(config['num_layers']))

    def forward(self, ids, mask=None):
        x = self.norm(self.tokens(ids) + self.positions.weight[:ids.shape[1]])
        terms = None
        if mask is not None:
            terms = ((mask[:, None, None, :] - 1) * 1e9).to(x.dtype)
        for layer in self.layers:
            x = layer(x, terms)
        if mask is None:
            return x.float().mean(1)
        return (x.float() * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


class Zentorch:
    name = 'zentorch'
    version = f'{zentorch.__version__}, PyTorch {torch.__version__}'
    precisions = ['f32', 'bf16']

    def __init__(self, threads):
        torch.set_num_threads(threads)
        self.compiled = {}

    def build(self, case, precision):
        config, tensors = batches.read_folder(case['folder'])
        made = {}
        for form, parts in batches.forms(case, config['embed_dim']).items():
            dense = form == 'dense'
            key = (case['folder'], precision, parts[0].data.shape if dense else None)
            if key not in self.compiled:
                if case['kind'] == 'encoder':
                    model = Encoder(config, tensors)
                else:
                    model = Attention(tensors, 'layers.0.attention.', config['num_heads'])
                self.compiled[key] = torch.compile(model.eval().to(DTYPES[precision]), backend='zentorch',
                                                   dynamic=not dense)
            inputs = []
            for part in parts:
                data = torch.tensor(part.data)
                data = data.to(torch.int64) if case['kind'] == 'encoder' else data.to(DTYPES[precision])
                inputs.append((data,) if dense else (data, torch.tensor(part.mask, dtype=torch.float32)))
            made[form] = self.in_turn(self.compiled[key], parts, inputs)
        return made

    @staticmethod
    def in_turn(model, parts, inputs):
        outputs = []

        def run():
            with torch.no_grad():
                outputs[:] = [model(*each) for each in inputs]

        for _ in range(4):
            run()
        return run, lambda: batches.packed_answer(parts, [output.float().numpy() for output in outputs])


if __name__ == '__main__':
    worker.serve(Zentorch)
