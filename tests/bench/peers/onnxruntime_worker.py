# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: f32, int8 with ranges found at run time (dynamic) or by calibration (static). The graph is what its own
optimizer for BERT makes: EmbedLayerNormalization, Attention, SkipLayerNormalization, BiasGelu. Its CPU provider computes
nothing in bf16."""
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

import batches
import worker


class Graph:
    """Nodes and initializers as they are made."""

    def __init__(self):
        self.nodes, self.constants, self.types = [], [], []

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, inputs, output, **attributes):
        domain = {} if op in ('MatMul', 'Add', 'Mul', 'Div', 'Cast', 'ReduceSum', 'ReduceMean', 'Unsqueeze') else {
            'domain': 'com.microsoft'}
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **domain, **attributes))
        if outputs[0] != 'output':  # quantizing wants types that ONNX cannot infer through operators that are not its own
            self.types.append(helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, None))
        return outputs[0]

    def attention(self, x, lens, tensors, prefix, heads, fused):
        """`lens` names [batch] i32, or is ''. Q, K and V are one product with `fused`. Without the output's bias: its product, and
        the bias' name."""
        if fused:
            packed = np.concatenate([tensors[prefix + name] for name in ('wq', 'wk', 'wv')], axis=1)
            inputs = [x, self.constant(prefix + 'wqkv', packed)]
        else:
            inputs = [self.add('MatMul', [x, self.constant(prefix + 'w' + kind, tensors[prefix + 'w' + kind])], prefix + kind)
                      for kind in 'qkv']
        bias = np.concatenate([tensors[prefix + name] for name in ('bq', 'bk', 'bv')])
        mixed = self.add('Attention' if fused else 'MultiHeadAttention', inputs + [self.constant(prefix + 'bqkv', bias), lens],
                         prefix + 'mixed', num_heads=heads)
        projected = self.add('MatMul', [mixed, self.constant(prefix + 'wo', tensors[prefix + 'wo'])], prefix + 'projected')
        return projected, self.constant(prefix + 'bo', tensors[prefix + 'bo'])

    def model(self, inputs, output_shape):
        graph = helper.make_graph(self.nodes, 'graph', inputs,
                                  [helper.make_tensor_value_info('output', TensorProto.FLOAT, output_shape)], self.constants,
                                  value_info=self.types)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17), helper.make_opsetid('com.microsoft', 1)],
                                 ir_version=10)


def layer_model(config, tensors, fused):
    graph, width = Graph(), config['embed_dim']
    graph.add('Add', graph.attention('rows', '', tensors, 'layers.0.attention.', config['num_heads'], fused), 'output')
    shape = ['batch', 'seq_len', width]
    return graph.model([helper.make_tensor_value_info('rows', TensorProto.FLOAT, shape)], shape)


def encoder_model(config, tensors, fused, masked):
    graph, eps = Graph(), config['norm_eps']

    def constants(*names):
        return [graph.constant(name, tensors[name]) for name in names]

    mask = ['mask'] if masked else ['']
    tables = constants('embedding.tokens', 'embedding.positions')
    graph.add('EmbedLayerNormalization',
              ['ids', '', *tables, '', *constants('embedding.norm.gain', 'embedding.norm.bias')] + mask, ['embedded', 'lens'],
              epsilon=eps)
    x = 'embedded'
    for layer in range(config['num_layers']):
        at = f'layers.{layer}.'
        mixed, bias = graph.attention(x, 'lens' if masked else '', tensors, at + 'attention.', config['num_heads'], fused)
        x = graph.add('SkipLayerNormalization',
                      [mixed, x, *constants(at + 'attention_norm.gain', at + 'attention_norm.bias'), bias], at + 'normal', epsilon=eps)
        up = graph.add('MatMul', [x, *constants(at + 'feed_forward.up')], at + 'up_out')
        hidden = graph.add('BiasGelu', [up, *constants(at + 'feed_forward.up_bias')], at + 'hidden')
        down = graph.add('MatMul', [hidden, *constants(at + 'feed_forward.down')], at + 'down_out')
        x = graph.add('SkipLayerNormalization', [down, x, *constants(
            at + 'feed_forward_norm.gain', at + 'feed_forward_norm.bias', at + 'feed_forward.down_bias')], at + 'out', epsilon=eps)
    inputs = [helper.make_tensor_value_info('ids', TensorProto.INT32, ['batch', 'seq_len'])]
    if not masked:
        graph.add('ReduceMean', [x], 'output', axes=[1], keepdims=0)
    else:
        inputs.append(helper.make_tensor_value_info('mask', TensorProto.INT32, ['batch', 'seq_len']))
        one, two = graph.constant('one', np.array([1], np.int64)), graph.constant('two', np.array([2], np.int64))
        seen = graph.add('Unsqueeze', [graph.add('Cast', ['mask'], 'seen', to=TensorProto.FLOAT), two], 'seen_rows')
        total = graph.add('ReduceSum', [graph.add('Mul', [x, seen], 'seen_out'), one], 'total', keepdims=0)
        graph.add('Div', [total, graph.add('ReduceSum', [seen, one], 'count', keepdims=0)], 'output')
    return graph.model(inputs, ['batch', config['embed_dim']])


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, name, items, masked):
        self.feeds = iter([{name: one, **({'mask': np.ones(one.shape, np.int32)} if masked else {})} for one in items])

    def get_next(self):
        return next(self.feeds, None)


class OnnxRuntime:
    name = 'ONNX Runtime'
    version = ort.__version__
    precisions = ['f32', 'int8 dynamic', 'int8 static']

    def __init__(self, threads):
        self.threads, self.sessions = threads, {}

    def model(self, case, masked, precision):
        """Path of a model of any batch and length; it stays in the folder of the parameters."""
        folder = case['folder']

        def path(kind):
            return os.path.join(folder, f'onnxruntime-{self.version}-{"masked-" if masked else ""}{kind.replace(" ", "-")}.onnx')

        if os.path.exists(path(precision)):
            return path(precision)
        config, tensors = batches.read_folder(folder)
        plain = path('parts' if precision == 'int8 static' else 'f32')
        if not os.path.exists(plain):
            fused = precision != 'int8 static'  # its quantizer passes Attention over
            onnx.save(layer_model(config, tensors, fused) if case['kind'] == 'layer' else
                      encoder_model(config, tensors, fused, masked), plain)
        if precision == 'int8 dynamic':
            quantization.quantize_dynamic(plain, path(precision), per_channel=True, weight_type=quantization.QuantType.QInt8,
                                          op_types_to_quantize=['Attention', 'MatMul'])
        elif precision == 'int8 static':
            items = batches.calibration(case, config)
            quantization.quantize_static(plain, path(precision),
                                         Calibration('rows' if case['kind'] == 'layer' else 'ids', items, masked),
                                         quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                                         activation_type=quantization.QuantType.QUInt8,
                                         weight_type=quantization.QuantType.QInt8, op_types_to_quantize=['MatMul'],
                                         extra_options={'OpTypesToExcludeOutputQuantization': ['MatMul']})
        return path(precision)

    def session(self, case, masked, precision):
        key = (case['folder'], masked, precision)
        if key not in self.sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            self.sessions[key] = ort.InferenceSession(self.model(case, masked, precision), options,
                                                      providers=['CPUExecutionProvider'])
        return self.sessions[key]

    def build(self, case, precision):
        config, _ = batches.read_folder(case['folder'])
        made = {}
        for form, parts in batches.forms(case, config['embed_dim']).items():
            masked = form != 'dense'
            session = self.session(case, masked, precision)
            name = session.get_inputs()[0].name
            feeds = [{name: part.data, **({'mask': part.mask.astype(np.int32)} if masked else {})} for part in parts]
            made[form] = self.in_turn(session, parts, feeds)
        return made

    @staticmethod
    def in_turn(session, parts, feeds):
        outputs = []

        def run():
            outputs[:] = [session.run(None, feed)[0] for feed in feeds]

        return run, lambda: batches.packed_answer(parts, outputs)


if __name__ == '__main__':
    worker.serve(OnnxRuntime)
