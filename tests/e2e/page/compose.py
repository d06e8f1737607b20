# SPDX-License-Identifier: Apache-2.0
"""Compose as the page takes it: `docker compose`, an image named by HEADLIGHT_IMAGE, and a fleet that is gone afterwards."""
import os
import shlex
import shutil

from engine import EngineError, docker

CERTIFICATES = 'deploy/tls/test'  # of the page
# `--build` would make the image that there is. Compose 1.29 is a program of its own.
SHELL = '''
unset TLS_DIR
export COMPOSE_PROJECT_NAME=headlight-page COMPOSE_HTTP_TIMEOUT=300 HEADLIGHT_IMAGE={image}
docker() {{
  local word words=()
  for word; do [ "$word" = --build ] || words+=("$word"); done
  if [ "$1" != compose ] || command docker compose version >/dev/null 2>&1; then
    command docker "${{words[@]}}"
  else
    docker-compose "${{words[@]:1}}"
  fi
}}
docker compose version'''


class Fleet:
    """Of `shell`, as long as the with statement takes."""

    def __init__(self, shell, root, image):
        self.shell, self.image, self.certificates = shell, image, os.path.join(root, CERTIFICATES)

    def __enter__(self):
        docker('image', 'inspect', self.image)
        if os.path.exists(self.certificates):
            raise EngineError(f'there is a {CERTIFICATES} in this checkout, which is left alone')
        status, printed = self.shell.run(SHELL.format(image=shlex.quote(self.image)))
        if status != 0:
            raise EngineError(f'docker compose version: {printed}')
        return self

    def __exit__(self, *_):
        self.shell.run('docker compose -f deploy/compose.yaml down --volumes --timeout 5')
        shutil.rmtree(self.certificates, ignore_errors=True)
