# SPDX-License-Identifier: Apache-2.0
"""What can be tried of a command without the cluster or the engine that it talks to: that the files of this repository
which it names are there, that kubectl knows its flags, and that helm renders the chart."""
import os
import re
import shlex
import shutil
import subprocess

FOLDERS = ('deploy', 'docs', 'proto', 'scripts', 'tests')  # of the repository, that commands name
KUBECTL_GROUPS = ('auth', 'config', 'create', 'rollout', 'set', 'top')  # whose verb is the second word
PATIENCE_S = 60


class DryError(Exception):
    """What is wrong with a command."""


def made_by_commands(root):
    """Paths of the repository that git is told to pass over."""
    with open(os.path.join(root, '.gitignore'), encoding='utf-8') as file:
        return {line.strip().strip('/') for line in file}


def try_dry(text, root):
    """How far the command was tried, in words."""
    words = shlex.split(text, comments=True)
    made = made_by_commands(root)
    for word in words:
        path = word.split('=')[-1].split(':')[0]
        if path.split('/')[0] not in FOLDERS or '/' not in path:
            continue
        if path in made:
            continue
        if not os.path.exists(os.path.join(root, path)):
            raise DryError(f'there is no {path} in the repository')
        if path.endswith('.service') and shutil.which('systemd-analyze'):
            run(['systemd-analyze', 'verify', '--man=no', path], root)
    program = words[0]
    if program not in TRIED:
        return 'its files are there'
    if shutil.which(program) is None:
        return f'its files are there; there is no {program} in PATH'
    return TRIED[program](words, root)


def run(words, root):
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise DryError(f'{shlex.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}')
    return done.stdout


def try_helm(words, root):
    """`install` and `upgrade` render what they would send."""
    verb = words[1]
    if verb in ('install', 'upgrade'):
        run(['helm', 'template', *[word for word in words[2:] if word not in ('--install', '-i')]], root)
        return 'rendered by helm template'
    if verb in ('lint', 'template', 'show', 'package'):
        run(words, root)
        return 'run by helm'
    return 'its files are there'


def try_kubectl(words, root):
    own = words[1:words.index('--')] if '--' in words else words[1:]
    verb = list(own)
    while verb and verb[0].startswith('-'):  # options of all verbs, `--namespace serving` or `--namespace=serving`
        verb = verb[1 if '=' in verb[0] else 2:]
    verb = verb[:2 if verb and verb[0] in KUBECTL_GROUPS else 1]
    known = run(['kubectl', *verb, '--help'], root) + run(['kubectl', 'options'], root)
    for flag in (word.split('=')[0] for word in own if word.startswith('-') and word != '-'):
        if not re.search(rf'(^|[\s,]){re.escape(flag)}[\s,=:]', known, re.MULTILINE):
            raise DryError(f'kubectl {" ".join(verb)} has no {flag}')
    return 'kubectl knows its options'


TRIED = {'helm': try_helm, 'kubectl': try_kubectl}
