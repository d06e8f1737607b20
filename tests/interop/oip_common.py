# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Open Inference Protocol share: their packages, a server, models, and what these must answer.

Expected values are computed in float64 by plain NumPy below, of the model's own files, or come out of the cases of
tests/golden, which the models' own libraries computed in float64.
"""
import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
SET_UP_S = 600  # for packages and programs: where a network is too slow or swallows what is asked, the test skips
PATIENCE_S = 60
# For programs that run for a second: compiling them is what takes long.
GO_FLAGS = "-mod=readonly '-gcflags=all=-N -l' -ldflags=-s"
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, '..', 'golden', 'models')


def name_of_test():
    return os.path.splitext(os.path.basename(sys.argv[0]))[0]


def skip(why):
    print(f'{name_of_test()}: skipped: {why}')
    sys.exit(SKIPPED)


def fail(what):
    sys.exit(f'{name_of_test()}: {what}')


def last_line(text):
    return (text.strip().splitlines() or ['no word'])[-1]


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--server', required=True, help='the program headlight-server')
    parser.add_argument('--client', required=True, help='the program headlight')
    parser.add_argument('--environments', required=True, help='folder for virtual environments and programs that are built')
    return parser.parse_args()


def enter_environment(parent, requirements):
    """Goes on in a virtual environment below `parent` with the packages of a file, by its path or beside this one.

    It is made where it is missing. Skips, in words, where the packages cannot be had."""
    path = os.path.join(HERE, requirements)
    folder = os.path.join(os.path.abspath(parent), os.path.splitext(os.path.basename(path))[0])
    python = os.path.join(folder, 'bin', 'python3')
    if sys.prefix == folder:
        return
    os.makedirs(parent, exist_ok=True)
    with open(path, 'rb') as file:
        wanted = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()
    marker = os.path.join(folder, 'installed')
    with open(folder + '.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(marker) or open(marker, encoding='utf-8').read() != wanted:
            for command in ([sys.executable, '-m', 'venv', '--clear', folder],
                            [python, '-m', 'pip', 'install', '--quiet', '--no-compile', '--disable-pip-version-check',
                             '-r', path]):
                try:
                    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SET_UP_S)
                except subprocess.TimeoutExpired:
                    skip(f'{requirements} cannot be had within {SET_UP_S} s')
                if done.returncode != 0:
                    skip(f'{requirements} cannot be had: {last_line(done.stdout + done.stderr)}')
            with open(marker, 'w', encoding='utf-8') as file:
                file.write(wanted)
    sys.stdout.flush()
    os.execv(python, [python] + sys.argv)


class Server:
    """headlight-server with some options, for as long as the with statement takes."""

    def __init__(self, program, *options):
        self.program, self.options = program, options

    def __enter__(self):
        self.log_file = tempfile.NamedTemporaryFile('r', suffix='.log')
        with open(self.log_file.name, 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen([self.program, '--listen', '127.0.0.1:0', '--admin-listen', '', *self.options],
                                            stderr=log)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r'listening on (127\.0\.0\.1:\d+)', self.log())
            if found:
                self.address = found[1]
                return self
            time.sleep(0.05)
        self.__exit__()
        fail(f'the server does not listen: {self.log()}')

    def __exit__(self, *_):
        self.process.terminate()
        try:
            code = self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code != 0:
            fail(f'the server ended with {code}: {self.log()}')

    def log(self):
        with open(self.log_file.name, encoding='utf-8', errors='replace') as log:
            return log.read()


def make_model(program, folder, *options):
    """A folder with a model of random weights."""
    subprocess.run([program, 'init-model', '--out', folder, *options], check=True, stdout=subprocess.DEVNULL)
    return folder


# The weights of the built-in model demo are those of this folder.
DEMO = ('--embed-dim', '768', '--num-heads', '12', '--norm-placement', 'none', '--seed', '20170612')


def read_safetensors(path):
    """Arrays by name, floats as float64."""
    import numpy as np
    kinds = {'F64': '<f8', 'F32': '<f4', 'I64': '<i8', 'I32': '<i4', 'F16': '<f2', 'U8': '|u1', 'BOOL': '|b1'}
    with open(path, 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        data = file.read()
    arrays = {}
    for name, entry in header.items():
        if name == '__metadata__':
            continue
        begin, end = entry['data_offsets']
        array = np.frombuffer(data[begin:end], dtype=kinds[entry['dtype']]).reshape(entry['shape'])
        arrays[name] = array.astype(np.float64) if array.dtype.kind == 'f' else array
    return arrays


class Attention:
    """One layer of multi-head attention in float64, one sequence at a time, of a folder that init-model made."""

    def __init__(self, folder):
        with open(folder + '/config.json', encoding='utf-8') as file:
            config = json.load(file)
        weights = read_safetensors(folder + '/model.safetensors')
        self.num_heads = int(config['num_heads'])
        self.weights = {name.removeprefix('layers.0.attention.'): array for name, array in weights.items()}

    def project(self, kind, rows):
        return rows @ self.weights['w' + kind] + self.weights.get('b' + kind, 0.0)

    def one(self, query, key, value, causal=False, added=None):
        """(output [q_len, embed_dim], weights [num_heads, q_len, kv_len]) of one sequence."""
        import numpy as np
        heads = lambda rows: rows.reshape(len(rows), self.num_heads, -1).transpose(1, 0, 2)
        q, k, v = (heads(self.project(kind, rows)) for kind, rows in (('q', query), ('k', key), ('v', value)))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        if added is not None:
            scores = scores + added
        if causal:
            scores = np.where(np.tri(len(query), len(key), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = scores / scores.sum(axis=-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(len(query), -1)
        return self.project('o', mixed), weights

    def __call__(self, query, key=None, value=None, lens=None, causal=False):
        """The output [batch, seq_len, embed_dim], zeros where there is padding."""
        import numpy as np
        query = np.asarray(query, dtype=np.float64)
        key = query if key is None else np.asarray(key, dtype=np.float64)
        value = key if value is None else np.asarray(value, dtype=np.float64)
        output = np.zeros(query.shape[:2] + (self.weights['wo'].shape[1],))
        for i, rows in enumerate(query):
            n = len(rows) if lens is None else lens[i]
            own = key is query
            output[i, :n] = self.one(rows[:n], key[i, :n] if own else key[i], value[i, :n] if own else value[i],
                                     causal)[0]
        return output


def expect(what, got, wanted):
    if got != wanted:
        fail(f'{what}: got {got!r}, wanted {wanted!r}')


def expect_near(what, got, wanted, step=2.0**-24):
    """`step`: half the distance of numbers as they travelled, as a part of them; the arithmetic's own error is that of
    f32 over sums of some thousand terms."""
    import numpy as np
    got = np.asarray(got, dtype=np.float64)
    if got.shape != wanted.shape:
        fail(f'{what}: got shape {got.shape}, wanted {wanted.shape}')
    if not np.isfinite(got).all():
        fail(f'{what}: got {np.count_nonzero(~np.isfinite(got))} numbers that are none')
    allowed = 1e-5 * max(1.0, float(np.abs(wanted).max(initial=0.0))) + step * np.abs(wanted)
    excess = np.abs(got - wanted) - allowed
    if excess.max(initial=-1.0) > 0:
        place = np.unravel_index(excess.argmax(), excess.shape)
        fail(f'{what}: got {got[place]} at {[int(i) for i in place]}, wanted {wanted[place]} within {allowed[place]}')
