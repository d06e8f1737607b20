#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of Headlight beside OpenVINO, zentorch and ONNX Runtime, all in process, on the same layers and encoders.

Each engine is a worker process with the same random parameters and inputs in memory. Answers are checked against each other;
then workers take turns, round by round, while those whose turn it is not are stopped (SIGSTOP), so that no spinning thread of
theirs takes a core. A figure is the median over the rounds, a ratio the median of the rounds' ratios. Ragged batches: a peer's
better form counts, padded or in buckets by length. Peers get an environment each below build/peers, and are skipped with a line
where it cannot be had. Prints a table, writes JSON. Leave the machine alone meanwhile."""
import argparse
import contextlib
import datetime
import filecmp
import json
import os
import selectors
import shutil
import signal
import statistics
import subprocess
import sys
import time

import answers
import cases
import report

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
WORK = os.path.join(ROOT, 'build', 'peers')
PEERS = ['openvino', 'zentorch', 'onnxruntime']
OURS = 'Headlight'


def say(*words):
    print('peers:', *words, file=sys.stderr, flush=True)


class WorkerError(Exception):
    pass


class Worker:
    """A process that speaks worker.py's lines. It stands still but while it is asked something. In a group of its own, which the
    kernel hangs up if run.py dies."""

    def __init__(self, command, threads, log):
        self.log = log
        with open(log, 'a', encoding='utf-8') as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                            encoding='utf-8', process_group=0)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.signal(signal.SIGSTOP)
        try:
            told = self.ask(do='hello', threads=threads)
        except WorkerError:
            self.stop()
            raise
        self.name, self.version, self.precisions = told['engine'], told['version'], told['precisions']

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ask(self, patience_s=300, **what):
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(what) + '\n')
            self.process.stdin.flush()
            # In steps, so that whoever stops everything for a while to measure costs a step.
            line = self.process.stdout.readline() if any(self.selector.select(1) for _ in range(patience_s)) else ''
        except BrokenPipeError:
            line = ''
        finally:
            self.signal(signal.SIGSTOP)
        if not line:
            raise WorkerError(f'it has ended, or says nothing within {patience_s} s; see {self.log}')
        reply = json.loads(line)
        if 'error' in reply:
            raise WorkerError(reply['error'])
        return reply

    def stop(self):
        self.signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self.selector.close()
        self.process.stdout.close()


def environment(engine):
    """The Python of the engine's environment, which is made if it is not there; raises WorkerError saying why it cannot be had."""
    wanted = os.path.join(HERE, engine + '_requirements.txt')
    folder = os.path.join(WORK, engine)
    python, installed = os.path.join(folder, 'bin', 'python3'), os.path.join(folder, 'installed')
    if not (os.path.exists(installed) and filecmp.cmp(wanted, installed, shallow=False)):
        say(f'{engine}: installing its packages into {folder}')
        for command in ([sys.executable, '-m', 'venv', '--clear', folder],
                        [python, '-m', 'pip', 'install', '-q', '--no-cache-dir', '--disable-pip-version-check', '-r', wanted]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8', check=False)
            if done.returncode != 0:
                raise WorkerError((done.stdout.strip().splitlines() or ['no reason given'])[-1])
        shutil.copy(wanted, installed)
    return python


def commands(engines, binaries, skipped):
    """How each worker is started, ours first; adds a line to `skipped` for each peer that cannot be had."""
    made = {OURS: [os.path.join(binaries, 'headlight_worker')]}
    for engine in engines:
        try:
            made[engine] = [environment(engine), os.path.join(HERE, engine + '_worker.py')]
        except (WorkerError, OSError) as error:
            skipped.append(f'{engine}: its environment cannot be had: {error}')
            say('skipped:', skipped[-1])
    return made


class Entry:
    """One engine in one precision on one case."""

    def __init__(self, worker, precision, forms, cosine):
        self.worker, self.precision, self.forms, self.cosine = worker, precision, forms, cosine
        self.form = forms[0]
        self.ms = []

    def measure(self, case, form, seconds):
        return self.worker.ask(do='measure', case=case['name'], precision=self.precision, form=form, seconds=seconds)['ms']


def prepare(workers, case, folder, skipped):
    """Entries by family of precisions ('f32', 'bf16', 'int8'), ours first. All answers are held against ours in f32; a peer whose
    answer is another is left out with a line, ours raises."""
    entries, expected = {}, None
    for worker in workers:
        for precision in worker.precisions:
            family = precision.split()[0]
            where = f'{worker.name} {precision}, {case["name"]}'
            output = os.path.join(folder, f'{worker.name}-{precision}-{case["name"]}'.replace(' ', '-'))
            try:
                forms = worker.ask(do='prepare', case=case, precision=precision, output=output)['forms']
                given = [answers.read(f'{output}.{form}') for form in forms]
                for form in forms:
                    os.unlink(f'{output}.{form}')
                expected = expected or given[0]
                cosine = min(answers.cosine(expected, answer) for answer in given)
                if not cosine >= answers.LEAST_COSINE[family]:
                    raise WorkerError(f'its answer has a cosine of {cosine:.6f} to ours in f32')
            except WorkerError as error:
                if worker.name == OURS and family == 'f32':
                    raise
                skipped.append(f'{where}: {error}')
                say('skipped:', skipped[-1])
                continue
            entries.setdefault(family, []).append(Entry(worker, precision, forms, cosine))
    return entries


def measure(entries, case, rounds, seconds):
    """The rows of one case and family: ours is the first of `entries`."""
    for entry in entries:
        if len(entry.forms) > 1:
            entry.form = min(entry.forms, key=lambda form: entry.measure(case, form, seconds))  # pylint: disable=cell-var-from-loop
    for turn in range(rounds):
        first = turn % len(entries)  # nobody always comes after the same
        for entry in entries[first:] + entries[:first]:
            entry.ms.append(entry.measure(case, entry.form, seconds))
    ours = entries[0].ms
    return [{'case': case['name'], 'kind': case['kind'], 'family': entry.precision.split()[0], 'engine': entry.worker.name,
             'precision': entry.precision, 'form': entry.form, 'ms': statistics.median(entry.ms),
             'to_ours': statistics.median(peer / own for own, peer in zip(ours, entry.ms)), 'cosine': entry.cosine}
            for entry in entries]


def compare(started, made, threads, options, folder, keep=lambda rows, versions, skipped: None):
    """Rows of all cases on so many threads, the engines' versions, and lines about what was skipped; `keep` is told of all so far
    after each case."""
    rows, versions, skipped = [], {}, []
    with contextlib.ExitStack() as stack:
        workers = []
        for engine, command in started.items():
            try:
                workers.append(Worker(command, threads, os.path.join(folder, f'{engine}.log')))
                stack.callback(workers[-1].stop)
                versions[workers[-1].name] = workers[-1].version
            except WorkerError as error:
                if engine == OURS:
                    raise
                skipped.append(f'{engine}: {error}')
                say('skipped:', skipped[-1])
        for case in made:
            begin = time.monotonic()
            entries = prepare(workers, case, folder, skipped)
            prepared = time.monotonic()
            if not options.prepare:
                for family, of_family in entries.items():
                    if of_family[0].worker.name != OURS:  # this CPU has no such arithmetic of ours
                        continue
                    for row in measure(of_family, case, options.rounds, options.seconds):
                        rows.append({'threads': threads, **row})
                        say(f'{case["name"]}, {threads} threads: {row["engine"]} {row["precision"]} ({row["form"]}) '
                            f'{row["ms"]:.3g} ms, {row["to_ours"]:.3f} of ours, cosine {row["cosine"]:.6f}')
            say(f'{case["name"]}, {threads} threads: prepared in {prepared - begin:.0f} s, measured in '
                f'{time.monotonic() - prepared:.0f} s')
            keep(rows, versions, skipped)
    return rows, versions, skipped


def cpu_name():
    facts = {}
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        for line in file:
            name, _, value = line.partition(':')
            facts.setdefault(name.strip(), value.strip())
    return f'{facts.get("model name", "unknown")} (family {facts.get("cpu family", "?")}, model {facts.get("model", "?")})'


def our_version(binaries):
    """As the server says it, and of which commit."""
    told = subprocess.run([os.path.join(binaries, 'headlight-server'), '--version'], capture_output=True, encoding='utf-8', check=True)
    commit = subprocess.run(['git', '-C', ROOT, 'rev-parse', '--short', 'HEAD'], capture_output=True, encoding='utf-8', check=False)
    return ' '.join(told.stdout.split()[-1:] + commit.stdout.split())


def save(result, path):
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(result, file, indent=1)
        file.write('\n')


def run(options):
    threads = [int(number) for number in options.threads.split(',')]
    begin = time.monotonic()
    made = cases.make(os.path.join(WORK, 'models'), os.path.join(options.bin, 'headlight-server'), options.cases)
    skipped = []
    started = commands(options.engines, options.bin, skipped)
    result = {'cpu': cpu_name(), 'date': datetime.date.today().isoformat(), 'note': options.note, 'rounds': options.rounds,
              'seconds': options.seconds, 'versions': {OURS: our_version(options.bin)}, 'rows': []}
    for count in threads:
        before = result['rows']

        def keep(rows, versions, more, before=before):
            result['rows'] = before + rows
            result['versions'] = versions | result['versions']
            result['skipped'] = list(dict.fromkeys(skipped + more))
            result['means'] = report.means(result['rows'])
            if not options.prepare:
                save(result, options.out)

        skipped += compare(started, made, count, options, WORK, keep)[2]
    say(f'{time.monotonic() - begin:.0f} s in all')
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bin', default=os.path.join(ROOT, 'build', 'release', 'bin'), help='folder of headlight_worker and headlight-server')
    parser.add_argument('--engines', default=PEERS, type=lambda text: [name for name in text.split(',') if name],
                        help='peers, by commas; none: ours alone [all]')
    parser.add_argument('--cases', type=lambda text: text.split(','), help='by commas [all]: ' + ', '.join(name for name, _, _ in cases.CASES))
    parser.add_argument('--threads', default='2,1', help='numbers of threads, by commas [2,1]')
    parser.add_argument('--rounds', default=5, type=int, help='turns of each engine on each case [5]')
    parser.add_argument('--seconds', default=0.1, type=float, help='what a turn lasts at least [0.1]')
    parser.add_argument('--prepare', action='store_true', help='environments, models and a check of all answers, and nothing measured')
    parser.add_argument('--out', default=os.path.join(WORK, 'peers.json'), help='where the JSON goes, after each case [build/peers/peers.json]')
    parser.add_argument('--from', dest='source', help='measure nothing: report what this file of an earlier run says')
    parser.add_argument('--note', default='', help='what the documentation says of the machine at that time, such as "quiet"')
    parser.add_argument('--write-docs', action='store_true', help='put table and plot into docs/performance.md and docs/peers.svg')
    parser.add_argument('--self-test', action='store_true', help='with workers that only pretend; needs no peer and no build')
    options = parser.parse_args()
    if options.self_test:
        os.execv(sys.executable, [sys.executable, os.path.join(HERE, 'self_test.py')])
    unknown = set(options.engines) - set(PEERS) or set(options.cases or []) - {name for name, _, _ in cases.CASES}
    if unknown:
        parser.error(f'got {", ".join(sorted(unknown))}; see --help')
    if options.source:
        with open(options.source, encoding='utf-8') as file:
            result = json.load(file)
        result['note'] = options.note or result['note']
    else:
        os.makedirs(WORK, exist_ok=True)
        try:
            result = run(options)
        except FileNotFoundError as error:
            sys.exit(f'peers: {error}; build the targets headlight-server and headlight_worker first')
        except (WorkerError, OSError, subprocess.CalledProcessError) as error:
            sys.exit(f'peers: {error}')
        if options.prepare:
            return
    print(report.table(result))
    if options.write_docs:
        report.write_docs(result, os.path.join(ROOT, 'docs', 'performance.md'), os.path.join(ROOT, 'docs', 'peers.svg'))


if __name__ == '__main__':
    main()
