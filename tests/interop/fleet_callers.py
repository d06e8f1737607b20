#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python and the Go of docs/client-library.md, as they are written there, against three servers of which one is frozen
for a while and another killed: no call fails, and none waits for the frozen one.

Exits 77, saying why, where grpcio cannot be had; Go is left out, saying why, where it cannot."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import oip_common
from oip_common import GO_FLAGS, HERE, SET_UP_S, fail, last_line

ARGUMENTS = oip_common.arguments(__doc__)
oip_common.enter_environment(ARGUMENTS.environments, 'oip_requirements.txt')

import numpy as np  # noqa: E402
import tritonclient.grpc  # noqa: E402,F401  so that its generated messages are there
from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: E402

DOCUMENT = os.path.join(HERE, '..', '..', 'docs', 'client-library.md')
CALM_S, FROZEN_S = 1, 4


def block(language):
    with open(DOCUMENT, encoding='utf-8') as file:
        blocks = re.findall(rf'^```{language}\n(.*?)^```$', file.read(), re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        fail(f'docs/client-library.md: got {len(blocks)} blocks of {language}, wanted 1')
    return blocks[0]


def report(language, calls, slowest_s):
    if slowest_s >= FROZEN_S:
        fail(f'{language}: the slowest of {calls} calls took {slowest_s:.1f} s, wanted less than {FROZEN_S} s')
    print(f'fleet_callers: {language}: {calls} calls, none failed, the slowest took {slowest_s:.2f} s', flush=True)


def hurt(servers):
    """Freezes the first for a while, then kills the last."""
    time.sleep(CALM_S)
    servers[0].process.send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_S)
    servers[0].process.send_signal(signal.SIGCONT)
    time.sleep(CALM_S)
    servers[-1].process.kill()
    time.sleep(CALM_S)


class Fleet:
    """Three servers, of which the last is killed in the end."""

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.servers = [self.stack.enter_context(oip_common.Server(ARGUMENTS.server, '--models', 'demo', '--threads', '1'))
                        for _ in range(2)]
        self.servers.append(oip_common.Server(ARGUMENTS.server, '--models', 'demo', '--threads', '1').__enter__())
        return self

    def __exit__(self, *_):
        self.servers[-1].process.kill()
        self.servers[-1].process.wait()
        self.servers[0].process.send_signal(signal.SIGCONT)
        self.stack.close()

    def addresses(self):
        return ','.join(server.address for server in self.servers)


def run_python():
    names = {}
    exec(compile(block('python'), DOCUMENT, 'exec'), names)
    request = service_pb2.ModelInferRequest(model_name='demo', raw_input_contents=[np.ones((1, 1, 768), '<f4').tobytes()])
    request.inputs.add(name='query', datatype='FP32', shape=[1, 1, 768])
    with Fleet() as fleet:
        channel = names['connect'](f'ipv4:{fleet.addresses()}')
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        mishaps = threading.Thread(target=hurt, args=(fleet.servers,))
        mishaps.start()
        calls, slowest_s = 0, 0
        while mishaps.is_alive():
            begin = time.monotonic()
            reply = names['call'](stub.ModelInfer, request, timeout_s=20, attempt_timeout_s=0.5, attempts=6)
            oip_common.expect('shape of the output', list(reply.outputs[0].shape), [1, 1, 768])
            calls, slowest_s = calls + 1, max(slowest_s, time.monotonic() - begin)
            time.sleep(0.005)
        mishaps.join()
        channel.close()
    report('Python', calls, slowest_s)


def build_go(folder):
    """The program's path, or None, saying why."""
    for program in ('go', 'protoc'):
        if shutil.which(program) is None:
            print(f'fleet_callers: Go is left out: there is no {program} in PATH')
            return None
    module = folder + '/module'
    os.makedirs(module + '/inference')
    for name in ('go.mod', 'go.sum'):
        shutil.copy(f'{HERE}/oip_go_client/{name}', module)
    shutil.copy(f'{HERE}/fleet_go_client/main.go', module)
    with open(module + '/snippet.go', 'w', encoding='utf-8') as file:
        file.write('package main\n\n' + block('go'))
    environment = dict(os.environ, GOBIN=folder, GOFLAGS=GO_FLAGS, PATH=f'{folder}:{os.environ["PATH"]}')

    def run(*command):
        done = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True, check=False, timeout=SET_UP_S)
        return done.returncode == 0, done.stdout + done.stderr

    done, why = run('go', 'install', 'google.golang.org/protobuf/cmd/protoc-gen-go', 'google.golang.org/grpc/cmd/protoc-gen-go-grpc')
    if not done:
        print(f'fleet_callers: Go is left out: the generators cannot be built: {last_line(why)}')
        return None
    proto = os.path.join(HERE, '..', '..', 'proto')
    files = [f'inference/{name}.proto' for name in ('grpc_service', 'model_config')]
    options = [f'--{kind}_opt={option}' for kind in ('go', 'go-grpc')
               for option in ['module=headlight/oip_go_client'] + [f'M{file}=headlight/oip_go_client/inference' for file in files]]
    for command in (['protoc', f'--proto_path={proto}', '--go_out=.', '--go-grpc_out=.', *options, *files],
                    ['go', 'build', '-o', folder + '/fleet_go_client', '.']):
        done, why = run(*command)
        if not done:
            fail(f'{command[0]}: {why}')
    return folder + '/fleet_go_client'


def run_go():
    with tempfile.TemporaryDirectory() as folder:
        program = build_go(folder)
        if program is None:
            return
        with Fleet() as fleet:
            length = 3 * CALM_S + FROZEN_S
            caller = subprocess.Popen([program, '-addresses', fleet.addresses(), '-duration', f'{length}s'],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            hurt(fleet.servers)
            said = caller.communicate(timeout=oip_common.PATIENCE_S)[0]
            if caller.returncode != 0:
                fail(f'Go: {said}')
        calls, slowest_s = said.split()
        report('Go', int(calls), float(slowest_s))


def main():
    run_python()
    run_go()
    print('fleet_callers: ok')


if __name__ == '__main__':
    sys.exit(main())
