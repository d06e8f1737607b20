# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: f32, bf16, and int8 that NNCF calibrates. Graphs as its own converter makes them of PyTorch's models
(ScaledDotProductAttention, MVN), Q, K and V as one product; shapes fixed where batches are dense."""
import os

import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as ops

import batches
import worker


def linear(x, weight, bias):
    return ops.add(ops.matmul(x, ops.constant(weight), False, False), ops.constant(bias))


def layer_norm(x, gain, bias, eps):
    normal = ops.mvn(x, ops.constant(np.array([-1], np.int64)), True, eps, 'inside_sqrt')
    return ops.add(ops.multiply(normal, ops.constant(gain)), ops.constant(bias))


def attention(x, mask, tensors, prefix, heads):
    """`mask` [batch, 1, 1, seq_len] is added to the scores, or None."""
    packed = np.concatenate([tensors[prefix + name] for name in ('wq', 'wk', 'wv')], axis=1)
    bias = np.concatenate([tensors[prefix + name] for name in ('bq', 'bk', 'bv')])
    width = packed.shape[0]
    split = ops.split(ops.reshape(linear(x, packed, bias), [0, 0, 3, heads, width // heads], True), 2, 3)
    parts = [ops.transpose(ops.squeeze(split.output(i), [2]), [0, 2, 1, 3]) for i in range(3)]
    mixed = ops.scaled_dot_product_attention(*parts, *([] if mask is None else [mask]))
    flat = ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [0, 0, width], True)
    return linear(flat, tensors[prefix + 'wo'], tensors[prefix + 'bo'])


def layer_graph(config, tensors):
    rows = ops.parameter([-1, -1, config['embed_dim']], ov.Type.f32, 'rows')
    return ov.Model([attention(rows, None, tensors, 'layers.0.attention.', config['num_heads'])], [rows], 'layer')


def encoder_graph(config, tensors, masked):
    """From ids to the mean of the hidden states of each sequence's tokens."""
    eps = config['norm_eps']
    ids = ops.parameter([-1, -1], ov.Type.i32, 'ids')
    mask = ops.parameter([-1, -1], ov.Type.i64, 'mask') if masked else None
    axis = ops.constant(np.int64(0))
    seq_len = ops.gather(ops.shape_of(ids), ops.constant(np.array([1], np.int64)), axis)
    positions = ops.slice(ops.constant(tensors['embedding.positions']), np.array([0], np.int64), seq_len,
                          np.array([1], np.int64), np.array([0], np.int64))
    x = ops.add(ops.gather(ops.constant(tensors['embedding.tokens']), ids, axis), positions)
    x = layer_norm(x, tensors['embedding.norm.gain'], tensors['embedding.norm.bias'], eps)
    seen, terms = None, None
    if masked:
        seen = ops.convert(mask, 'f32')
        terms = ops.unsqueeze(ops.multiply(ops.subtract(seen, np.float32(1)), np.float32(1e9)), [1, 2])
    for layer in range(config['num_layers']):
        at = f'layers.{layer}.'
        mixed = ops.add(attention(x, terms, tensors, at + 'attention.', config['num_heads']), x)
        x = layer_norm(mixed, tensors[at + 'attention_norm.gain'], tensors[at + 'attention_norm.bias'], eps)
        hidden = ops.gelu(linear(x, tensors[at + 'feed_forward.up'], tensors[at + 'feed_forward.up_bias']), 'erf')
        down = linear(hidden, tensors[at + 'feed_forward.down'], tensors[at + 'feed_forward.down_bias'])
        x = layer_norm(ops.add(down, x), tensors[at + 'feed_forward_norm.gain'], tensors[at + 'feed_forward_norm.bias'], eps)
    if not masked:
        return ov.Model([ops.reduce_mean(x, np.array([1], np.int64))], [ids], 'encoder')
    total = ops.reduce_sum(ops.multiply(x, ops.unsqueeze(seen, [2])), np.array([1], np.int64))
    return ov.Model([ops.divide(total, ops.reduce_sum(seen, np.array([1], np.int64), True))], [ids, mask], 'masked_encoder')


class OpenVino:
    name = 'OpenVINO'
    precisions = ['f32', 'bf16', 'int8']

    def __init__(self, threads):
        self.threads, self.core, self.graphs, self.compiled = threads, ov.Core(), {}, {}
        self.version = f'{ov.__version__.split("-")[0]}, NNCF {nncf.__version__}'

    def graph(self, case, masked, int8):
        """Of any batch and length; what NNCF made stays in the folder of the model."""
        folder = case['folder']
        key = (folder, masked, int8)
        if key in self.graphs:
            return self.graphs[key]
        path = os.path.join(folder, f'openvino-{ov.__version__.split("-")[0]}-{"masked-" if masked else ""}int8.xml')
        if int8 and os.path.exists(path):
            graph = self.core.read_model(path)
        else:
            config, tensors = batches.read_folder(folder)
            graph = layer_graph(config, tensors) if case['kind'] == 'layer' else encoder_graph(config, tensors, masked)
            if int8:
                items = [[one] + ([np.ones(one.shape, np.int64)] if masked else [])
                         for one in batches.calibration(case, config)]
                graph = nncf.quantize(graph, nncf.Dataset(items), model_type=nncf.ModelType.TRANSFORMER,
                                      subset_size=len(items))
                ov.save_model(graph, path, compress_to_fp16=False)
        self.graphs[key] = graph
        return graph

    def compile(self, case, precision, shape, streams):
        """`shape` None: of any batch and length, with a mask."""
        key = (case['folder'], precision, shape, streams)
        if key not in self.compiled:
            graph = self.graph(case, shape is None, precision == 'int8')
            if shape is not None:
                graph = graph.clone()
                graph.reshape(list(shape))
            hint = {'f32': 'f32'}.get(precision, 'bf16' if 'BF16' in self.core.get_property(
                'CPU', 'OPTIMIZATION_CAPABILITIES') else 'f32')
            self.compiled[key] = self.core.compile_model(graph, 'CPU', {
                'NUM_STREAMS': streams, 'INFERENCE_NUM_THREADS': self.threads, 'INFERENCE_PRECISION_HINT': hint})
        return self.compiled[key]

    def build(self, case, precision):
        config, _ = batches.read_folder(case['folder'])
        made = {}
        for form, parts in batches.forms(case, config['embed_dim']).items():
            dense = form == 'dense'
            shape = parts[0].data.shape if dense else None
            tensors = [[part.data] if dense else [part.data, part.mask] for part in parts]
            made[form] = self.in_turn(self.compile(case, precision, shape, 1), parts, tensors)
            if len(parts) > 1 and self.threads > 1:
                made[form + ', a stream for each thread'] = self.in_streams(
                    self.compile(case, precision, shape, self.threads), parts, tensors)
        return made

    def in_turn(self, compiled, parts, tensors):
        requests = []
        for inputs in tensors:
            request = compiled.create_infer_request()
            for i, array in enumerate(inputs):
                request.set_input_tensor(i, ov.Tensor(array, shared_memory=True))
            requests.append(request)

        def run():
            for request in requests:
                request.infer()

        return run, lambda: batches.packed_answer(parts, [request.get_output_tensor(0).data for request in requests])

    def in_streams(self, compiled, parts, tensors):
        """All batches at once, each on one thread."""
        requests = [compiled.create_infer_request() for _ in tensors]
        for request, inputs in zip(requests, tensors):
            for i, array in enumerate(inputs):
                request.set_input_tensor(i, ov.Tensor(array, shared_memory=True))

        def run():
            for request in requests:
                request.start_async()
            for request in requests:
                request.wait()

        return run, lambda: batches.packed_answer(parts, [request.get_output_tensor(0).data for request in requests])


if __name__ == '__main__':
    worker.serve(OpenVino)
