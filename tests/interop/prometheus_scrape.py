#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real server, and knows afterwards what the server has answered.

Exits 77, saying why, where there is no Prometheus (Debian's package prometheus)."""
import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

PATIENCE_S = 60
REQUESTS = 3


def wait_for(what, attempt):
    """What attempt() returns, as soon as that is not None."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        result = attempt()
        if result is not None:
            return result
        time.sleep(0.2)
    sys.exit(f"prometheus_scrape: {what}: not after {PATIENCE_S} s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ports_of(log_path):
    """(port of gRPC, admin port), once the server serves."""
    with open(log_path, encoding="utf-8") as log:
        text = log.read()
    grpc = re.search(r"listening on 127\.0\.0\.1:(\d+)", text)
    admin = re.search(r"admin port on http://127\.0\.0\.1:(\d+)/", text)
    return (int(grpc[1]), int(admin[1])) if grpc and admin else None


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]
    except (OSError, ValueError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    arguments = parser.parse_args()
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        print("prometheus_scrape: skipped: there is no prometheus in PATH")
        sys.exit(77)
    running = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(arguments, prometheus, folder, running)
            finally:
                for process in running:
                    process.kill()
                    process.wait()
    finally:
        running.clear()
    print("prometheus_scrape: ok")


def check(arguments, prometheus, folder, running):
    log_path = f"{folder}/server.log"
    with open(log_path, "w", encoding="utf-8") as log:
        running.append(subprocess.Popen(
            [arguments.server, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], stderr=log))
    grpc_port, admin_port = wait_for("the server serves", lambda: ports_of(log_path))
    for _ in range(REQUESTS):
        subprocess.run([arguments.client, "attend", "--server", f"127.0.0.1:{grpc_port}", "--model", "demo",
                        "--shape", "1x5"], check=True, stdout=subprocess.DEVNULL)

    config_path = f"{folder}/prometheus.yml"
    with open(config_path, "w", encoding="utf-8") as config:
        config.write("global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
                     "scrape_configs:\n"
                     "  - job_name: headlight\n"
                     f"    static_configs: [{{targets: ['127.0.0.1:{admin_port}']}}]\n")
    port = free_port()
    running.append(subprocess.Popen(
        [prometheus, f"--config.file={config_path}", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]))
    api = f"http://127.0.0.1:{port}/api/v1"

    def value_of(query):
        data = ask(f"{api}/query?query={urllib.parse.quote(query)}")
        return float(data["result"][0]["value"][1]) if data and data["result"] else None

    for query, wanted in [
            ("up", 1),
            ('headlight_requests_total{model="demo",method="Attend",code="OK"}', REQUESTS),
            ('headlight_request_duration_seconds_count{model="demo",code="OK"}', REQUESTS),
            ("sum(headlight_tokens_total)", 5 * REQUESTS),
            ("headlight_ready", 1)]:
        got = wait_for(query, lambda query=query: value_of(query))
        if got != wanted:
            sys.exit(f"prometheus_scrape: {query}: got {got}, wanted {wanted}")
    # What a dashboard asks for has an answer.
    for query in ['histogram_quantile(0.99, sum by (le) (headlight_request_duration_seconds_bucket{model="demo"}))',
                  "sum(headlight_copied_bytes_total) / (sum(headlight_request_bytes_total) + sum(headlight_reply_bytes_total))",
                  "headlight_computed_flops_total / headlight_compute_seconds_total",
                  "process_resident_memory_bytes"]:
        if not wait_for(query, lambda query=query: value_of(query)) > 0:
            sys.exit(f"prometheus_scrape: {query}: wanted more than 0")
    targets = ask(f"{api}/targets")["activeTargets"]
    if [target["health"] for target in targets] != ["up"] or targets[0]["lastError"]:
        sys.exit(f"prometheus_scrape: targets: got {targets}")


if __name__ == "__main__":
    main()
