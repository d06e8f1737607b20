# SPDX-License-Identifier: Apache-2.0
"""The fenced blocks of a page, and the commands in them.

The words behind a fence say what a block is:

    sh              commands, each on a line of its own, for any machine
    sh WORD         commands that need what WORD names (NEEDS below)
    console         the same with what they print: lines that begin with `$ ` are commands, and `...` in what follows
                    one stands for anything; `console WORD` likewise
    toml, python    and other languages: files (FILES below)
    text            neither: no line of it may begin with a command of ours

A block without any of these is an error: nobody can run it.
"""
import dataclasses
import re
import subprocess

NEEDS = {
    'build': 'the compilers, and minutes where nothing is built yet',
    'docker': 'a Docker engine with the image headlight',
    'compose': 'a Docker engine with docker compose',
    'systemd': 'systemd',
    'cluster': 'a Kubernetes cluster',
}
COMMANDS = ('sh', 'console')
FILES = ('toml', 'python', 'go', 'json', 'yaml', 'text')
OURS = re.compile(r'^\s*(\$ |(headlight|headlight-server|curl|docker|systemctl|kubectl|helm|openssl)\s)', re.MULTILINE)


class PageError(Exception):
    """What is wrong with the page, and at which line where that is not plain."""

    def __init__(self, what, line=0):
        super().__init__(what)
        self.line = line


@dataclasses.dataclass
class Block:
    line: int  # of its first line of text
    language: str
    need: str
    text: str


@dataclasses.dataclass
class Command:
    line: int
    text: str
    wanted: str | None  # what it prints, where the page says so


def read_blocks(page):
    """All fenced blocks, in their order."""
    blocks, info, begin = [], None, 0
    lines = page.split('\n')
    for number, line in enumerate(lines, 1):
        fence = re.fullmatch(r'\s*```\s*(.*?)\s*', line)
        if fence is None:
            continue
        if info is None:
            info, begin = fence[1], number
        elif fence[1]:
            raise PageError(f'a fence opens within the block of line {begin}', number)
        else:
            blocks.append(make_block(begin + 1, info, '\n'.join(lines[begin:number - 1])))
            info = None
    if info is not None:
        raise PageError('the fence is never closed', begin)
    return blocks


def make_block(line, info, text):
    language, need, *more = info.split() + ['', '']
    words = ', '.join(NEEDS)
    if language in COMMANDS:
        if need and need not in NEEDS or any(more):
            raise PageError(f'```{info}: wanted nothing behind {language}, or one of {words}', line - 1)
    elif language not in FILES or need:
        raise PageError(f'```{info}: wanted one of {", ".join(FILES)}, or sh or console with nothing or one of {words} '
                        'behind it', line - 1)
    elif language == 'text' and OURS.search(text):
        raise PageError(f'a text block with a command: {OURS.search(text)[0].strip()}', line - 1)
    return Block(line, language, need, text)


def is_complete(text):
    """Whether a shell would run this rather than read on."""
    parsed = subprocess.run(['bash', '-n'], input=text + '\n', capture_output=True, text=True, check=False)
    return parsed.returncode == 0 and not parsed.stderr and not text.endswith('\\')


def split_commands(block):
    """Of a block of commands: each with the lines that belong to it, and what it prints."""
    commands, begun, begin = [], [], 0
    for number, line in enumerate(block.text.split('\n'), block.line):
        if block.language == 'console' and not begun:
            if not line.startswith('$ '):
                if not commands:
                    raise PageError('a console block begins with "$ "')
                commands[-1].wanted += line.rstrip() + '\n'
                continue
            line = line[2:]
        elif block.language == 'console':
            line = line.removeprefix('> ')
        if not begun and re.fullmatch(r'\s*(#.*)?', line):
            continue
        if not begun:
            begin = number
        begun.append(line)
        if is_complete('\n'.join(begun)):
            commands.append(Command(begin, '\n'.join(begun), '' if block.language == 'console' else None))
            begun = []
    if begun:
        raise PageError(f'the command of line {begin} does not end')
    return commands


def matches(wanted, printed):
    """Whether a command has printed what the page shows."""
    parts = [re.escape(part) for part in wanted.strip().split('...')]
    got = '\n'.join(line.rstrip() for line in printed.strip().split('\n'))
    return re.fullmatch('.*'.join(parts), got, re.DOTALL) is not None
