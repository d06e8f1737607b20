# SPDX-License-Identifier: Apache-2.0
"""What the kubelet does for a pod before its program starts: it mounts models, Secrets and the file of options."""
import os
import subprocess

from kubernetes_common import oip_common, read_file


class Secrets:
    """A volume of a Secret as the kubelet writes it: files that lead through a link, which an update replaces."""

    def __init__(self, folder, names):
        self.folder, self.names, self.count = folder, names, 0
        os.makedirs(folder)

    def write(self, *contents):
        self.count += 1
        version = f'{self.folder}/..{self.count}'
        os.mkdir(version)
        for name, content in zip(self.names, contents):
            with open(f'{version}/{name}', 'w', encoding='utf-8') as file:
                file.write(content)
            if not os.path.islink(f'{self.folder}/{name}'):
                os.symlink(f'..data/{name}', f'{self.folder}/{name}')
        os.symlink(f'..{self.count}', f'{self.folder}/..data_tmp')
        os.rename(f'{self.folder}/..data_tmp', f'{self.folder}/..data')
        return self.folder


def make_certificate(folder):
    """A certificate and its key, in PEM."""
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                    '-days', '2', '-subj', '/CN=headlight', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout',
                    f'{folder}/key', '-out', f'{folder}/certificate'], check=True, capture_output=True)
    return read_file(folder, 'certificate'), read_file(folder, 'key')


class Node:
    """What the kubelet mounts into pods: a folder on this machine for each path."""

    def __init__(self, server, root):
        self.root, self.number = root, 0
        for name in ('encoder', 'reranker'):
            oip_common.make_model(server, f'{root}/repository/{name}', '--embed-dim', '32', '--num-heads', '2', '--seed', '3')
        made = subprocess.run([server, 'hash-token', '--name', 'search'], input='f' * 64, text=True, check=True,
                              capture_output=True)
        self.tokens = made.stdout
        self.certificates = [make_certificate(root) for _ in range(2)]

    def mounts(self, release):
        self.number += 1
        folder = f'{self.root}/{self.number}'
        mounts = {}
        certificate, key = self.certificates[0]
        for mount in release.container['volumeMounts']:
            path, name = mount['mountPath'], mount['name']
            if name == 'models':
                served = self.root + '/repository'
                mounts[path] = served if release.option('model-repository') else served + '/encoder'
            elif name == 'tls':
                self.tls = Secrets(f'{folder}/tls', ['tls.crt', 'tls.key'])
                mounts[path] = self.tls.write(certificate, key)
            elif name in ('client-ca', 'tokens'):
                file = os.path.basename(release.option('tls-client-ca' if name == 'client-ca' else name))
                content = certificate if name == 'client-ca' else self.tokens
                mounts[path] = Secrets(f'{folder}/{name}', [file]).write(content)
        # The file of options names paths of the container: its own copy names those of this machine.
        toml = release.toml
        for path, here in sorted(mounts.items(), reverse=True):
            toml = toml.replace(path, here)
        mounts['/etc/headlight/config'] = Secrets(f'{folder}/config', ['headlight.toml']).write(toml)
        return mounts
