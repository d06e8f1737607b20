#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every command of docs/operations.md as it is written there, in its order, from the root of the checkout.

What one machine can do runs in a room of its own (room.py), which starts out as this machine with the two programs
installed, and with systemd where that can be. Blocks that need more (blocks.py) are tried dry (dry.py) and told. With
`--class docker --image NAME` those of Docker run instead, on this machine itself (engine.py), and so do with `--class compose`
those of Compose (compose.py). Exits 77, saying why, where there can be no room, or no engine.
"""
import argparse
import contextlib
import os
import shlex
import shutil
import signal
import sys

import compose
import room
import service_manager
from blocks import COMMANDS, PageError, matches, read_blocks, split_commands
from dry import DryError, try_dry
from engine import MODELS, Engine, EngineError
from files import FileError, try_file
from shell import Shell, ShellError

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', '..'))
PAGE = 'docs/operations.md'
PROGRAMS = ('bash', 'curl', 'haproxy', 'openssl', 'pidof', 'promtool')  # that the commands take for granted
PATIENCE_S = 300  # for one command
SKIPPED = 77
ERRORS = (PageError, ShellError, DryError, EngineError, FileError)


def say(text):
    print(text, flush=True)


def skip(why):
    say(f'operations_page: skipped: {why}')
    sys.exit(SKIPPED)


def fail(line, what):
    say(f'operations_page: {PAGE}:{line}: {what}')
    sys.exit(1)


def run(shell, command):
    say(f'{PAGE}:{command.line}: {command.text}')
    status, printed = shell.run(command.text)
    if command.wanted and not matches(command.wanted, printed):
        raise PageError(f'it ended with {status} and printed\n{printed}wanted\n{command.wanted}')
    if not command.wanted and status != 0:
        if command.text.startswith('systemctl '):
            printed += shell.run('journalctl --no-pager --lines 20 --unit headlight')[1]
        raise PageError(f'it ended with {status}: {printed}')


def run_dry(command, why):
    say(f'{PAGE}:{command.line}: not run, {why}: {command.text}: {try_dry(command.text, ROOT)}')


def each(blocks, what):
    """what(block, command) of all commands."""
    for block in blocks:
        line = block.line
        try:
            for command in split_commands(block):
                line = command.line
                what(block, command)
        except ERRORS as error:
            fail(line, error)


def run_in_room(blocks, server, client):
    room.furnish(ROOT, [server, client])
    lacks = {'docker': 'for an engine', 'compose': 'for an engine', 'cluster': 'for a cluster'}
    if os.path.realpath(server) != f'{ROOT}/build/release/bin/headlight-server':
        lacks['build'] = 'build/release is not what is tested'
    if why := service_manager.boot():
        lacks['systemd'] = why
    shell = Shell(ROOT, PATIENCE_S)
    for block in blocks:
        if block.language in COMMANDS:
            each([block], lambda block, command: run_dry(command, lacks[block.need]) if block.need in lacks
                 else run(shell, command))
            continue
        try:
            try_file(shell, block)
        except ERRORS as error:
            fail(block.line, error)
    shell.close()


def models_of(blocks):
    """The commands by which the page fills /models."""
    found = []
    each([block for block in blocks if block.language in COMMANDS and not block.need],
         lambda _, command: found.append(shlex.split(command.text, comments=True)))
    return [words for words in found if words[:2] == ['headlight-server', 'init-model'] and f'{MODELS}/' in words[-1]]


def run_on_engine(blocks, image):
    def run_and_wait(_, command):
        if command.text.startswith('docker build '):
            run_dry(command, f'{image} is its image')
            return
        run(shell, command)
        if command.text.startswith('docker run -d '):
            engine.wait_until_healthy(PATIENCE_S)

    with contextlib.closing(Shell(ROOT, PATIENCE_S)) as shell, Engine(image, models_of(blocks)) as engine:
        each([block for block in blocks if block.need == 'docker'], run_and_wait)


def run_on_compose(blocks, image):
    with contextlib.closing(Shell(ROOT, PATIENCE_S)) as shell, compose.Fleet(shell, ROOT, image):
        each([block for block in blocks if block.need == 'compose'], lambda _, command: run(shell, command))


ON_THIS_MACHINE = {'docker': run_on_engine, 'compose': run_on_compose}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--server', help='the program headlight-server')
    parser.add_argument('--client', help='the program headlight')
    parser.add_argument('--class', dest='need', choices=list(ON_THIS_MACHINE), help='run these blocks instead')
    parser.add_argument('--image', help='with --class: what stands for the image headlight')
    parser.add_argument(room.INSIDE, dest='inside', type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with this
    with open(os.path.join(ROOT, PAGE), encoding='utf-8') as file:
        page = file.read()
    try:
        blocks = read_blocks(page)
    except PageError as error:
        fail(error.line, error)
    if arguments.need:
        try:
            ON_THIS_MACHINE[arguments.need](blocks, arguments.image)
        except EngineError as error:
            skip(error)
    elif arguments.inside is None:
        for program in PROGRAMS:
            if shutil.which(program) is None:
                skip(f'there is no {program} in PATH')
        if why := room.why_not():
            skip(why)
        if code := room.enter(os.path.abspath(__file__), sys.argv[1:]):
            sys.exit(code)
    else:
        with room.exit_code(arguments.inside):
            run_in_room(blocks, arguments.server, arguments.client)
        return
    say(f'operations_page: ok, {len(blocks)} blocks')


if __name__ == '__main__':
    main()
