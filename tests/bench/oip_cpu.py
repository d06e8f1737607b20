#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time of servers for a request of the same bytes: headlight-server over both of its protocols and through shared memory,
and the lean Python server over OpenVINO. Called by compare-oip.sh; prints JSON.

Servers are asked in turns, one request at a time, so that they share the machine's better and worse minutes. A figure is the
median over the rounds, a ratio the median of the rounds' ratios."""
import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import grpc
import ml_dtypes
import numpy as np
from tritonclient.grpc import service_pb2

SHAPES = {'8x128x768': (8, 128, 768), '1x16x768': (1, 16, 768)}
SHARED_SHAPE = {'8x512x768': (8, 512, 768)}
DTYPES = {'FP32': np.float32, 'BF16': ml_dtypes.bfloat16}
# The weights of the built-in model demo.
DEMO = ['--embed-dim', '768', '--num-heads', '12', '--norm-placement', 'none', '--seed', '20170612']
UNLIMITED = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]


class Server:
    def __init__(self, stack, command, log):
        self.log = stack.enter_context(open(log, 'w+', encoding='utf-8'))
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        stack.callback(self.stop)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            with open(log, encoding='utf-8') as text:
                found = re.search(r'listening on (127\.0\.0\.1:\d+)', text.read())
            if found:
                self.channel = grpc.insecure_channel(found[1], options=UNLIMITED)
                return
            time.sleep(0.05)
        with open(log, encoding='utf-8') as text:
            sys.exit(f'compare-oip: {command[0]} does not listen: {text.read()}')

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def cpu_s(self):
        """User and system time of all its threads, in nanosecond steps where the kernel tells them so."""
        total = 0
        for task in os.listdir(f'/proc/{self.process.pid}/task'):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f'/proc/{self.process.pid}/task/{task}/schedstat', encoding='utf-8') as file:
                    total += int(file.read().split()[0])
        return total / 1e9


class Way:
    """A server, a method and the bytes of a request."""

    def __init__(self, server, method, request):
        self.server, self.request = server, request
        self.call = server.channel.unary_unary(method)

    def ask(self):
        return self.call(self.request, timeout=60)

    def us_per_request(self, requests):
        before = self.server.cpu_s()
        for _ in range(requests):
            self.ask()
        return (self.server.cpu_s() - before) / requests * 1e6


def oip_request(query, datatype, **shared):
    request = service_pb2.ModelInferRequest(model_name='demo')
    if datatype != 'FP32':
        request.parameters['output_dtype'].string_param = datatype
    asked = request.inputs.add(name='query', datatype=datatype, shape=query.shape)
    if not shared:
        request.raw_input_contents.append(query.tobytes())
        return request.SerializeToString()
    for part, region in ((asked, shared['into']), (request.outputs.add(name='output'), shared['out'])):
        part.parameters['shared_memory_region'].string_param = region
        part.parameters['shared_memory_byte_size'].int64_param = query.nbytes
    return request.SerializeToString()


def own_request(pb, query, datatype):
    dtype = {'FP32': pb.DTYPE_F32, 'BF16': pb.DTYPE_BF16}[datatype]
    return pb.AttendRequest(model='demo', query=pb.TensorSpec(dtype=dtype, shape=query.shape), output_dtype=dtype,
                            payloads=[query.tobytes()]).SerializeToString()


def output_of(reply, datatype):
    return np.frombuffer(service_pb2.ModelInferResponse.FromString(reply).raw_output_contents[0],
                         DTYPES[datatype]).astype(np.float64)


def compare(ways, rounds, requests):
    """Medians, and of the ratios to the first way."""
    figures = {name: [] for name in ways}
    for way in ways.values():
        for _ in range(5):
            way.ask()
    for _ in range(rounds):
        for name, way in ways.items():
            figures[name].append(way.us_per_request(requests))
    first = figures[next(iter(ways))]
    return {name: {'server_cpu_us': round(statistics.median(of), 1),
                   'to_ours': round(statistics.median(b / a for a, b in zip(first, of)), 3)}
            for name, of in figures.items()}


def register(server, name, size, stack):
    """A region of shared memory that the server knows by `name`; returns its path."""
    key = f'headlight_oip_cpu_{os.getpid()}_{name}'
    path = f'/dev/shm/{key}'
    with open(path, 'wb') as file:
        file.truncate(size)
    stack.callback(os.unlink, path)
    server.channel.unary_unary('/inference.GRPCInferenceService/SystemSharedMemoryRegister')(
        service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=key, byte_size=size).SerializeToString(), timeout=10)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--bin', required=True)
    parser.add_argument('--stubs', required=True, help='folder with headlight/v1/attention_pb2.py')
    parser.add_argument('--rounds', type=int, required=True)
    parser.add_argument('--requests', type=int, required=True, help='of the large shape in a round; of the small one ten times')
    options = parser.parse_args()
    sys.path.insert(0, options.stubs)
    from headlight.v1 import attention_pb2 as pb
    here = os.path.dirname(os.path.abspath(__file__))
    threads = str(len(os.sched_getaffinity(0)))
    random = np.random.default_rng(1)
    report = {'requests_in_a_round': options.requests, 'rounds': options.rounds, 'threads': int(threads)}
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory())
        subprocess.run([f'{options.bin}/headlight-server', 'init-model', '--out', root + '/demo', *DEMO], check=True,
                       stdout=subprocess.DEVNULL)
        for precision, datatypes in (('f32', ['FP32']), ('bf16', ['FP32', 'BF16'])):
            with contextlib.ExitStack() as servers:
                ours = Server(servers, [f'{options.bin}/headlight-server', '--listen', '127.0.0.1:0', '--admin-listen', '',
                                        '--threads', threads, '--models', 'demo', '--precision', precision,
                                        '--allow-shared-memory'], f'{root}/ours-{precision}.log')
                lean = Server(servers, [sys.executable, here + '/oip_lean_server.py', '--folder', root + '/demo',
                                        '--precision', precision, '--threads', threads], f'{root}/lean-{precision}.log')
                for datatype in datatypes:
                    for name, shape in SHAPES.items():
                        query = random.standard_normal(shape).astype(DTYPES[datatype])
                        request = oip_request(query, datatype)
                        ways = {'ours': Way(ours, '/inference.GRPCInferenceService/ModelInfer', request),
                                'ours, headlight.v1': Way(ours, '/headlight.v1.AttentionService/Attend',
                                                          own_request(pb, query, datatype)),
                                'OpenVINO': Way(lean, '/inference.GRPCInferenceService/ModelInfer', request)}
                        difference = np.abs(output_of(ways['ours'].ask(), datatype) -
                                            output_of(ways['OpenVINO'].ask(), datatype)).max()
                        if not difference <= (1e-4 if precision == 'f32' else 0.1):
                            sys.exit(f'compare-oip: {name} {datatype}: answers differ by {difference}')
                        requests = options.requests * (10 if shape[0] == 1 else 1)
                        key = f'{name}, {precision}' + (', BF16 tensors' if datatype == 'BF16' else '')
                        report[key] = compare(ways, options.rounds, requests)
                        report[key]['largest_difference'] = float(difference)
                        print(f'compare-oip: {key}: {report[key]}', file=sys.stderr, flush=True)
                for name, shape in SHARED_SHAPE.items():
                    query = random.standard_normal(shape).astype(np.float32)
                    with open(register(ours, 'in', query.nbytes, servers), 'r+b') as file:
                        file.write(query.tobytes())
                    out = register(ours, 'out', query.nbytes, servers)
                    method = '/inference.GRPCInferenceService/ModelInfer'
                    ways = {'sent': Way(ours, method, oip_request(query, 'FP32')),
                            'shared memory': Way(ours, method, oip_request(query, 'FP32', into='in', out='out'))}
                    sent = output_of(ways['sent'].ask(), 'FP32')
                    ways['shared memory'].ask()
                    if not (np.fromfile(out, np.float32).astype(np.float64) == sent).all():
                        sys.exit('compare-oip: through shared memory the answer has other bits')
                    key = f'{name}, {precision}, sent or in shared memory'
                    report[key] = compare(ways, options.rounds, max(1, options.requests // 4))
                    print(f'compare-oip: {key}: {report[key]}', file=sys.stderr, flush=True)
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == '__main__':
    main()
