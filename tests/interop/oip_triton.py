#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Triton's Python client, unchanged, against a real server: every way that it has to ask, every answer compared.

Exits 77, saying why, where tritonclient cannot be had."""
import asyncio
import queue
import subprocess
import tempfile
import time

import oip_common
from oip_common import expect, expect_near, fail

HALF_STEP_OF_BF16 = 2.0**-9
HALF_STEP_OF_F16 = 2.0**-12

ARGUMENTS = oip_common.arguments(__doc__)
oip_common.enter_environment(ARGUMENTS.environments, 'oip_requirements.txt')

import grpc  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import tritonclient.grpc as triton  # noqa: E402
import tritonclient.grpc.aio as triton_aio  # noqa: E402
from tritonclient.grpc import service_pb2  # noqa: E402
from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402
from tritonclient.utils import shared_memory  # noqa: E402

BF16 = ml_dtypes.bfloat16


def tensor(name, array, module=triton):
    made = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(np.ascontiguousarray(array))
    return made


def outputs(*names, **parameters):
    return [triton.InferRequestedOutput(name, **parameters) for name in names]


def refused(what, code, words, call):
    """That the call ends with this code and says all of the words."""
    try:
        call()
    except InferenceServerException as error:
        expect(f'{what}: code of "{error.message()}"', error.status(), f'StatusCode.{code}')
        for word in words:
            if word not in error.message():
                fail(f'{what}: got "{error.message()}", wanted one that says {word}')
        return
    fail(f'{what}: got an answer, wanted {code}')


class Case:
    """A server, a client, a model of one layer and what it answers."""

    def __init__(self, server, client, attention, name, width):
        self.server, self.client, self.attention, self.name, self.width = server, client, attention, name, width
        self.random = np.random.default_rng(17)

    def query(self, batch=2, seq_len=5):
        return self.random.standard_normal((batch, seq_len, self.width)).astype(np.float32)

    def infer(self, inputs, **options):
        return self.client.infer(self.name, inputs, **options)


def check_about(case):
    client = case.client
    expect('live', client.is_server_live(), True)
    expect('ready', client.is_server_ready(), True)
    expect('model ready', client.is_model_ready(case.name), True)
    expect('no model ready', client.is_model_ready('absent'), False)
    about = client.get_server_metadata()
    expect('server', about.name, 'headlight')
    for extension in ('statistics', 'model_configuration', 'model_repository', 'parameters', 'system_shared_memory'):
        expect(f'{extension} is among the extensions', extension in about.extensions, True)
    metadata = client.get_model_metadata(case.name)
    config = client.get_model_config(case.name).config
    expect('name', (metadata.name, config.name), (case.name, case.name))
    expect('versions', all(version.isdigit() for version in metadata.versions), True)
    expect('inputs', {tensor.name for tensor in metadata.inputs}, {tensor.name for tensor in config.input})
    expect('outputs', {tensor.name for tensor in metadata.outputs}, {tensor.name for tensor in config.output})
    expect('batches', config.max_batch_size > 1, True)
    by_name = {tensor.name: tensor for tensor in metadata.inputs}
    for described in config.input:
        expect(f'shape of {described.name}', list(by_name[described.name].shape), [-1] + list(described.dims))
    expect('shape of query', list(by_name['query'].shape), [-1, -1, case.width])
    index = {model.name: model for model in client.get_model_repository_index().models}
    expect('state in the index', index[case.name].state, 'READY')
    refused('metadata of no model', 'NOT_FOUND', ['absent'], lambda: client.get_model_metadata('absent'))
    refused('config of no model', 'NOT_FOUND', ['absent'], lambda: client.get_model_config('absent'))
    client.get_log_settings()
    client.get_trace_settings()


def check_sync(case):
    query = case.query()
    reply = case.infer([tensor('query', query)], request_id='seven')
    expect('id', reply.get_response().id, 'seven')
    expect('model', reply.get_response().model_name, case.name)
    expect_near('output', reply.as_numpy('output'), case.attention(query))
    wanted = reply.get_response().raw_output_contents[0]

    again = case.infer([tensor('query', query)], outputs=outputs('output'))
    expect('bits, asked for by name', again.get_response().raw_output_contents[0] == wanted, True)
    again = case.infer([tensor('query', query)], outputs=outputs('last_hidden_state'))
    expect_near('last_hidden_state', again.as_numpy('last_hidden_state'), case.attention(query))

    causal = case.infer([tensor('query', query)], parameters={'causal': True})
    expect_near('causal', causal.as_numpy('output'), case.attention(query, causal=True))

    key, value = case.query(seq_len=7), case.query(seq_len=7)
    crossed = case.infer([tensor('query', query), tensor('key', key), tensor('value', value)])
    expect_near('key and value', crossed.as_numpy('output'), case.attention(query, key, value))

    lens = np.array([5, 2], dtype=np.int32)
    short = case.infer([tensor('query', query), tensor('seq_lens', lens)])
    expect_near('seq_lens', short.as_numpy('output'), case.attention(query, lens=lens))
    mask = (np.arange(5) < lens[:, None])
    for kind in (np.int64, np.int32, np.bool_):
        masked = case.infer([tensor('query', query), tensor('attention_mask', mask.astype(kind))])
        expect(f'bits with an attention_mask of {kind.__name__}', masked.get_response().raw_output_contents[0],
               short.get_response().raw_output_contents[0])


def crc32c(data):
    """Bit by bit, as RFC 3720 has it."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def check_checksums(case):
    reply = case.infer([tensor('query', case.query(batch=1, seq_len=3))], outputs=outputs('output', 'attention_weights'))
    for i, name in enumerate(('output', 'attention_weights')):
        told = reply.get_output(name).parameters['crc32c'].int64_param
        expect(f'crc32c of {name}', told, crc32c(reply.get_response().raw_output_contents[i]))


def check_weights(case):
    query = case.query(batch=1, seq_len=6)
    _, wanted = case.attention.one(*[query[0].astype(np.float64)] * 3)
    reply = case.infer([tensor('query', query)], outputs=outputs('output', 'attention_weights'))
    expect_near('attention_weights', reply.as_numpy('attention_weights')[0], wanted)
    expect_near('output beside weights', reply.as_numpy('output'), case.attention(query))


def check_typed(case):
    """`contents` in place of raw bytes: the same bits."""
    query = case.query()
    raw = case.infer([tensor('query', query)]).get_response().raw_output_contents[0]
    request = service_pb2.ModelInferRequest(model_name=case.name)
    added = request.inputs.add(name='query', datatype='FP32', shape=query.shape)
    added.contents.fp32_contents.extend(query.ravel())
    with grpc.insecure_channel(case.server.address) as channel:
        from tritonclient.grpc import service_pb2_grpc
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        expect('bits of typed contents', stub.ModelInfer(request).raw_output_contents[0] == raw, True)
        request.raw_input_contents.append(query.tobytes())
        try:
            stub.ModelInfer(request)
            fail('contents beside raw contents: got an answer')
        except grpc.RpcError as error:
            expect('contents beside raw contents', error.code(), grpc.StatusCode.INVALID_ARGUMENT)


def check_half(case):
    query = case.query()
    for dtype, step in ((BF16, HALF_STEP_OF_BF16), (np.float16, HALF_STEP_OF_F16)):
        rounded = query.astype(dtype)
        name = np_to_triton_dtype(rounded.dtype)
        wanted = case.attention(rounded.astype(np.float64))
        reply = case.infer([tensor('query', rounded)])
        got = reply.get_output('output')
        expect_near(f'output of {name}', reply.as_numpy('output'), wanted, step if got.datatype == name else 2.0**-24)
        typed = service_pb2.ModelInferRequest(model_name=case.name)
        added = typed.inputs.add(name='query', datatype=name, shape=query.shape)
        added.contents.fp32_contents.extend(query.ravel())
        refused_typed(case, typed, name)


def refused_typed(case, request, name):
    from tritonclient.grpc import service_pb2_grpc
    with grpc.insecure_channel(case.server.address) as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
            fail(f'typed contents of {name}: got an answer')
        except grpc.RpcError as error:
            expect(f'typed contents of {name}', error.code(), grpc.StatusCode.INVALID_ARGUMENT)


def check_asyncio(case):
    queries = [case.query(batch=1 + i % 3, seq_len=1 + i) for i in range(16)]

    async def run():
        async with triton_aio.InferenceServerClient(case.server.address) as client:
            expect('live', await client.is_server_live(), True)
            return await asyncio.gather(*[
                client.infer(case.name, [tensor('query', query)], request_id=str(i)) for i, query in enumerate(queries)])

    for i, reply in enumerate(asyncio.run(run())):
        expect('id', reply.get_response().id, str(i))
        expect_near(f'asyncio {i}', reply.as_numpy('output'), case.attention(queries[i]))


def check_stream(case):
    """Replies come in the order of requests, and one that is refused ends nothing but itself."""
    answers = queue.Queue()
    with triton.InferenceServerClient(case.server.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        queries = [case.query(batch=1, seq_len=1 + (7 * i) % 30) for i in range(24)]
        for i, query in enumerate(queries):
            client.async_stream_infer(case.name, [tensor('query', query)], request_id=str(i),
                                      enable_empty_final_response=True)
        for i, query in enumerate(queries):
            result, error = answers.get(timeout=oip_common.PATIENCE_S)
            expect(f'error of {i}', error, None)
            response = result.get_response()
            expect('order', response.id, str(i))
            expect('final', response.parameters['triton_final_response'].bool_param, True)
            expect_near(f'stream {i}', result.as_numpy('output'), case.attention(query))
        client.async_stream_infer('absent', [tensor('query', queries[0])])
        client.async_stream_infer(case.name, [tensor('query', queries[0])], request_id='after')
        result, error = answers.get(timeout=oip_common.PATIENCE_S)
        expect('an unknown model on a stream', 'absent' in error.message(), True)
        result, error = answers.get(timeout=oip_common.PATIENCE_S)
        expect('the stream goes on', (error, result.get_response().id), (None, 'after'))
        client.stop_stream()

    # Twice as fast when nobody waits for the answers: the stream is cut with all of them on their way.
    with triton.InferenceServerClient(case.server.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for i in range(8):
            client.async_stream_infer(case.name, [tensor('query', case.query(batch=1, seq_len=64))])
        client.stop_stream(cancel_requests=True)
    check_still_serves(case)


def check_still_serves(case):
    query = case.query()
    expect_near('afterwards', case.infer([tensor('query', query)]).as_numpy('output'), case.attention(query))


def check_cancellation(case):
    large = tensor('query', case.query(batch=4, seq_len=512))
    answers = queue.Queue()
    call = case.client.async_infer(case.name, [large], callback=lambda result, error: answers.put((result, error)))
    call.cancel()
    result, error = answers.get(timeout=oip_common.PATIENCE_S)
    if error is not None:
        expect('cancelled', error.status(), 'StatusCode.CANCELLED')

    async def run():
        async with triton_aio.InferenceServerClient(case.server.address) as client:
            task = asyncio.ensure_future(client.infer(case.name, [large]))
            await asyncio.sleep(0.002)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return True
            return False

    asyncio.run(run())
    check_still_serves(case)


def check_timeouts(case):
    large = tensor('query', case.query(batch=8, seq_len=512))
    refused('client_timeout', 'DEADLINE_EXCEEDED', [], lambda: case.infer([large], client_timeout=0.001))
    refused('timeout', 'DEADLINE_EXCEEDED', [], lambda: case.infer([large], timeout=1))
    expect('time enough', case.infer([tensor('query', case.query())], timeout=30_000_000,
                                     client_timeout=30).get_output('output') is not None, True)
    check_still_serves(case)


def check_compression(case):
    for algorithm in ('gzip', 'deflate'):
        refused(f'{algorithm}', 'UNIMPLEMENTED', [algorithm],
                lambda algorithm=algorithm: case.infer([tensor('query', case.query())], compression_algorithm=algorithm))


def check_errors(case):
    query = case.query()
    good = tensor('query', query)
    bad = lambda what, words, inputs, code='INVALID_ARGUMENT', **options: refused(
        what, code, words, lambda: case.infer(inputs, **options))
    refused('no model', 'NOT_FOUND', ['absent'], lambda: case.client.infer('absent', [good]))
    bad('no version', ['9'], [good], 'NOT_FOUND', model_version='9')
    bad('an input of another name', ['querry'], [tensor('querry', query)])
    bad('an input twice', ['query'], [good, good])
    bad('too narrow', ['query', str(case.width)], [tensor('query', query[:, :, :-1])])
    bad('another type', ['query', 'INT64'], [tensor('query', np.ones((1, 2, case.width), np.int64))])
    bad('another output', ['outputt'], [good], outputs=outputs('outputt'))
    bad('a parameter nearly known', ['casual', 'causal'], [good], parameters={'casual': True})
    bad('a parameter of another kind', ['causal'], [good], parameters={'causal': 'yes'})
    bad('a sequence', ['sequence_'], [good], sequence_id=5, sequence_start=True)
    bad('padding in front', ['attention_mask'],
        [good, tensor('attention_mask', np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]))])
    cut = tensor('query', query)
    cut._raw_content = cut._raw_content[:-4]
    bad('too few bytes', ['query'], [cut])
    refused('cuda', 'UNIMPLEMENTED', [], lambda: case.client.get_cuda_shared_memory_status())
    refused('load', 'PERMISSION_DENIED', ['--allow-model-control'], lambda: case.client.load_model(case.name))
    check_still_serves(case)


def check_statistics(case):
    read = lambda: case.client.get_inference_statistics(case.name).model_stats[0]
    before = read()
    for _ in range(3):
        case.infer([tensor('query', case.query())])
    try:
        case.infer([tensor('query', case.query()[:, :, :-1])])
    except InferenceServerException:
        pass
    after = read()
    expect('version', after.version.isdigit(), True)
    expect('answered', after.inference_stats.success.count - before.inference_stats.success.count, 3)
    expect('refused', after.inference_stats.fail.count - before.inference_stats.fail.count, 1)
    expect('sequences', after.inference_count - before.inference_count, 6)
    stats = after.inference_stats
    counts = {part.count for part in (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)}
    expect('equal counts', len(counts), 1)
    expect('time goes by', stats.compute_infer.ns > before.inference_stats.compute_infer.ns, True)


class Region:
    """POSIX shared memory of Triton's helper, registered."""

    def __init__(self, case, name, size):
        self.case, self.name, self.size = case, name, size

    def __enter__(self):
        self.key = f'/headlight_{self.name}_{time.monotonic_ns()}'
        self.handle = shared_memory.create_shared_memory_region(self.name, self.key, self.size)
        self.case.client.register_system_shared_memory(self.name, self.key, self.size)
        return self

    def __exit__(self, *_):
        self.case.client.unregister_system_shared_memory(self.name)
        shared_memory.destroy_shared_memory_region(self.handle)


def check_shared_memory(case):
    client = case.client
    client.unregister_system_shared_memory()
    query = case.query()
    wanted = case.attention(query)
    with Region(case, 'in', query.nbytes + 64) as into, Region(case, 'out', query.nbytes + 8) as out:
        regions = client.get_system_shared_memory_status().regions
        expect('regions', sorted(regions), ['in', 'out'])
        expect('size', regions['in'].byte_size, query.nbytes + 64)
        refused('registered twice', 'ALREADY_EXISTS', ['in'],
                lambda: client.register_system_shared_memory('in', into.key, 8))
        refused('a region of no file', 'NOT_FOUND', ['absent'],
                lambda: client.register_system_shared_memory('x', '/absent', 8))
        refused('another folder', 'INVALID_ARGUMENT', ['key'],
                lambda: client.register_system_shared_memory('x', '/../etc/passwd', 8))
        refused('more than there is', 'INVALID_ARGUMENT', ['byte_size'],
                lambda: client.register_system_shared_memory('x', into.key, query.nbytes + 65))

        shared_memory.set_shared_memory_region(into.handle, [query], offset=64)
        described = triton.InferInput('query', list(query.shape), 'FP32')
        described.set_shared_memory('in', query.nbytes, offset=64)
        asked = triton.InferRequestedOutput('output')
        asked.set_shared_memory('out', query.nbytes, offset=8)
        reply = case.infer([described], outputs=[asked])
        expect('no bytes travel', sum(map(len, reply.get_response().raw_output_contents)), 0)
        got = shared_memory.get_contents_as_numpy(out.handle, np.float32, list(query.shape), offset=8)
        expect_near('shared memory', np.array(got), wanted)
        expect_near('shared input alone', case.infer([described]).as_numpy('output'), wanted)
        shared_memory.set_shared_memory_region(out.handle, [np.zeros(query.nbytes + 8, np.uint8)])
        case.infer([tensor('query', query)], outputs=[asked])
        got = shared_memory.get_contents_as_numpy(out.handle, np.float32, list(query.shape), offset=8)
        expect_near('shared output alone', np.array(got), wanted)

        # Some here, some there.
        key = case.query(seq_len=3)
        mixed = case.infer([described, tensor('key', key)])
        expect_near('a shared and a sent input', mixed.as_numpy('output'), case.attention(query, key))

        beyond = triton.InferInput('query', list(query.shape), 'FP32')
        beyond.set_shared_memory('in', query.nbytes, offset=65)
        refused('beyond the region', 'INVALID_ARGUMENT', ['shared_memory'], lambda: case.infer([beyond]))
        beyond.set_shared_memory('absent', query.nbytes)
        refused('no region', 'NOT_FOUND', ['absent'], lambda: case.infer([beyond]))
        small = triton.InferRequestedOutput('output')
        small.set_shared_memory('out', query.nbytes - 4)
        refused('too little room', 'INVALID_ARGUMENT', ['output.shared_memory_byte_size'],
                lambda: case.infer([tensor('query', query)], outputs=[small]))

        with open('/dev/shm' + into.key, 'r+b') as file:
            file.truncate(query.nbytes)
        refused('cut short', 'INVALID_ARGUMENT', ['shorter'], lambda: case.infer([described]))
        with open('/dev/shm' + into.key, 'r+b') as file:
            file.truncate(query.nbytes + 64)
    expect('none left', len(client.get_system_shared_memory_status().regions), 0)
    check_still_serves(case)


def check_ids(address, client, name, folder):
    """An encoder of tests/golden, as its own library computes it."""
    golden = oip_common.read_safetensors(f'{oip_common.GOLDEN}/{name}.case.safetensors')
    lens, hidden = golden['lens'], golden['output']
    seq_len = int(lens.max())

    def padded(flat, fill=0):
        rows = np.full((len(lens), seq_len) + flat.shape[1:], fill, dtype=flat.dtype)
        begin = 0
        for i, n in enumerate(lens):
            rows[i, :n] = flat[begin:begin + n]
            begin += n
        return rows

    mask = (np.arange(seq_len) < lens[:, None]).astype(np.int64)
    wanted = padded(hidden)
    inputs = [tensor('input_ids', padded(golden['ids'])), tensor('attention_mask', mask)]
    if 'token_types' in golden:
        inputs.append(tensor('token_type_ids', padded(golden['token_types'])))
    reply = client.infer(name, inputs, outputs=outputs('last_hidden_state', 'sentence_embedding'))
    expect_near(f'{name}: last_hidden_state', reply.as_numpy('last_hidden_state'), wanted)
    flat = client.infer(name, inputs)
    expect_near(f'{name}: output', flat.as_numpy('output'), wanted)
    mean = np.stack([row[:n].mean(axis=0) for row, n in zip(wanted, lens)])
    expect_near(f'{name}: sentence_embedding beside', reply.as_numpy('sentence_embedding'), mean)
    pooled = client.infer(name, inputs, outputs=outputs('sentence_embedding'))
    expect_near(f'{name}: sentence_embedding', pooled.as_numpy('sentence_embedding'), mean)
    first = client.infer(name, inputs, outputs=outputs('sentence_embedding'), parameters={'pooling': 'cls'})
    expect_near(f'{name}: the first token', first.as_numpy('sentence_embedding'), wanted[:, 0])
    left = [inputs[0], tensor('attention_mask', mask[:, ::-1])] + inputs[2:]
    refused('padding in front', 'INVALID_ARGUMENT', ['attention_mask'], lambda: client.infer(name, left))

    # The same arrays, as numpy.savez(path, **tokenizer(...)) writes them, out of a file.
    arrays = {'input_ids': padded(golden['ids']), 'attention_mask': mask}
    if 'token_types' in golden:
        arrays['token_type_ids'] = padded(golden['token_types'])
    np.savez(f'{folder}/{name}.npz', **arrays)
    subprocess.run([ARGUMENTS.client, 'attend', '--server', address, '--model', name, '--input', f'{folder}/{name}.npz',
                    '--output', f'{folder}/{name}.npy'], check=True, stdout=subprocess.DEVNULL)
    expect(f'{name}: bits of an archive', np.load(f'{folder}/{name}.npy').tobytes(),
           flat.get_response().raw_output_contents[0])


def main():
    with tempfile.TemporaryDirectory() as root:
        small = oip_common.make_model(ARGUMENTS.server, root + '/small', '--embed-dim', '64', '--num-heads', '4',
                                      '--norm-placement', 'none', '--seed', '3')
        demo = oip_common.make_model(ARGUMENTS.server, root + '/demo', *oip_common.DEMO)
        golden = {name: f'{oip_common.GOLDEN}/{name}' for name in ('bert', 'mpnet')}
        models = [f'--model={name}={folder}' for name, folder in {'small': small, **golden}.items()]
        with oip_common.Server(ARGUMENTS.server, '--allow-shared-memory', '--models', 'demo', *models,
                               '--pooling', ','.join(f'{name}=mean' for name in golden)) as server, \
                triton.InferenceServerClient(server.address) as client:
            for case in (Case(server, client, oip_common.Attention(small), 'small', 64),
                         Case(server, client, oip_common.Attention(demo), 'demo', 768)):
                for check in (check_about, check_sync, check_checksums, check_weights, check_typed, check_half, check_asyncio, check_stream,
                              check_cancellation, check_timeouts, check_compression, check_errors, check_statistics,
                              check_shared_memory):
                    begin = time.monotonic()
                    check(case)
                    print(f'oip_triton: {case.name}: {check.__name__}: {time.monotonic() - begin:.1f} s', flush=True)
            for name in golden:
                check_ids(server.address, client, name, root)
        with oip_common.Server(ARGUMENTS.server) as server, triton.InferenceServerClient(server.address) as client:
            refused('shared memory that is not allowed', 'PERMISSION_DENIED', ['--allow-shared-memory'],
                    lambda: client.register_system_shared_memory('x', '/x', 1))
            expect('it is no extension then', 'system_shared_memory' in client.get_server_metadata().extensions, False)
    print('oip_triton: ok')


if __name__ == '__main__':
    main()
