#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""KServe's InferenceGRPCClient, unchanged, against a real server; answers are compared with float64.

Exits 77, saying why, where the package kserve cannot be had."""
import asyncio
import logging
import tempfile

import oip_common
from oip_common import expect, expect_near, fail

ARGUMENTS = oip_common.arguments(__doc__)
oip_common.enter_environment(ARGUMENTS.environments, 'oip_kserve_requirements.txt')

import grpc  # noqa: E402
import numpy as np  # noqa: E402
from kserve import InferInput, InferRequest, InferenceGRPCClient  # noqa: E402
from kserve.protocol.infer_type import RequestedOutput  # noqa: E402

KINDS = {'float32': 'FP32', 'float16': 'FP16', 'int32': 'INT32', 'int64': 'INT64', 'bool': 'BOOL'}


def tensor(name, array, raw=True):
    made = InferInput(name, list(array.shape), KINDS[array.dtype.name])
    made.set_data_from_numpy(array, binary_data=raw)
    return made


async def refused(what, code, words, call):
    try:
        await call
    except grpc.RpcError as error:
        expect(f'{what}: code of "{error.details()}"', error.code(), code)
        for word in words:
            if word not in error.details():
                fail(f'{what}: got "{error.details()}", wanted one that says {word}')
        return
    fail(f'{what}: got an answer, wanted {code}')


async def check(client, attention, width):
    expect('live', await client.is_server_live(), True)
    expect('ready', await client.is_server_ready(), True)
    expect('model ready', await client.is_model_ready('small'), True)
    random = np.random.default_rng(29)
    query = random.standard_normal((2, 5, width)).astype(np.float32)
    wanted = attention(query)

    async def infer(inputs, **options):
        return await client.infer(InferRequest('small', inputs, **options))

    raw = await infer([tensor('query', query)], request_id='eight')
    expect('id', raw.id, 'eight')
    expect_near('raw', raw.get_output_by_name('output').as_numpy(), wanted)
    typed = await infer([tensor('query', query, raw=False)])
    expect('bits of typed contents', typed.get_output_by_name('output').as_numpy().tobytes(),
           raw.get_output_by_name('output').as_numpy().tobytes())
    named = await infer([tensor('query', query)], request_outputs=[RequestedOutput('output')],
                        parameters={'causal': True})
    expect_near('causal', named.get_output_by_name('output').as_numpy(), attention(query, causal=True))
    half = query.astype(np.float16)
    rounded = await infer([tensor('query', half)])
    expect_near('FP16', rounded.get_output_by_name('output').as_numpy(), attention(half), 2.0**-12)
    lens = np.array([5, 2], dtype=np.int32)
    for as_raw in (True, False):
        short = await infer([tensor('query', query, as_raw), tensor('seq_lens', lens, as_raw)])
        expect_near('seq_lens', short.get_output_by_name('output').as_numpy(), attention(query, lens=lens))

    queries = [random.standard_normal((1, 1 + i, width)).astype(np.float32) for i in range(12)]
    replies = await asyncio.gather(*[infer([tensor('query', each)]) for each in queries])
    for each, reply in zip(queries, replies):
        expect_near('at once', reply.get_output_by_name('output').as_numpy(), attention(each))

    await refused('no model', grpc.StatusCode.NOT_FOUND, ['absent'],
                  client.infer(InferRequest('absent', [tensor('query', query)])))
    await refused('too narrow', grpc.StatusCode.INVALID_ARGUMENT, ['query'],
                  infer([tensor('query', np.ascontiguousarray(query[:, :, :-1]))]))
    large = random.standard_normal((8, 512, width)).astype(np.float32)
    await refused('timeout', grpc.StatusCode.DEADLINE_EXCEEDED, [],
                  client.infer(InferRequest('small', [tensor('query', large)]), timeout=0.001))


async def run(address, attention, width):
    async with InferenceGRPCClient(address) as client:
        await check(client, attention, width)


def main():
    logging.disable(logging.ERROR)  # the client logs what it is refused, on purpose here
    with tempfile.TemporaryDirectory() as root:
        small = oip_common.make_model(ARGUMENTS.server, root + '/small', '--embed-dim', '64', '--num-heads', '4',
                                      '--norm-placement', 'none', '--seed', '3')
        with oip_common.Server(ARGUMENTS.server, f'--model=small={small}') as server:
            asyncio.run(run(server.address, oip_common.Attention(small), 64))
    print('oip_kserve: ok')


if __name__ == '__main__':
    main()
