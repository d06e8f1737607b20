# SPDX-License-Identifier: Apache-2.0
"""The files that a page shows: what reads them says whether they are any."""
import ast
import json
import shutil
import subprocess
import tomllib

FILE = '/tmp/page.toml'


class FileError(Exception):
    """What is wrong with a file."""


def try_toml(shell, text):
    """The server takes it: as its tokens where it has any, else as its options."""
    option = '--tokens' if 'token' in tomllib.loads(text) else '--config'
    with open(FILE, 'w', encoding='utf-8') as file:
        file.write(text)
    shell.run(f'headlight-server {option} {FILE} --listen unix:/tmp/page.socket --admin-listen "" &')
    status, printed = shell.run('kill "$!" && wait "$!"')
    if status != 0:
        raise FileError(f'the server ended with {status}: {printed}')


def try_go(_, text):
    """Statements or a whole file, where there is gofmt."""
    if shutil.which('gofmt') is None:
        return
    whole = text if text.startswith('package') else f'package page\n\nfunc _() {{\n{text}\n}}\n'
    parsed = subprocess.run(['gofmt', '-e'], input=whole, capture_output=True, text=True, check=False)
    if parsed.returncode != 0:
        raise FileError(f'gofmt: {parsed.stderr}')


TRIED = {'toml': try_toml, 'go': try_go,
         'python': lambda _, text: ast.parse(text), 'json': lambda _, text: json.loads(text)}


def try_file(shell, block):
    try:
        TRIED.get(block.language, lambda *_: None)(shell, block.text)
    except (SyntaxError, ValueError) as error:
        raise FileError(f'{block.language}: {error}') from error
