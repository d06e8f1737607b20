# SPDX-License-Identifier: Apache-2.0
"""The Docker engine of this machine as the page takes it: an image named headlight, and models in /models."""
import os
import shutil
import subprocess
import time

MODELS = '/models'
IMAGE = 'headlight'


class EngineError(Exception):
    """Why the engine cannot be had, or what a container did."""


def docker(*words):
    done = subprocess.run(['docker', *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f'docker {" ".join(words)}: {done.stderr.strip()}')
    return done.stdout.strip()


class Engine:
    """As long as the with statement takes. Afterwards what was made is gone, the page's containers too."""

    def __init__(self, image, make_models):
        """`make_models`: commands of the page that fill /models, `headlight-server init-model ...`."""
        self.image, self.make_models = image, make_models

    def __enter__(self):
        if os.path.exists(MODELS):
            raise EngineError(f'there is a {MODELS} on this machine, which is left alone')
        self.before = subprocess.run(['docker', 'image', 'inspect', '--format', '{{.Id}}', IMAGE], capture_output=True,
                                     text=True, check=False).stdout.strip()
        self.containers = self.list()
        docker('tag', self.image, IMAGE)
        os.mkdir(MODELS)
        try:
            for words in self.make_models:
                docker('run', '--rm', '--user', '0:0', '--volume', f'{MODELS}:{MODELS}', '--entrypoint', words[0],
                       IMAGE, *words[1:])
        except BaseException:
            self.__exit__()
            raise
        return self

    def list(self):
        return set(docker('ps', '--all', '--quiet', '--filter', f'ancestor={self.image}').split())

    def wait_until_healthy(self, patience_s):
        """Of what the page has started since."""
        end = time.monotonic() + patience_s
        for container in self.list() - self.containers:
            while (state := docker('inspect', '--format', '{{.State.Status}} {{.State.Health.Status}}', container)) != (
                    'running healthy'):
                if time.monotonic() > end or not state.startswith('running'):
                    raise EngineError(f'the container is {state}: {docker("logs", container)}')
                time.sleep(0.5)

    def __exit__(self, *_):
        for container in self.list() - self.containers:
            docker('rm', '--force', container)
        docker('tag', self.before, IMAGE) if self.before else docker('rmi', '--no-prune', IMAGE)
        shutil.rmtree(MODELS)
