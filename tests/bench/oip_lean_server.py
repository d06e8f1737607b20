#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The least that a Python server of the Open Inference Protocol can be, over OpenVINO: what compare-oip.sh holds ours against.

It answers ModelInfer for one layer of multi-head attention, out of a folder that `headlight-server init-model` made, and checks
nothing. A graph is compiled for each shape, as OpenVINO is fastest; tensors are handed over without a copy where it allows."""
import argparse
import ctypes
from concurrent import futures

import grpc
import numpy as np
import openvino as ov
from openvino import opset13 as ops
from tritonclient.grpc import service_pb2

from oip_folder import read_layer

TYPES = {'FP32': (np.float32, ov.Type.f32), 'BF16': (np.uint16, ov.Type.bf16)}


def layer_graph(layer, shape, element):
    """softmax(Q K^T / sqrt(head_dim)) V between its projections; Q, K and V are one product."""
    batch, seq_len, width = shape
    heads = layer['num_heads']
    packed = np.concatenate([layer[name] for name in ('wq', 'wk', 'wv')], axis=1)
    bias = np.concatenate([layer[name] for name in ('bq', 'bk', 'bv')])
    query = ops.parameter([batch, seq_len, width], element, 'query')
    rows = query if element == ov.Type.f32 else ops.convert(query, 'f32')
    projected = ops.add(ops.matmul(rows, ops.constant(packed), False, False), ops.constant(bias))
    split = ops.split(ops.reshape(projected, [batch, seq_len, 3, heads, width // heads], False), 2, 3)
    parts = [ops.transpose(ops.squeeze(split.output(i), [2]), [0, 2, 1, 3]) for i in range(3)]
    mixed = ops.transpose(ops.scaled_dot_product_attention(*parts), [0, 2, 1, 3])
    flat = ops.reshape(mixed, [batch, seq_len, width], False)
    output = ops.add(ops.matmul(flat, ops.constant(layer['wo']), False, False), ops.constant(layer['bo']))
    if element != ov.Type.f32:
        output = ops.convert(output, 'bf16')
    return ov.Model([output], [query], 'layer')


def in_place(data, dtype, shape):
    """The bytes as an array that OpenVINO takes without a copy: it wants one that could be written."""
    first = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(first, (len(data),)).view(dtype).reshape(shape)


class Lean:
    def __init__(self, layer, precision, threads):
        self.layer, self.core, self.compiled = layer, ov.Core(), {}
        self.config = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': precision,
                       'INFERENCE_NUM_THREADS': threads}

    def infer(self, request, _):
        asked = request.inputs[0]
        dtype, element = TYPES[asked.datatype]
        shape = tuple(asked.shape)
        key = (shape, asked.datatype)
        if key not in self.compiled:
            graph = layer_graph(self.layer, shape, element)
            self.compiled[key] = self.core.compile_model(graph, 'CPU', self.config).create_infer_request()
        run = self.compiled[key]
        data = request.raw_input_contents[0]  # lives until the end of this function
        run.set_input_tensor(0, ov.Tensor(in_place(data, dtype, shape), shape, element))
        run.infer()
        reply = service_pb2.ModelInferResponse(model_name=request.model_name, model_version='1', id=request.id)
        reply.outputs.add(name='output', datatype=asked.datatype, shape=shape)
        reply.raw_output_contents.append(run.get_output_tensor(0).data.tobytes())
        return reply


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--folder', required=True)
    parser.add_argument('--precision', required=True, choices=['f32', 'bf16'])
    parser.add_argument('--threads', type=int, required=True)
    options = parser.parse_args()
    lean = Lean(read_layer(options.folder), options.precision, options.threads)
    unlimited = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=unlimited)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler('inference.GRPCInferenceService', {
        'ModelInfer': grpc.unary_unary_rpc_method_handler(lean.infer, service_pb2.ModelInferRequest.FromString,
                                                          service_pb2.ModelInferResponse.SerializeToString)})])
    port = server.add_insecure_port('127.0.0.1:0')
    server.start()
    print(f'listening on 127.0.0.1:{port}', flush=True)
    server.wait_for_termination()


if __name__ == '__main__':
    main()
