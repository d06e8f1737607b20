#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Helm chart: linted, rendered for each file of its ci/ folder, checked against the schemas of two versions of
Kubernetes and against itself, and its pods' programs started with the arguments, files and variables that it renders.

Exits 77, saying why, where there is neither Helm nor a Go that builds it, or no packages with schemas."""
import glob
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time

import kubernetes_common
from kubernetes_common import (GO_FLAGS, HERE, KUBERNETES_VERSIONS, PATIENCE_S, PROMETHEUS_OPERATOR, ROOT, SET_UP_S,
                               Definitions, Program, check_kubernetes, check_probes, check_security, expect, fail,
                               flags_of, last_line, read_file, read_yaml, skip)
from node import Node

ARGUMENTS = kubernetes_common.start()

CHART = os.path.normpath(os.path.join(ROOT, 'deploy', 'helm', 'headlight'))
GRPC, ADMIN = 8001, 8002
RESERVE_S = 2  # of the server itself, between its grace and its end
SELECTOR = {'app.kubernetes.io/name': 'headlight', 'app.kubernetes.io/instance': 'test'}
OPTIONS = 'headlight-options'  # the annotation that holds them
ALWAYS = ['Deployment', 'Service', 'Service']
KINDS = {  # what each file of values asks for, beside that
    'minimal': ['NetworkPolicy', 'PodDisruptionBudget', 'ServiceAccount'],
    'full': ['HorizontalPodAutoscaler', 'NetworkPolicy', 'PodDisruptionBudget', 'ServiceAccount', 'ServiceMonitor'],
    'tls': ['NetworkPolicy', 'PodDisruptionBudget', 'ServiceAccount'],
    'init-container': ['NetworkPolicy'],
    'mesh': ['HorizontalPodAutoscaler', 'ServiceAccount'],
}
NOTES = {
    'minimal': ['headlight:0.1.0: 2 pods in', 'test-headlight.serving:8001', 'built-in models', 'Only pods of serving may call'],
    'full': ['3 to 12 pods', 'test-headlight-headless.serving:8001', 'test-headlight.serving:443', 'headlight-tls has to name',
             'serving/pods/*/headlight_backlog_seconds'],
    'mesh': ['No NetworkPolicy'],
}
# What must be refused, and with which words.
REFUSED = [
    ('replica=3', 'replica'),
    ('replicas=two', 'replicas'),
    ('config.max-stream=5', 'max-stream'),
    ('config.log-level=loud', 'log-level'),
    ('config.lame-duck-s=5', 'lame-duck-s'),
    ('resources.limits.memory=null', 'memory'),
    ('resources.limits.cpu=four', 'cpu'),
    ('image.digest=sha256:12', 'digest'),
    ('service.type=ExternalName', 'service'),
    ('listenHost=127.0.0.1', 'listenHost'),
    ('runAsUser=0', 'runAsUser'),
    ('probes.periodSeconds=0', 'periodSeconds'),
    ('autoscaling.minReplicas=0', 'minReplicas'),
    ('tls.clientCa.name=ca', 'clientCa'),
    ('lameDuckSeconds=9', 'lameDuckSeconds: got 9, wanted twice probes.periodSeconds, 5, or more'),
    ('tokens.secretName=t', 'tokens.secretName: got no tls.secretName'),
    ('tls.clientCa.secretName=ca', 'tls.clientCa.secretName: wanted tls.secretName'),
    ('autoscaling.enabled=true,autoscaling.minReplicas=9', 'autoscaling.minReplicas: got 9, wanted at most'),
    ('autoscaling.enabled=true,autoscaling.backlogMilliseconds=0,autoscaling.cpuUtilization=0', 'autoscaling: wanted'),
    ('podDisruptionBudget.maxUnavailable=2', 'podDisruptionBudget.maxUnavailable: got 2, wanted fewer than the 2'),
    ('models.image.reference=a,models.persistentVolumeClaim.claimName=b', 'models: got persistentVolumeClaim and image'),
    ('models.initContainer.image=a', 'networkPolicy.egress: got none'),
    ('config.otlp-endpoint=http://c:4318', 'networkPolicy.egress: got none'),
    ('config.max-message-bytes=1', 'max-message-bytes'),
    ('config.receive-window-bytes=65535', 'receive-window-bytes'),
    ('config.model={a=/a},models.name=b,models.image.reference=c', 'config.model: got models.name'),
    ('config.load={a}', 'config.load: wanted a repository'),
    ('config.load={a},models.name=a,models.image.reference=c', 'config.load: wanted a repository'),
    ('config.repository-poll-s=1', 'config.repository-poll-s: wanted'),
    ('config.default-deadline-ms=9,config.max-deadline-ms=8', 'config.default-deadline-ms: got more'),
    ('config.memory-for-models=9,config.memory-limit=8', 'config.memory-for-models: got more'),
]


def build_helm(environments):
    """The program, built from the module beside this file."""
    if shutil.which('go') is None:
        skip('there is neither helm nor go in PATH')
    folder = os.path.join(environments, 'helm')
    os.makedirs(folder + '/module', exist_ok=True)
    for name in ('go.mod', 'go.sum'):
        shutil.copy(os.path.join(HERE, 'helm_program', name), folder + '/module')
    environment = dict(os.environ, GOBIN=folder + '/bin', GOFLAGS=GO_FLAGS)
    try:
        done = subprocess.run(['go', 'install', 'tool'], cwd=folder + '/module', env=environment, capture_output=True,
                              text=True, check=False, timeout=SET_UP_S)
    except subprocess.TimeoutExpired:
        skip(f'helm cannot be built within {SET_UP_S} s')
    if done.returncode != 0:
        skip(f'helm cannot be built: {last_line(done.stdout + done.stderr)}')
    return folder + '/bin/helm'


class Helm:
    def __init__(self, environments):
        self.program = shutil.which('helm') or build_helm(environments)

    def run(self, *arguments):
        """The exit code and what was said."""
        home = tempfile.gettempdir() + '/no-helm'  # whatever the user has set up is not used
        environment = {**os.environ, 'HELM_CONFIG_HOME': home, 'HELM_DATA_HOME': home, 'HELM_CACHE_HOME': home,
                       'KUBECONFIG': home}
        done = subprocess.run([self.program, *arguments], env=environment, capture_output=True, text=True, check=False,
                              timeout=120)
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def must(self, *arguments):
        code, text = self.run(*arguments)
        expect(f'helm {" ".join(arguments)}: {text}: exit code', code, 0)
        return text

    def template(self, *options, version=KUBERNETES_VERSIONS[-1], chart=CHART):
        return read_yaml(self.must('template', 'test', chart, '--namespace', 'serving', '--kube-version', version,
                                   *options))


class Release:
    """What the chart renders of some values."""

    def __init__(self, manifests):
        self.manifests = manifests
        self.pod = self.one('Deployment')['spec']['template']['spec']
        self.container = self.pod['containers'][0]
        self.labels = self.one('Deployment')['spec']['template']['metadata']['labels']
        self.toml = self.one('Deployment')['spec']['template']['metadata']['annotations'][OPTIONS]

    def all(self, kind):
        return [manifest for manifest in self.manifests if manifest['kind'] == kind]

    def one(self, kind):
        found = self.all(kind)
        expect(f'{kind}: how many', len(found), 1)
        return found[0]

    def option(self, name):
        found = re.search(rf'^{name} = (.*)$', self.toml, re.MULTILINE)
        return found[1].strip('"') if found else None


def values_of(name):
    return os.path.join(CHART, 'ci', name + '-values.yaml')


def is_part(part, whole):
    return part.items() <= whole.items()


def check_against_schemas(helm, names):
    monitors = Definitions(*PROMETHEUS_OPERATOR)
    for name in names:
        helm.must('lint', '--strict', CHART, '--values', values_of(name))
        for version in KUBERNETES_VERSIONS:
            manifests = helm.template('--values', values_of(name), version=version)
            expect(f'{name}: kinds', sorted(manifest['kind'] for manifest in manifests), sorted(ALWAYS + KINDS[name]))
            for manifest in manifests:
                if manifest['kind'] == 'ServiceMonitor':
                    monitors.check(manifest)
                else:
                    check_kubernetes(manifest, version)


def check_labels(what, release):
    """Whatever looks for the pods finds them, and only those of this release."""
    deployment = release.one('Deployment')['spec']
    expect(f'{what}: selector', deployment['selector']['matchLabels'], SELECTOR)
    looking = [entry['labelSelector'] for entry in release.pod.get('topologySpreadConstraints', ())]
    looking += [manifest['spec']['selector'] for manifest in release.all('PodDisruptionBudget')]
    looking += [manifest['spec']['podSelector'] for manifest in release.all('NetworkPolicy')]
    looking += [{'matchLabels': manifest['spec']['selector']} for manifest in release.all('Service')]
    for selector in [deployment['selector'], *looking]:
        expect(f'{what}: {selector} finds {release.labels}', is_part(selector['matchLabels'], release.labels), True)
        expect(f'{what}: {selector} finds no other release', is_part(SELECTOR, selector['matchLabels']), True)
    names = [(manifest['kind'], manifest['metadata']['name']) for manifest in release.manifests]
    expect(f'{what}: names', len(names), len(set(names)))


def check_ports(what, release):
    ports = {port['name']: port['containerPort'] for port in release.container['ports']}
    expect(f'{what}: ports', ports, {'grpc': GRPC, 'admin': ADMIN})
    flags = flags_of(release.container)
    expect(f'{what}: --listen', flags['listen'].rsplit(':', 1)[1], str(GRPC))
    expect(f'{what}: --admin-listen', flags['admin-listen'].rsplit(':', 1)[1], str(ADMIN))
    check_probes(what, release.container, GRPC, ADMIN, release.option('tls-cert') is not None)
    for service in release.all('Service'):
        for port in service['spec']['ports']:
            expect(f'{what}: {port} of {service["metadata"]["name"]}', port['targetPort'], port['name'])
            expect(f'{what}: {port["name"]} is a port', port['name'] in ports, True)
    headless = [service for service in release.all('Service') if service['spec'].get('clusterIP') == 'None']
    expect(f'{what}: headless services', len(headless), 1)
    for monitor in release.all('ServiceMonitor'):
        selector = monitor['spec']['selector']['matchLabels']
        found = [service for service in release.all('Service') if is_part(selector, service['metadata']['labels'])]
        expect(f'{what}: services that are scraped', found, headless)
        expect(f'{what}: the job that rules ask for', found[0]['metadata']['labels'][monitor['spec']['jobLabel']], 'headlight')
        scraped = [port['name'] for port in headless[0]['spec']['ports']]
        expect(f'{what}: scraped', [entry['port'] in scraped for entry in monitor['spec']['endpoints']], [True])
    for policy in release.all('NetworkPolicy'):
        opened = [port['port'] for rule in policy['spec']['ingress'] for port in rule['ports']]
        expect(f'{what}: opened', set(opened) <= {GRPC, ADMIN} and GRPC in opened, True)
        expect(f'{what}: each rule says for whom', all(rule['from'] for rule in policy['spec']['ingress']), True)
        expect(f'{what}: directions', policy['spec']['policyTypes'], ['Ingress', 'Egress'])


def check_shutdown(what, release):
    """Those who balance have time to notice, and the kubelet waits for the answers."""
    lame_duck_s, grace_s = int(release.option('lame-duck-s')), int(flags_of(release.container)['shutdown-grace-s'])
    given_s = release.pod['terminationGracePeriodSeconds']
    if given_s < lame_duck_s + grace_s + RESERVE_S:
        fail(f'{what}: terminationGracePeriodSeconds: got {given_s}, wanted {lame_duck_s} + {grace_s} + {RESERVE_S}')
    probe = release.container['readinessProbe']
    if lame_duck_s < 2 * probe['periodSeconds'] * probe['failureThreshold']:
        fail(f'{what}: lame duck: got {lame_duck_s} s, wanted twice the readiness of {probe}')
    expect(f'{what}: a hook that delays SIGTERM', 'lifecycle' in release.container, False)
    deployment = release.one('Deployment')['spec']
    started_s = release.container['startupProbe']['failureThreshold'] * release.container['startupProbe']['periodSeconds']
    if deployment['progressDeadlineSeconds'] <= started_s:
        fail(f'{what}: progressDeadlineSeconds: got {deployment["progressDeadlineSeconds"]}, wanted more than {started_s}')


def check_replicas(what, release):
    deployment = release.one('Deployment')
    scalers = release.all('HorizontalPodAutoscaler')
    expect(f'{what}: replicas are said once', 'replicas' in deployment['spec'], not scalers)
    least = deployment['spec'].get('replicas')
    for scaler in scalers:
        least = scaler['spec']['minReplicas']
        target = scaler['spec']['scaleTargetRef']
        expect(f'{what}: what is scaled', (target['apiVersion'], target['kind'], target['name']),
               (deployment['apiVersion'], deployment['kind'], deployment['metadata']['name']))
        for metric in scaler['spec']['metrics']:
            if metric['type'] == 'ContainerResource':
                expect(f'{what}: scaled by', metric['containerResource']['container'], release.container['name'])
                # What is not requested is the limit.
                resources = release.container['resources']
                expect(f'{what}: CPUs are requested', 'cpu' in {**resources['limits'], **resources.get('requests', {})}, True)
    for budget in release.all('PodDisruptionBudget'):
        if not 0 < budget['spec']['maxUnavailable'] < least:
            fail(f'{what}: maxUnavailable: got {budget["spec"]["maxUnavailable"]}, wanted 1 to {least} - 1')


def check_pod(what, release):
    pod = release.pod
    security = pod['securityContext']
    expect(f'{what}: runAsNonRoot', security['runAsNonRoot'], True)
    expect(f'{what}: seccomp', security['seccompProfile'], {'type': 'RuntimeDefault'})
    user = re.search(r'^USER (\d+):', read_file(ROOT, 'Dockerfile'), re.MULTILINE)[1]
    if 'runAsUser' in security:
        expect(f'{what}: user', (str(security['runAsUser']), str(security['fsGroup'])), (user, user))
    for container in pod['containers'] + pod.get('initContainers', []):
        check_security(what, container)
        mounted = [mount['name'] for mount in container['volumeMounts']]
        expect(f'{what}: mounts are volumes', set(mounted) <= {volume['name'] for volume in pod['volumes']}, True)
    expect(f'{what}: every volume is mounted', {mount['name'] for mount in release.container['volumeMounts']},
           {volume['name'] for volume in pod['volumes']})
    expect(f'{what}: all is read-only', all(mount['readOnly'] for mount in release.container['volumeMounts']), True)
    expect(f'{what}: token', pod['automountServiceAccountToken'], False)
    expect(f'{what}: service links', pod['enableServiceLinks'], False)
    for account in release.all('ServiceAccount'):
        expect(f'{what}: account', (account['metadata']['name'], account['automountServiceAccountToken']),
               (pod['serviceAccountName'], False))
    expect(f'{what}: the file of options', pod['volumes'][0]['downwardAPI']['items'],
           [{'path': 'headlight.toml', 'fieldRef': {'fieldPath': f"metadata.annotations['{OPTIONS}']"}}])


def check_refusals(helm):
    for given, words in REFUSED:
        code, text = helm.run('template', 'test', CHART, '--kube-version', KUBERNETES_VERSIONS[-1], '--set', given)
        if code == 0 or words not in text:
            fail(f'{given}: got exit code {code}, {text[:500]!r}, wanted a refusal with {words!r}')


def check_changes(helm):
    """Options make other pods, since they are read at the start; what no pod sees does not."""
    pods = lambda *options: Release(helm.template(*options)).one('Deployment')['spec']['template']
    before = pods()
    expect('another option, other pods', pods('--set', 'config.max-streams=99') == before, False)
    expect('another lame duck, other pods', pods('--set', 'lameDuckSeconds=11') == before, False)
    expect('another service, the same pods', pods('--set', 'service.port=9') == before, True)
    spans = Release(helm.template('--set', 'config.otlp-endpoint=http://c:4318,networkPolicy.enabled=false'))
    expect('time for the last spans', spans.pod['terminationGracePeriodSeconds'],
           before['spec']['terminationGracePeriodSeconds'] + 5)
    expect('a name of its own', Release(helm.template('--set', 'fullnameOverride=x')).one('Deployment')['metadata']['name'],
           'x')


def check_options(server):
    """The schema of `config` has every option of the server but those that the chart sets itself."""
    text = subprocess.run([server, '--help'], check=True, capture_output=True, text=True).stdout
    options = set(re.findall(r'^ +(?:-\w,)?--([a-z][a-z0-9-]*)', text, re.MULTILINE)) - {'help', 'version', 'config'}
    of_chart = {'listen', 'admin-listen', 'model-repository', 'lame-duck-s', 'shutdown-grace-s', 'tls-cert', 'tls-key',
                'tls-client-ca', 'tokens'}
    schema = json.loads(read_file(CHART, 'values.schema.json'))
    expect('config in values.schema.json: options', sorted(schema['properties']['config']['properties']),
           sorted(options - of_chart))
    version = re.search(r'project\(headlight VERSION (\S+)', read_file(ROOT, 'CMakeLists.txt'))[1]
    expect('Chart.yaml: appVersion', read_yaml(read_file(CHART, 'Chart.yaml'))[0]['appVersion'], version)


def check_program(what, release, node):
    """What the chart renders is what the server takes, and it serves with it."""
    with Program(ARGUMENTS.server, release.container, node.mounts(release)) as program:
        program.check_ready()
        expect(f'{what}: lame duck', program.option('lame-duck-s'), release.option('lame-duck-s'))
        expect(f'{what}: grace', program.option('shutdown-grace-s'), flags_of(release.container)['shutdown-grace-s'])
        served = [model['name'] for model in json.loads(program.ask('/models')[1])['models']]
        expect(f'{what}: models', sorted(served), {
            'minimal': ['demo'], 'full': ['encoder', 'reranker'], 'tls': ['encoder'],
            'init-container': ['demo-gqa', 'encoder', 'reranker'], 'mesh': ['demo', 'demo-gqa']}[what])
        if release.option('tls-cert') is None:
            # As the kubelet's gRPC probe asks: no TLS, no token.
            subprocess.run([ARGUMENTS.client, 'health', '--server', program.address], check=True, capture_output=True,
                           timeout=PATIENCE_S)
        for scaler in release.all('HorizontalPodAutoscaler'):
            check_metrics(what, scaler, program)
        if what == 'tls':
            check_rotation(node, program)
        if what == 'minimal':
            check_drain(release, program)


def check_metrics(what, scaler, program):
    """The server has the metric by which it is scaled, and the adapter's rule makes it one of pods."""
    for metric in scaler['spec']['metrics']:
        if metric['type'] != 'Pods':
            continue
        name = metric['pods']['metric']['name']
        value = re.search(rf'^{name} (\S+)$', program.ask('/metrics')[1], re.MULTILINE)
        expect(f'{what}: {name} is a metric', value is not None, True)
        rules = read_yaml(read_file(ROOT, 'deploy', 'helm', 'prometheus-adapter-values.yaml'))[0]['rules']['custom']
        expect(f'{what}: {name} has a rule', [rule['seriesQuery'].split('{')[0] for rule in rules], [name])


def check_rotation(node, program):
    host, port = program.address.rsplit(':', 1)
    ask = lambda: ssl.get_server_certificate((host, int(port)), timeout=10).strip()
    (old, _), new = node.certificates
    expect('the certificate', ask(), old.strip())
    node.tls.write(*new)
    end = time.monotonic() + PATIENCE_S
    while ask() != new[0].strip():
        if time.monotonic() > end:
            fail(f'the new certificate is not shown after {PATIENCE_S} s: {program.log()}')
        time.sleep(0.2)


def check_drain(release, program):
    """SIGTERM, as the kubelet sends it: at once not ready, and serving on; gone before the kubelet kills."""
    begin = time.monotonic()
    program.terminate()
    while program.ask('/readyz')[0] == 200:
        if time.monotonic() > begin + PATIENCE_S:
            fail(f'ready {PATIENCE_S} s after SIGTERM')
        time.sleep(0.05)
    subprocess.run([ARGUMENTS.client, 'attend', '--server', program.address, '--model', 'demo', '--shape', '1x5'],
                   check=True, capture_output=True, timeout=PATIENCE_S)
    expect('while a lame duck: /livez', program.ask('/livez')[0], 200)
    code = program.process.wait(timeout=release.pod['terminationGracePeriodSeconds'])
    took_s = time.monotonic() - begin
    expect(f'after the drain: {program.log()}: exit code', code, 0)
    if took_s < int(release.option('lame-duck-s')):
        fail(f'lame duck: got {took_s} s, wanted {release.option("lame-duck-s")} s at least')


def check_notes(helm):
    """What is printed after an installation. Helm shows it where there is a cluster; here it is a manifest's text."""
    with tempfile.TemporaryDirectory() as root:
        chart = shutil.copytree(CHART, root + '/headlight')
        notes = read_file(chart, 'templates', 'NOTES.txt')
        with open(chart + '/templates/notes.yaml', 'w', encoding='utf-8') as file:
            file.write('{{ define "notes" }}' + notes + '{{ end }}\nkind: Notes\ntext: {{ include "notes" . | quote }}\n')
        for name, wanted in NOTES.items():
            [text] = [manifest['text'] for manifest in helm.template('--values', values_of(name), chart=chart)
                      if manifest['kind'] == 'Notes']
            for words in wanted:
                expect(f'{name}: {words!r} is in the notes, {text!r}', words in text, True)


def main():
    check_options(ARGUMENTS.server)
    helm = Helm(os.path.abspath(ARGUMENTS.environments))
    names = sorted(os.path.basename(path).removesuffix('-values.yaml') for path in glob.glob(values_of('*')))
    expect('files of values', names, sorted(KINDS))
    check_against_schemas(helm, names)
    check_refusals(helm)
    check_changes(helm)
    check_notes(helm)
    with tempfile.TemporaryDirectory() as root:
        node = Node(ARGUMENTS.server, root)
        for name in names:
            release = Release(helm.template('--values', values_of(name)))
            for check in (check_labels, check_ports, check_shutdown, check_replicas, check_pod):
                check(name, release)
            check_program(name, release, node)
    print('helm_chart: ok')


if __name__ == '__main__':
    main()
