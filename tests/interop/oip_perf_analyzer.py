#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Triton's perf_analyzer, unchanged, measures a real server in each of its ways.

It tells what it sent and what it was answered: every answer is compared with float64, but for those to random bytes, which are
no numbers. Into shared memory it does not look; there the outputs are read from beside it, while it runs.
Exits 77, saying why, where the package perf-analyzer cannot be had."""
import contextlib
import csv
import functools
import json
import os
import subprocess
import tempfile
import time

import oip_common
from oip_common import expect, expect_near, fail

WIDTH = 64
LENGTH = 16
REQUESTS = 60

ARGUMENTS = oip_common.arguments(__doc__)
oip_common.enter_environment(ARGUMENTS.environments, 'oip_requirements.txt')

import numpy as np  # noqa: E402
import nvidia  # noqa: E402
import perf_analyzer  # noqa: E402
import tritonclient.grpc as triton  # noqa: E402

CUDART = os.path.join(list(nvidia.__path__)[0], 'cuda_runtime', 'lib', 'libcudart.so.12')
PROGRAM = os.path.join(os.path.dirname(perf_analyzer.__file__), 'bin', 'perf_analyzer')


def texts():
    """Ids of a case of tests/golden, and what a model's own library makes of them in float64."""
    golden = oip_common.read_safetensors(f'{oip_common.GOLDEN}/mpnet.case.safetensors')
    ends = np.cumsum(golden['lens'])
    return {tuple(golden['ids'][end - n:end].tolist()): golden['output'][end - n:end]
            for n, end in zip(golden['lens'], ends)}


def write_inputs(path, name, arrays):
    with open(path, 'w', encoding='utf-8') as file:
        json.dump({'data': [{name: {'content': array.ravel().tolist(), 'shape': list(array.shape)}} for array in arrays]},
                  file)


def check_queries(attention, asked, answered):
    query = np.array(asked['query'], dtype=np.float32).reshape(-1, LENGTH, WIDTH)
    expect_near('output', np.array(answered['output']).reshape(query.shape), attention(query))


def check_texts(wanted, asked, answered):
    hidden = wanted[tuple(np.atleast_1d(asked['input_ids']).tolist())]
    expect_near('output', np.array(answered['output']).reshape(hidden.shape), hidden)
    expect_near('sentence_embedding', np.array(answered['sentence_embedding']), hidden.mean(axis=0))


def run(server, libraries, model, *options):
    """(exit code, what was printed, what its outputs in shared memory were before it ended, if there were any)."""
    with tempfile.TemporaryFile('w+') as printed:
        process = subprocess.Popen([PROGRAM, '-m', model, '--service-kind', 'triton', '-i', 'grpc', '-u', server.address,
                                    '--request-count', str(REQUESTS), *options], stdout=printed, stderr=printed,
                                   env=dict(os.environ, LD_LIBRARY_PATH=libraries))
        outputs = b''
        end = time.monotonic() + 2 * oip_common.PATIENCE_S
        while process.poll() is None:
            if time.monotonic() > end:
                process.kill()
            with contextlib.suppress(FileNotFoundError), open('/dev/shm/output', 'rb') as file:
                outputs = file.read() or outputs
            time.sleep(0.01)
        printed.seek(0)
        return process.returncode, printed.read(), outputs


def measure(server, client, folder, what, check, model, *options):
    """One run, what it reports, and what the server counted meanwhile. `check`: of what was asked and answered, if it can be.
    Returns the outputs in shared memory."""
    count = lambda: client.get_inference_statistics(model).model_stats[0].inference_stats
    before = count()
    name = what.replace(' ', '-').replace(',', '')
    report, exported = f'{folder}/{name}.csv', f'{folder}/{name}.json'
    begin = time.monotonic()
    code, printed, outputs = run(server, folder, model, '-f', report, '--verbose-csv', '--profile-export-file', exported,
                                 *options)
    if code != 0:
        fail(f'{what}: ended with {code}: {printed}')
    with open(report, encoding='utf-8', newline='') as file:
        row = next(csv.DictReader(file))
    after = count()
    expect(f'{what}: refused', after.fail.count, before.fail.count)
    answered = after.success.count - before.success.count
    if answered < REQUESTS:
        fail(f'{what}: the server answered {answered}, wanted {REQUESTS} or more')
    for column in ('Inferences/Second', 'Server Queue', 'Server Compute Infer', 'p99 latency'):
        if column not in row:
            fail(f'{what}: the report has no column {column}: {list(row)}')
    if not float(row['Inferences/Second']) > 0 or not float(row['Server Compute Infer']) > 0:
        fail(f'{what}: got {row}')
    if check is not None:
        with open(exported, encoding='utf-8') as file:
            requests = json.load(file)['experiments'][0]['requests']
        if len(requests) < REQUESTS:
            fail(f'{what}: {len(requests)} requests were exported, wanted {REQUESTS} or more')
        for request in requests:
            check(request['request_inputs'], request['response_outputs'][0])
    print(f'oip_perf_analyzer: {what}: {answered} answered, {row["Inferences/Second"]} a second, '
          f'{time.monotonic() - begin:.1f} s', flush=True)
    return outputs


def main():
    with tempfile.TemporaryDirectory() as root:
        small = oip_common.make_model(ARGUMENTS.server, root + '/small', '--embed-dim', str(WIDTH), '--num-heads', '4',
                                      '--norm-placement', 'none', '--seed', '3')
        os.symlink(CUDART, root + '/libcudart.so')  # by the name that perf_analyzer opens
        attention, wanted = oip_common.Attention(small), texts()
        number, numbers, ids = root + '/number.json', root + '/numbers.json', root + '/ids.json'
        arrays = np.random.default_rng(23).standard_normal((5, LENGTH, WIDTH)).astype(np.float32)
        write_inputs(number, 'query', arrays[:1])
        write_inputs(numbers, 'query', arrays)
        write_inputs(ids, 'input_ids', [np.array(text) for text in wanted])
        of_queries, of_texts = functools.partial(check_queries, attention), functools.partial(check_texts, wanted)
        shape = ('small', '--shape', f'query:{LENGTH},{WIDTH}')
        number, numbers = ('small', '--input-data', number), ('small', '--input-data', numbers)
        ids = ('mpnet', '--input-data', ids)
        shared = ('--shared-memory', 'system', '--output-shared-memory-size', str(LENGTH * WIDTH * 4))
        with oip_common.Server(ARGUMENTS.server, '--allow-shared-memory', f'--model=small={small}',
                               f'--model=mpnet={oip_common.GOLDEN}/mpnet', '--pooling', 'mpnet=mean') as server, \
                triton.InferenceServerClient(server.address) as client:
            for what, check, *options in (
                    ('random bytes', None, *shape, '--concurrency-range', '2'),
                    ('random bytes, batches', None, *shape, '--concurrency-range', '2', '-b', '3'),
                    ('zeros', of_queries, *shape, '--concurrency-range', '1', '--input-data', 'zero'),
                    ('a file', of_queries, *numbers, '--concurrency-range', '2'),
                    ('a file, asynchronous', of_queries, *numbers, '--concurrency-range', '4', '--async'),
                    ('a file, request rate', of_queries, *numbers, '--request-rate-range', '50', '--request-distribution',
                     'poisson'),
                    ('texts', of_texts, *ids, '--concurrency-range', '3'),
                    ('texts, streaming', of_texts, *ids, '--concurrency-range', '3', '--async', '--streaming')):
                measure(server, client, root, what, check, *options)
            for what, *options in (('shared memory', '--concurrency-range', '2'),
                                   ('shared memory, streaming', '--concurrency-range', '2', '--async', '--streaming')):
                outputs = measure(server, client, root, what, None, *number, *options, *shared)
                expect_near(what, np.frombuffer(outputs, np.float32).reshape(1, LENGTH, WIDTH), attention(arrays[:1]))
            expect('regions left', len(client.get_system_shared_memory_status().regions), 0)
    print('oip_perf_analyzer: ok')


if __name__ == '__main__':
    main()
