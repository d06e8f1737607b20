#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `headlight capacity` predicts beside what `headlight loadtest` then measures: one and two servers of one thread
each, balanced by the client (round_robin), open loop, Poisson.

Prints a table of predicted and measured percentiles and their ratio. Client and servers share this machine: two servers
have two CPUs less its share, so run it where nothing else does. Servers are started and ended here."""
import argparse
import json
import re
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 60
PERCENTILES = ["p50", "p99"]


class Server:
    """headlight-server with one thread, on a free port."""

    def __init__(self, program, model, log_path):
        self.log_path = log_path
        with open(log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [program, "--listen", "127.0.0.1:0", "--admin-listen", "", "--threads", "1", "--models", model],
                stderr=log)

    def port(self):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            with open(self.log_path, encoding="utf-8") as log:
                found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read())
            if found:
                return int(found[1])
            time.sleep(0.1)
        sys.exit(f"capacity: no server after {PATIENCE_S} s; see {self.log_path}")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(client, *words):
    """The JSON that a command of the client prints. 3 is the exit code of goals out of reach and of single failures."""
    done = subprocess.run([client, *words], stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"capacity: {' '.join(words)}: exit code {done.returncode}")
    return json.loads(done.stdout)


def traffic(arguments):
    return ["--model", arguments.model, "--seq-lens", arguments.seq_lens, "--timeouts", str(arguments.timeout_ms)]


def plan(arguments, port, rates, measure_s):
    return run(arguments.client, "capacity", "--server", f"127.0.0.1:{port}", *traffic(arguments),
               "--rate", ",".join(f"{rate:.6g}" for rate in rates), "--balancing", "round_robin",
               "--measure", f"{measure_s * 1000:.0f}ms", "--json")


def measured(arguments, ports, rate):
    servers = ",".join(f"127.0.0.1:{port}" for port in ports)
    report = run(arguments.client, "loadtest", "--server", f"ipv4:{servers}", "--load-balancing", "round_robin",
                 *traffic(arguments), "--rate", f"{rate:.6g}", "--duration", f"{arguments.seconds * 1000:.0f}ms",
                 "--json", "-")
    return report["runs"][0]


def predicted(planned, rate, replicas):
    """None if so many servers could not do it."""
    for one in planned["plans"]:
        for size in one["sizes"]:
            if abs(one["rate"] - rate) <= 1e-3 * rate and size["replicas"] == replicas:
                return size
    return None


def predict(arguments, ports):
    """(what was measured, (replicas, share of their capacity, rate, prediction) of each load)."""
    # Again, where the machine has become so much slower between the two measurements that its share is too much for it.
    for _ in range(3):
        busy_per_s = plan(arguments, ports[0], [1], arguments.measure_s / 2)["measured"]["busy_per_s"]
        loads = [(replicas, share, share * replicas * busy_per_s)
                 for replicas in range(1, len(ports) + 1) for share in arguments.shares]
        planned = plan(arguments, ports[0], [rate for _, _, rate in loads], arguments.measure_s)
        found = [(*load, predicted(planned, load[2], load[0])) for load in loads]
        if all(size for *_, size in found):
            return planned["measured"], found
    sys.exit(f"capacity: nothing was predicted of one of {loads}")


def compare(arguments, ports):
    """A row for each load: replicas, share of their capacity, rate, and of each percentile (predicted, measured) ms."""
    measured_of_server, loads = predict(arguments, ports)
    rows = []
    for replicas, share, rate, size in loads:
        result = measured(arguments, ports[:replicas], rate)
        rows.append({"replicas": replicas, "share": share, "rate": rate, "utilization": size["utilization"],
                     "offered": result["sent"], "replies": result["replies"],
                     **{name: (size[f"{name}_ms"], result["latency_ms"]["intended"][name]) for name in PERCENTILES}})
    return {"measured": measured_of_server, "rows": rows}


def print_table(found):
    print("measured:", ", ".join(f"{name} {value:.4g}" for name, value in found["measured"].items()))
    print(f"{'replicas':>8} {'share':>6} {'rate':>8} " +
          " ".join(f"{name + ' predicted':>14} {'measured':>9} {'ratio':>6}" for name in PERCENTILES))
    for row in found["rows"]:
        cells = []
        for name in PERCENTILES:
            guess, real = row[name]
            cells.append("-".rjust(31) if guess is None else f"{guess:14.2f} {real:9.2f} {real / guess:6.2f}")
        print(f"{row['replicas']:8} {row['share']:6.2f} {row['rate']:8.1f} " + " ".join(cells))


def far_off(row, most_ratio):
    for name in PERCENTILES:
        guess, real = row[name]
        if guess is None or not 1 / most_ratio <= real / guess <= most_ratio:
            return f"{name} of {row['replicas']} servers at {row['share']}: predicted {guess} ms, measured {real} ms"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="build/release/bin/headlight-server", help="program")
    parser.add_argument("--client", default="build/release/bin/headlight", help="program")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seq-lens", default="uniform:16-256")
    parser.add_argument("--timeout-ms", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=2, help="up to so many")
    parser.add_argument("--shares", type=lambda text: [float(part) for part in text.split(",")], default=[0.5, 0.6, 0.7],
                        help="loads, of the measured capacity: 0.5,0.6,0.7")
    parser.add_argument("--measure-s", type=float, default=10, help="how long the first server is measured")
    parser.add_argument("--seconds", type=float, default=20, help="of each load test")
    parser.add_argument("--most-ratio", type=float, help="fail if a ratio is beyond it or below its reciprocal")
    parser.add_argument("--json", metavar="FILE", help="write what was found")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = []
        try:
            for i in range(arguments.replicas):
                servers.append(Server(arguments.server, arguments.model, f"{folder}/server{i}.log"))
            found = compare(arguments, [server.port() for server in servers])
        finally:
            for server in servers:
                server.end()
    print_table(found)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)
    if arguments.most_ratio:
        wrong = [text for text in (far_off(row, arguments.most_ratio) for row in found["rows"]) if text]
        if wrong:
            sys.exit("capacity: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
