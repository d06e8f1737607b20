#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""KServe's manifests in deploy/kserve: checked against the definitions of two versions of KServe and against each other,
and the runtime's program started with its arguments for the model of the example.

Exits 77, saying why, where there are no packages with schemas."""
import json
import os
import subprocess
import tempfile

import kubernetes_common
from kubernetes_common import (KSERVE, PATIENCE_S, ROOT, Definitions, Program, check_probes, check_security, expect, fail,
                               flags_of, read_file, read_yaml)

ARGUMENTS = kubernetes_common.start()

GRPC, ADMIN = 9000, 8002
MODELS = '/mnt/models'  # where KServe mounts a model
GIVEN_S = 30  # what Kubernetes gives pods that ask for nothing else, as KServe's do
RESERVE_S = 2  # of the server itself, between its grace and its end


def check_refusals(definitions, runtime):
    """The schemas that all else is checked against do refuse."""
    for change in ({'containers': None}, {'protocolVersion': ['grpc-v2']}):
        spec = {key: value for key, value in {**runtime['spec'], **change}.items() if value is not None}
        try:
            definitions.check({**runtime, 'spec': spec})
        except SystemExit:
            continue
        fail(f'{definitions.name}: {change} was taken')


def check_together(runtime, service):
    spec, model = runtime['spec'], service['spec']['predictor']['model']
    container = spec['containers'][0]
    expect('the container', container['name'], 'kserve-container')
    formats = [entry['name'] for entry in spec['supportedModelFormats'] if entry['autoSelect']]
    expect('the format finds the runtime', formats, [model['modelFormat']['name']])
    expect('the protocol', spec['protocolVersions'], [model['protocolVersion']])
    expect('the port of gRPC', [port['containerPort'] for port in container['ports']], [GRPC])
    flags = flags_of(container)
    expect('--listen', flags['listen'], f'0.0.0.0:{GRPC}')
    expect('--admin-listen', flags['admin-listen'], f'0.0.0.0:{ADMIN}')
    expect('--model', flags['model'], '{{.Name}}=' + MODELS)
    expect('scraped', spec['annotations'],
           {'prometheus.io/scrape': 'true', 'prometheus.io/path': '/metrics', 'prometheus.io/port': str(ADMIN)})
    needed_s = int(flags['lame-duck-s']) + int(flags['shutdown-grace-s']) + RESERVE_S
    if needed_s > GIVEN_S:
        fail(f'lame duck and grace: got {needed_s} s with a reserve of {RESERVE_S} s, wanted at most {GIVEN_S}')
    probe = container['readinessProbe']
    if int(flags['lame-duck-s']) < 2 * probe['periodSeconds'] * probe['failureThreshold']:
        fail(f'lame duck: got {flags["lame-duck-s"]} s, wanted twice the readiness of {probe}')
    check_probes('the runtime', container, GRPC, ADMIN, False)
    check_security('the runtime', container)


def main():
    folder = (ROOT, 'deploy', 'kserve')
    [runtime], [service] = (read_yaml(read_file(*folder, name)) for name in ('serving-runtime.yaml', 'inference-service.yaml'))
    for module in KSERVE:
        definitions = Definitions(*module)
        definitions.check(runtime)
        definitions.check(service)
        check_refusals(definitions, runtime)
    check_together(runtime, service)

    # As KServe does: the container's template, with the service's metadata.
    name = service['metadata']['name']
    container = json.loads(json.dumps(runtime['spec']['containers'][0]).replace('{{.Name}}', name))
    with tempfile.TemporaryDirectory() as root:
        model = kubernetes_common.oip_common.make_model(ARGUMENTS.server, root + '/model', '--embed-dim', '32',
                                                        '--num-heads', '2', '--seed', '3')
        with Program(ARGUMENTS.server, container, {MODELS: os.path.abspath(model)}) as program:
            program.check_ready()
            subprocess.run([ARGUMENTS.client, 'health', '--server', program.address, '--service', f'models/{name}'],
                           check=True, capture_output=True, timeout=PATIENCE_S)
            for option in ('lame-duck-s', 'shutdown-grace-s'):
                expect(option, program.option(option), flags_of(container)[option])
    print('kserve_manifests: ok')


if __name__ == '__main__':
    main()
