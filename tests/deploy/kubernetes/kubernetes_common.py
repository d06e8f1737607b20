# SPDX-License-Identifier: Apache-2.0
"""What the tests of manifests share: YAML, the schemas that clusters have, and a container's program without its container.

Nothing here speaks to a cluster: what a cluster would refuse for other reasons than its schemas is not found."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, '..', '..', '..')
sys.path.insert(0, os.path.join(HERE, '..', '..', 'interop'))
import oip_common  # noqa: E402
from oip_common import GO_FLAGS, PATIENCE_S, SET_UP_S, expect, fail, last_line, skip  # noqa: E402

# The oldest that Chart.yaml allows, and the newest whose schemas can be had.
KUBERNETES_VERSIONS = ('1.31', '1.37')
# Go modules that carry definitions of resources: module, version, checksum, files.
KSERVE = [('github.com/kserve/kserve', version, checksum,
           [f'config/crd/full/serving.kserve.io_{kind}.yaml' for kind in ('servingruntimes', 'inferenceservices')])
          for version, checksum in (('v0.14.1', 'h1://Ssbqj61F5Ec7A6ssxHP+wKGgM5pB4lGRunZGjBsbI='),
                                    ('v0.16.0', 'h1:kDkcAU5VMiZf4zhdDXH+UdAIgzXhs10GMv0d9r4qvTs='))]
PROMETHEUS_OPERATOR = ('github.com/prometheus-operator/prometheus-operator', 'v0.85.0',
                       'h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=',
                       ['example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml'])


def start():
    """The arguments, in an environment that has the packages."""
    arguments = oip_common.arguments(sys.modules['__main__'].__doc__)
    oip_common.enter_environment(arguments.environments, os.path.join(HERE, 'kubernetes_requirements.txt'))
    return arguments


def read_yaml(text):
    """The documents of a text; a key that stands there twice is an error, as for a cluster."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key) for key, _ in node.value]
            if len(keys) != len(set(keys)):
                fail(f'{node.start_mark}: a key stands there twice: {keys}')
            return super().construct_mapping(node, deep)

    return [document for document in yaml.load_all(text, Loader) if document is not None]


def read_file(*path):
    with open(os.path.join(*path), encoding='utf-8') as file:
        return file.read()


def check_kubernetes(manifest, version):
    import kubernetes_validate
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        fail(f'{manifest["kind"]} {manifest["metadata"]["name"]} for Kubernetes {version}: '
             f'{".".join(map(str, error.path))}: {error.message}')


def closed(schema):
    """The same schema, of which no object takes fields that are not in it: a cluster would drop them in silence."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get('properties'), dict) and schema.get('type') == 'object' \
            and not schema.get('x-kubernetes-preserve-unknown-fields'):
        result.setdefault('additionalProperties', False)
    return result


class Definitions:
    """Resources that some CustomResourceDefinitions of a Go module define."""

    def __init__(self, module, version, checksum, files):
        if shutil.which('go') is None:
            skip('there is no go in PATH')
        try:
            done = subprocess.run(['go', 'mod', 'download', '-json', f'{module}@{version}'], cwd='/', text=True,
                                  capture_output=True, check=False, timeout=SET_UP_S)
        except subprocess.TimeoutExpired:
            skip(f'{module} {version} cannot be had within {SET_UP_S} s')
        if done.returncode != 0:
            skip(f'{module} {version} cannot be had: {last_line(done.stdout + done.stderr)}')
        found = json.loads(done.stdout)
        expect(f'{module} {version}: checksum', found['Sum'], checksum)
        self.name, self.schemas = f'{module} {version}', {}
        for path in files:
            spec = read_yaml(read_file(found['Dir'], path))[0]['spec']
            for served in spec['versions']:
                schema = closed(served['schema']['openAPIV3Schema'])
                schema['properties']['metadata'] = {'type': 'object'}  # the cluster's own
                self.schemas[f'{spec["group"]}/{served["name"]}', spec['names']['kind']] = schema

    def check(self, manifest):
        import jsonschema
        schema = self.schemas.get((manifest['apiVersion'], manifest['kind']))
        if schema is None:
            fail(f'{manifest["apiVersion"]} {manifest["kind"]} is none of {self.name}: {list(self.schemas)}')
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
            fail(f'{manifest["kind"]} {manifest["metadata"]["name"]} for {self.name}: '
                 f'{".".join(map(str, error.path))}: {error.message}')


def flags_of(container):
    """The values of a container's --NAME=VALUE, by name."""
    return dict(argument.removeprefix('--').split('=', 1) for argument in container['args'])


def check_security(what, container):
    wanted = {'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True, 'capabilities': {'drop': ['ALL']}}
    for key, value in wanted.items():
        expect(f'{what}: {container["name"]}: {key}', container['securityContext'].get(key), value)


def check_probes(what, container, grpc_port, admin_port, is_private):
    """Startup and readiness ask for models, by gRPC where the kubelet can; liveness does not."""
    for kind in ('startupProbe', 'readinessProbe', 'livenessProbe'):
        probe = container[kind]
        if kind != 'livenessProbe' and not is_private:
            expect(f'{what}: {kind}', probe['grpc'], {'port': grpc_port})
        else:
            port = probe['httpGet']['port']
            named = {entry['name']: entry['containerPort'] for entry in container['ports']}
            expect(f'{what}: {kind}: port', named.get(port, port), admin_port)
            expect(f'{what}: {kind}: path', probe['httpGet']['path'],
                   '/livez' if kind == 'livenessProbe' else '/readyz')
        if probe['timeoutSeconds'] > probe['periodSeconds']:
            fail(f'{what}: {kind}: {probe}: wanted a timeout below the period')


def free_of_variables():
    return {name: value for name, value in os.environ.items() if not name.startswith('HEADLIGHT_')}


def image_variables():
    """What the image sets, which goes before the file of --config."""
    return dict(re.findall(r'^ENV (HEADLIGHT_\w+)=(\S+)$', read_file(ROOT, 'Dockerfile'), re.MULTILINE))


class Program:
    """A container's program as the kubelet would start it, for as long as the with statement takes: the image's variables,
    the container's arguments and variables, all with ports of this machine, and folders in place of what is mounted."""

    def __init__(self, server, container, mounts):
        self.container = container
        self.mounts = sorted(mounts.items(), key=lambda mount: -len(mount[0]))
        self.command = [server] + [self.here(argument) for argument in container['args']]
        own = {entry['name']: entry['value'] for entry in container.get('env', ())}
        self.environment = {**free_of_variables(), **image_variables(), **own}

    def here(self, text):
        """A text of the container as it is on this machine."""
        for path, folder in self.mounts:
            text = text.replace(path, folder)
        return re.sub(r'(0\.0\.0\.0|\[::\]):\d+', '127.0.0.1:0', text)

    def __enter__(self):
        self.log_file = tempfile.NamedTemporaryFile('r', suffix='.log')
        with open(self.log_file.name, 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stderr=log)
        try:
            self.address = self.wait_for_log(r'listening on (127\.0\.0\.1:\d+)')
            self.admin = self.wait_for_log(r'admin port on http://(127\.0\.0\.1:\d+)/')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log_file.close()

    def log(self):
        return read_file(self.log_file.name)

    def wait_for_log(self, pattern):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = re.search(pattern, self.log())
            if found:
                return found[1]
            if self.process.poll() is not None:
                fail(f'{self.command}: ended with {self.process.returncode}: {self.log()}')
            time.sleep(0.05)
        fail(f'{self.command}: no {pattern} after {PATIENCE_S} s: {self.log()}')

    def option(self, name):
        """What the server says that an option is."""
        return self.wait_for_log(rf'option {name} = ([^"\n]*)')

    def ask(self, path):
        """The code and the text that the admin port answers."""
        try:
            with urllib.request.urlopen(f'http://{self.admin}{path}', timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def check_ready(self):
        for path in ('/readyz', '/livez'):
            expect(f'{self.command}: {path}', self.ask(path)[0], 200)

    def terminate(self):
        """SIGTERM; the rest is for the caller to look at."""
        self.process.send_signal(signal.SIGTERM)
