# SPDX-License-Identifier: Apache-2.0
"""What the worker processes of run.py say: a line of JSON for each line of JSON, until the input ends.

  {"do": "hello", "threads": N}                                    {"engine": ..., "version": ..., "precisions": [...]}
  {"do": "prepare", "case": {...}, "precision": P, "output": PATH} {"forms": [...]}; PATH.FORM holds that form's answer
  {"do": "measure", "case": NAME, "precision": P, "form": F, "seconds": S}   {"ms": median of the round's runs}

A case is {"name", "kind": "encoder" or "layer", "folder", "lengths", "input"}: `input` is a file with what the sequences
hold, packed one after the other, int32 ids or f32 rows; an answer is f32 too, a pooled vector for each sequence or a row for
each token. A failure is {"error": ...}. An engine is an object with `name`, `version`, `precisions`, and
build(case, precision) -> {form: (run, answer)}: run() is timed, answer() gives the bytes of the last run's answer."""
import json
import os
import statistics
import sys
import time


def round_ms(run, seconds):
    """The median of the runs that fit into so many seconds, one at least, after one that warms caches and threads."""
    run()
    spent, runs = 0.0, []
    while spent < seconds or not runs:
        begin = time.perf_counter()
        run()
        runs.append(time.perf_counter() - begin)
        spent += runs[-1]
    return statistics.median(runs) * 1e3


def serve(make_engine):
    """make_engine(threads) is called on hello."""
    replies = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # what libraries print goes to stderr
    engine, built = None, {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked['do'] == 'hello':
                engine = make_engine(asked['threads'])
                reply = {'engine': engine.name, 'version': engine.version, 'precisions': engine.precisions}
            elif asked['do'] == 'prepare':
                forms = engine.build(asked['case'], asked['precision'])
                built[asked['case']['name'], asked['precision']] = forms
                for form, (run, answer) in forms.items():
                    run()
                    with open(f'{asked["output"]}.{form}', 'wb') as file:
                        file.write(answer())
                reply = {'forms': list(forms)}
            else:
                run, _ = built[asked['case'], asked['precision']][asked['form']]
                reply = {'ms': round_ms(run, asked['seconds'])}
        except Exception as error:  # pylint: disable=broad-except
            reply = {'error': f'{type(error).__name__}: {error}'[:1000]}
        print(json.dumps(reply), file=replies, flush=True)
