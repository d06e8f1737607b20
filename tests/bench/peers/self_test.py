#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""That run.py compares as it says, with workers that only pretend: no peer, no build, under two seconds."""
import array
import json
import os
import sys
import tempfile
import types
import unittest
from unittest import mock
from xml.etree import ElementTree

import answers
import cases
import report
import run
import worker


class Pretended:
    """Answers the same as its fellows, and takes the `ms` that it is told, five times as long when padded; `wrong` in int8."""
    version = '1'

    def __init__(self, name, ms, wrong):
        self.name, self.ms, self.wrong = name, ms, wrong
        self.precisions = ['f32', 'int8 dynamic'] if name != run.OURS else ['f32', 'int8']

    def build(self, case, precision):
        numbers = array.array('f', range(1, 1 + len(case['lengths'])))
        if self.wrong and precision.startswith('int8'):
            numbers[0] = -100
        if self.name == run.OURS:
            return {'packed': (lambda: self.ms, numbers.tobytes)}
        return {'padded': (lambda: self.ms * 5, numbers.tobytes), 'buckets': (lambda: self.ms, numbers.tobytes)}


def pretend(name, ms, wrong=False):
    return [sys.executable, os.path.abspath(__file__), '--worker', name, str(ms), *(['wrong'] if wrong else [])]


def compare(started, prepare=False):
    made = [{'name': name, 'kind': 'encoder', 'folder': '', 'lengths': [3, 5], 'input': ''} for name in ('32x128', '64 ragged')]
    options = types.SimpleNamespace(prepare=prepare, rounds=3, seconds=0.004)
    with tempfile.TemporaryDirectory() as folder:
        return run.compare(started, made, 2, options, folder)


@mock.patch.object(run, 'say', lambda *words: None)
class PeersTest(unittest.TestCase):
    def test_ratios_are_of_the_better_form(self):
        rows, versions, skipped = compare({run.OURS: pretend(run.OURS, 2), 'slow': pretend('slow', 3)})
        self.assertEqual(versions, {run.OURS: '1', 'slow': '1'})
        self.assertEqual(skipped, [])
        self.assertEqual(len(rows), 2 * 2 * 2)
        for row in rows:
            self.assertAlmostEqual(row['cosine'], 1, 12)
            if row['engine'] == 'slow':
                self.assertEqual((row['form'], row['ms'], row['to_ours']), ('buckets', 3, 1.5))
            else:
                self.assertEqual((row['form'], row['ms'], row['to_ours']), ('packed', 2, 1))

    def test_who_answers_something_else_is_not_measured(self):
        rows, _, skipped = compare({run.OURS: pretend(run.OURS, 1), 'wrong': pretend('wrong', 1, True)})
        self.assertEqual({row['family'] for row in rows if row['engine'] == 'wrong'}, {'f32'})
        self.assertEqual(len(skipped), 2)
        self.assertIn('cosine', skipped[0])

    def test_who_ends_is_skipped_with_a_line(self):
        rows, _, skipped = compare({run.OURS: pretend(run.OURS, 1), 'dead': [sys.executable, '-c', '']})
        self.assertEqual({row['engine'] for row in rows}, {run.OURS})
        self.assertEqual(len(skipped), 1)

    def test_an_environment_that_cannot_be_had_is_a_line(self):
        skipped = []
        with mock.patch.object(run, 'environment', side_effect=run.WorkerError('no network')):
            started = run.commands(['openvino'], '/nowhere', skipped)
        self.assertEqual(list(started), [run.OURS])
        self.assertEqual(skipped, ['openvino: its environment cannot be had: no network'])

    def test_lengths_are_those_that_the_documentation_names(self):
        lengths = cases.ragged_lengths()
        self.assertEqual((len(lengths), min(lengths), max(lengths), sum(lengths)), (64, 4, 79, 1614))

    def test_cosine(self):
        self.assertAlmostEqual(answers.cosine([1, 0], [1, 1]), 0.5 ** 0.5, 12)
        self.assertFalse(answers.cosine([1, 0], [1]) >= 0)

    def test_a_round_is_the_median_after_a_warm_run(self):
        with mock.patch.object(worker.time, 'perf_counter', side_effect=[0, 1, 1, 4, 4, 6]):
            self.assertEqual(worker.round_ms(lambda: None, 5.5), 2000)


def row(engine, precision, case, to_ours, threads=2):
    return {'threads': threads, 'case': case, 'kind': 'encoder', 'family': precision.split()[0], 'engine': engine,
            'precision': precision, 'form': 'packed', 'ms': 10 * to_ours, 'to_ours': to_ours, 'cosine': 1}


class ReportTest(unittest.TestCase):
    result = {'cpu': 'some <CPU>', 'date': '2026-01-01', 'note': 'quiet', 'rounds': 3, 'seconds': 1, 'skipped': ['c: no network'],
              'versions': {'Headlight': '1', 'a': '2'},
              'rows': [row('Headlight', 'f32', 'x', 1), row('a', 'f32', 'x', 2), row('b', 'f32', 'x', 4),
                       row('Headlight', 'f32', 'y', 1), row('a', 'f32', 'y', 9), row('b', 'f32', 'y', 8)]}

    def test_means_are_of_the_best_peer_of_each_case(self):
        mean, = report.means(self.result['rows'])
        self.assertAlmostEqual(mean['geometric_mean'], 4)
        self.assertEqual(mean['least'], 2)

    def test_table(self):
        words = report.table(self.result)
        for line in ('| **Headlight f32** | 10 | 10 | 1.00000 |', '| a f32 | 20 (2.00) | 90 (9.00) | 1.00000 |',
                     '| best peer over ours, f32 | **2.00** | **8.00** | |', '| f32, 2 threads | 4.00 | 1.6 | 2.00 | 1.15 |',
                     'Skipped: c: no network.'):
            self.assertIn(line, words.splitlines())
        self.assertTrue(words.startswith('2026-01-01, some <CPU>, quiet: Headlight 1, a 2. Medians of 3 rounds.'))

    def test_plot_is_xml(self):
        bars = [part for part in ElementTree.fromstring(report.plot(self.result)).iter() if part.tag.endswith('rect')]
        self.assertEqual(len(bars), 1 + 2 + 4)  # paper, legend, bars

    def test_documents_are_written_in_place(self):
        with tempfile.TemporaryDirectory() as folder:
            document, picture = os.path.join(folder, 'a.md'), os.path.join(folder, 'a.svg')
            with open(document, 'w', encoding='utf-8') as file:
                file.write(f'before\n{report.BEGIN}\nold\n{report.END}\nafter\n')
            written = []
            for _ in range(2):
                report.write_docs(json.loads(json.dumps(self.result)), document, picture)
                with open(document, encoding='utf-8') as file:
                    written.append(file.read())
            self.assertEqual(*written)
            self.assertNotIn('old', written[0])
            self.assertTrue(written[0].startswith('before\n') and written[0].endswith('\nafter\n'))
            self.assertTrue(os.path.exists(picture))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--worker']:
        worker.round_ms = lambda pretended, seconds: pretended()  # no clock: a busy machine changes nothing
        worker.serve(lambda threads: Pretended(sys.argv[2], float(sys.argv[3]), 'wrong' in sys.argv[4:]))
    else:
        unittest.main()
