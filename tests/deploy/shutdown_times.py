#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whoever ends a server waits longer than the server takes: in every file that says how long either is.

  shutdown_times.py ROOT        ROOT: the source tree, or one like it

A server that gets SIGTERM admits for its lame duck and answers for its grace; who has started it kills it after
stop_grace_period (Compose), TimeoutStopSec (systemd), terminationGracePeriodSeconds (Kubernetes, 30 s where nothing is said)
or the 10 s of `docker stop`. The last must be MARGIN_S more than the first two together. All files below deploy/ are read as text: where one
says a time more than once, the largest lame duck and grace count, and the smallest time to kill.
"""

import argparse
import os
import re
import sys

MARGIN_S = 2
DOCKER_STOP_S = 10
KUBERNETES_S = 30
# What the server takes where a file is silent.
DEFAULTS = {"lame duck": 0, "grace": 30}

# As options, variables, lines of TOML, values of the chart.
TIMES = {
    "lame duck": re.compile(r'(?:lame-duck-s|LAME_DUCK_S|lameDuckSeconds)"?\s*[=: ]\s*"?(\d+)'),
    "grace": re.compile(r'(?:shutdown-grace-s|SHUTDOWN_GRACE_S|shutdownGraceSeconds)"?\s*[=: ]\s*"?(\d+)'),
    "kill": re.compile(r'(?:stop_grace_period: *"?|TimeoutStopSec=|terminationGracePeriodSeconds: *)(\d+)s?"? *(?:#.*)?$', re.M),
}
# In a chart the time to kill is a sum of values, and only what it adds to them is a number.
CHART_SUM = re.compile(r"add \.Values\.lameDuckSeconds \.Values\.shutdownGraceSeconds (\d+)")


def times_of(texts):
    """{"lame duck": [...], "grace": [...], "kill": [...]}: the seconds that the texts say."""
    return {name: [int(found) for text in texts for found in pattern.findall(text)]
            for name, pattern in TIMES.items()}


def judge(name, texts):
    """What is said of `name` and whether it is right; None where nobody says when to kill."""
    times = times_of(texts)
    if name == "Dockerfile":
        times["kill"].append(DOCKER_STOP_S)
    margins = [int(found) for text in texts for found in CHART_SUM.findall(text)]
    if margins:
        return f"{name}: killed {min(margins)} s after lame duck and grace", min(margins) >= MARGIN_S
    if not times["kill"] and times["grace"] and any("\napiVersion:" in "\n" + text for text in texts):
        times["kill"].append(KUBERNETES_S)
    if not times["kill"]:
        return None
    lame_duck = max(times["lame duck"], default=DEFAULTS["lame duck"])
    grace = max(times["grace"], default=DEFAULTS["grace"])
    kill = min(times["kill"])
    said = f"{name}: lame duck {lame_duck} s, grace {grace} s, killed after {kill} s"
    return said, kill >= lame_duck + grace + MARGIN_S


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def subjects(root):
    """(name, texts): what belongs together. Units and charts consist of several files, others are one each."""
    yield "Dockerfile", [read(os.path.join(root, "Dockerfile"))]
    deploy = os.path.join(root, "deploy")
    for folder, folders, files in sorted(os.walk(deploy)):
        name = os.path.relpath(folder, root)
        paths = [os.path.join(folder, file) for file in sorted(files)]
        if "Chart.yaml" in files:
            folders.clear()
            paths = [os.path.join(inner, file) for inner, _, inside in sorted(os.walk(folder)) for file in sorted(inside)]
            yield name, [read(path) for path in paths]
        elif any(file.endswith(".service") for file in files):
            yield name, [read(path) for path in paths]
        else:
            for path in paths:
                if path.endswith((".yaml", ".yml")):
                    yield os.path.relpath(path, root), [read(path)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    root = parser.parse_args().root
    judged = [verdict for name, texts in subjects(root) if (verdict := judge(name, texts))]
    for said, right in judged:
        print(said if right else f"{said}: wanted {MARGIN_S} s more than both together, at least")
    expected = {"Dockerfile", "deploy/systemd", "deploy/compose.yaml"}
    found = {said.split(":")[0] for said, _ in judged}
    if not expected <= found:
        sys.exit("shutdown_times: nobody says when to kill in " + ", ".join(sorted(expected - found)))
    sys.exit(0 if all(right for _, right in judged) else 1)


if __name__ == "__main__":
    main()
