#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python of README.md and docs/protocol.md, as it is written there, against a real server.

Of each document all blocks run in their order, in one namespace; what a document takes for granted is given. Exits 77,
saying why, where tritonclient cannot be had."""
import os
import re
import shlex
import subprocess
import sys
import tempfile

import oip_common
from oip_common import expect, fail

ARGUMENTS = oip_common.arguments(__doc__)
oip_common.enter_environment(ARGUMENTS.environments, 'oip_requirements.txt')

import numpy as np  # noqa: E402

ROOT = os.path.abspath(os.path.join(oip_common.HERE, '..', '..'))
ADDRESS = '127.0.0.1:8001'  # of the server, in all documents


def read(document):
    with open(os.path.join(ROOT, document), encoding='utf-8') as file:
        return file.read()


def generate_stubs(folder):
    """By the command that the README gives, which reads proto/ and writes where it is called."""
    os.symlink(os.path.join(ROOT, 'proto'), os.path.join(folder, 'proto'))
    command = re.search(r'^python (-m grpc_tools\.protoc .*)$', read('README.md'), re.MULTILINE)
    if command is None:
        fail('README.md: there is no line that begins with "python -m grpc_tools.protoc"')
    subprocess.run([sys.executable, *shlex.split(command[1])], cwd=folder, check=True)
    sys.path.insert(0, folder)


def run_blocks(document, address, given):
    """What the blocks have left behind."""
    blocks = list(re.finditer(r'^```python\n(.*?)^```$', read(document), re.MULTILINE | re.DOTALL))
    names = dict(given)
    for block in blocks:
        line = read(document).count('\n', 0, block.start(1))
        code = '\n' * line + block[1].replace(ADDRESS, address)  # so that errors name the document's lines
        exec(compile(code, document, 'exec'), names)
    print(f'oip_documents: {document}: {len(blocks)} blocks', flush=True)
    return names


def tokenizer(texts, padding, return_tensors):
    """Arrays as a tokenizer makes them, of ids that a small model has."""
    expect('what the tokenizer is asked for', (padding, return_tensors), (True, 'np'))
    lens = np.array([len(text.split()) + 2 for text in texts])
    mask = (np.arange(lens.max()) < lens[:, None]).astype(np.int64)
    return {'input_ids': mask * 7, 'token_type_ids': mask * 0, 'attention_mask': mask}


def main():
    with tempfile.TemporaryDirectory() as folder:
        generate_stubs(folder)
        encoder = oip_common.make_model(ARGUMENTS.server, folder + '/encoder', '--embed-dim', '32', '--num-heads', '4',
                                        '--vocab-size', '30522', '--max-positions', '8', '--seed', '5')
        with oip_common.Server(ARGUMENTS.server, '--allow-shared-memory', '--models', 'demo', f'--model=encoder={encoder}',
                               f'--model=minilm={oip_common.GOLDEN}/bert', '--pooling', 'minilm=mean') as server:
            names = run_blocks('README.md', server.address, {})
            expect('README.md: shape of the output', names['output'].shape, (2, 16, 768))
            expect('README.md: shape of the weights', names['weights'].shape, (2, 12, 16, 16))
            expect('README.md: shape of the vectors', names['vectors'].shape, (2, 32))
            names = run_blocks('docs/protocol.md', server.address, {'tokenizer': tokenizer})
            names['shm'].destroy_shared_memory_region(names['region'])
            expect('docs/protocol.md: shape of the output', names['output'].shape, (2, 16, 768))
            expect('docs/protocol.md: shape of the vectors', names['vectors'].shape, (2, 48))
    print('oip_documents: ok')


if __name__ == '__main__':
    main()
