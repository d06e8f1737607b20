#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs in Go, unchanged, against a real server: grpcurl, ghz, grpc_health_probe, and a client of generated code.

Answers are compared with float64. Exits 77, saying why, where there is no Go that builds them, or no NumPy."""
import base64
import json
import os
import shutil
import subprocess
import tempfile

import oip_common
from oip_common import GO_FLAGS, HERE, SET_UP_S, expect, expect_near, fail, last_line, skip

SERVICE = 'inference.GRPCInferenceService'

ARGUMENTS = oip_common.arguments(__doc__)
oip_common.enter_environment(ARGUMENTS.environments, 'oip_requirements.txt')

import numpy as np  # noqa: E402


def build(folder):
    """The folder with the programs, built from the module beside this file."""
    for program in ('go', 'protoc'):
        if shutil.which(program) is None:
            skip(f'there is no {program} in PATH')
    programs, module = folder + '/bin', folder + '/module'
    os.makedirs(module + '/inference', exist_ok=True)
    for name in ('go.mod', 'go.sum', 'main.go'):
        shutil.copy(f'{HERE}/oip_go_client/{name}', module)
    environment = dict(os.environ, GOBIN=programs, GOFLAGS=GO_FLAGS, PATH=f'{programs}:{os.environ["PATH"]}')

    def run(*command):
        try:
            done = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True, check=False,
                                  timeout=SET_UP_S)
        except subprocess.TimeoutExpired:
            return False, f'not within {SET_UP_S} s'
        return done.returncode == 0, last_line(done.stdout + done.stderr)

    done, why = run('go', 'install', 'tool')
    if not done:
        skip(f'the programs cannot be built: {why}')
    proto = os.path.join(HERE, '..', '..', 'proto')
    files = [f'inference/{name}.proto' for name in ('grpc_service', 'model_config')]
    package = 'headlight/oip_go_client/inference'
    options = [f'--{kind}_opt={option}' for kind in ('go', 'go-grpc')
               for option in ['module=headlight/oip_go_client'] + [f'M{file}={package}' for file in files]]
    for command in (['protoc', f'--proto_path={proto}', '--go_out=.', '--go-grpc_out=.', *options, *files],
                    ['go', 'build', '-o', programs + '/oip_go_client', '.']):
        done, why = run(*command)
        if not done:
            fail(f'{command[0]}: {why}')
    return programs


class Programs:
    def __init__(self, folder, address):
        self.folder, self.address = folder, address

    def run(self, program, *arguments, code=0, text=None):
        done = subprocess.run([f'{self.folder}/{program}', *arguments], input=text, capture_output=True, text=True,
                              timeout=120, check=False)
        expect(f'{program} {arguments[:6]}: {done.stderr}: exit code', done.returncode, code)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def grpcurl(self, method, *messages, code=0):
        """The replies to messages."""
        out = self.run('grpcurl', '-plaintext', '-d', '@', self.address, f'{SERVICE}/{method}', code=code,
                       text='\n'.join(map(json.dumps, messages)))
        if code != 0:
            return out
        replies, rest = [], out.strip()
        while rest:
            reply, end = json.JSONDecoder().raw_decode(rest)
            replies.append(reply)
            rest = rest[end:].strip()
        return replies


def request(query, **more):
    return {'model_name': 'small', 'raw_input_contents': [base64.b64encode(query.tobytes()).decode()],
            'inputs': [{'name': 'query', 'datatype': 'FP32', 'shape': list(query.shape)}], **more}


def output(reply, shape):
    return np.frombuffer(base64.b64decode(reply['raw_output_contents'][0]), np.float32).reshape(shape)


def check_grpcurl(programs, attention, query):
    listed = programs.run('grpcurl', '-plaintext', programs.address, 'list').split()
    for service in (SERVICE, 'headlight.v1.AttentionService', 'grpc.health.v1.Health'):
        expect(f'{service} is listed', service in listed, True)
    described = programs.run('grpcurl', '-plaintext', programs.address, 'describe', SERVICE)
    for method in ('ModelInfer', 'ModelStreamInfer', 'SystemSharedMemoryRegister'):
        expect(f'{method} is described', f'rpc {method} ' in described, True)
    expect('live', programs.grpcurl('ServerLive', {}), [{'live': True}])
    metadata = programs.grpcurl('ModelMetadata', {'name': 'small'})[0]
    expect('metadata', metadata['name'], 'small')

    wanted = attention(query)
    expect_near('raw contents', output(programs.grpcurl('ModelInfer', request(query))[0], query.shape), wanted)
    typed = request(query)
    del typed['raw_input_contents']
    typed['inputs'][0]['contents'] = {'fp32_contents': [float(x) for x in query.ravel()]}
    expect_near('typed contents', output(programs.grpcurl('ModelInfer', typed)[0], query.shape), wanted)
    causal = request(query, parameters={'causal': {'bool_param': True}})
    expect_near('causal', output(programs.grpcurl('ModelInfer', causal)[0], query.shape), attention(query, causal=True))
    replies = programs.grpcurl('ModelStreamInfer', *[request(query, id=str(i)) for i in range(5)])
    expect('ids', [reply['infer_response']['id'] for reply in replies], [str(i) for i in range(5)])
    for reply in replies:
        expect_near('stream', output(reply['infer_response'], query.shape), wanted)
    # grpcurl ends with 64 + the code.
    expect('NotFound', 'absent' in programs.grpcurl('ModelInfer', request(query, model_name='absent'), code=64 + 5), True)


def check_ghz(programs, query):
    count = lambda: int(programs.grpcurl('ModelStatistics', {'name': 'small'})[0]['model_stats'][0]['inference_stats'].get(
        'success', {}).get('count', 0))
    before = count()
    report = json.loads(programs.run('ghz', '--insecure', '--call', f'{SERVICE}/ModelInfer', '-n', '200', '-c', '4',
                                     '-d', json.dumps(request(query)), '-O', 'json', programs.address))
    expect('ghz: codes', report['statusCodeDistribution'], {'OK': 200})
    expect('ghz: answered', count() - before, 200)


def check_health(programs):
    programs.run('grpc-health-probe', '-addr', programs.address)
    programs.run('grpc-health-probe', '-addr', programs.address, '-service', SERVICE)
    programs.run('grpc-health-probe', '-addr', programs.address, '-service', 'models/small')
    programs.run('grpc-health-probe', '-addr', programs.address, '-service', 'absent', code=3)


def check_client(programs, attention, query, folder):
    query.tofile(folder + '/query')
    programs.run('oip_go_client', '--address', programs.address, '--model', 'small', '--query', folder + '/query',
                 '--shape', ','.join(map(str, query.shape)), '--output', folder + '/output')
    expect_near('Go client', np.fromfile(folder + '/output', np.float32).reshape(query.shape), attention(query))


def main():
    folder = build(os.path.abspath(ARGUMENTS.environments) + '/oip_go')
    with tempfile.TemporaryDirectory() as root:
        small = oip_common.make_model(ARGUMENTS.server, root + '/small', '--embed-dim', '64', '--num-heads', '4',
                                      '--norm-placement', 'none', '--seed', '3')
        attention = oip_common.Attention(small)
        query = np.random.default_rng(31).standard_normal((2, 5, 64)).astype(np.float32)
        with oip_common.Server(ARGUMENTS.server, f'--model=small={small}') as server:
            programs = Programs(folder, server.address)
            check_grpcurl(programs, attention, query)
            check_ghz(programs, query)
            check_health(programs)
            check_client(programs, attention, query, root)
    print('oip_go: ok')


if __name__ == '__main__':
    main()
