#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server built with OpenTelemetry sends the spans of sampled requests to a collector over OTLP/HTTP, and ends
in time where the collector is silent or absent. The collector here knows as much of protobuf as that takes.

Exits 77, saying why, where the server was built without."""
import argparse
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE_S = 60
LONGEST_END_S = 12  # 5 s that a silent collector may cost, and a slow machine
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def fail(sentence):
    sys.exit(f"otlp_collector: {sentence}")


# --- Protobuf, read without knowledge of any schema --------------------------------------------------------------

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """Of a message: field number -> its values, which are integers or bytes."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        else:
            if kind == 2:
                size, at = varint(data, at)
            else:
                size = {1: 8, 5: 4}[kind]
            value = data[at:at + size]
            at += size
            if kind != 2:
                value = int.from_bytes(value, "little")
        found.setdefault(key >> 3, []).append(value)
    return found


def attributes(key_values):
    """KeyValue messages as a dict: texts and integers are all that we send."""
    result = {}
    for key_value in key_values:
        entry = fields(key_value)
        value = fields(entry[2][0])
        result[entry[1][0].decode()] = value[1][0].decode() if 1 in value else value[3][0]
    return result


def spans_of(request):
    """The spans of an ExportTraceServiceRequest, each with the attributes of its resource."""
    for resource_spans in fields(request).get(1, []):
        group = fields(resource_spans)
        resource = attributes(fields(group[1][0]).get(1, []))
        for scope_spans in group[2]:
            for message in fields(scope_spans)[2]:
                span = fields(message)
                yield {"trace_id": span[1][0].hex(), "span_id": span[2][0].hex(), "parent": span[4][0].hex(),
                       "name": span[5][0].decode(), "kind": span[6][0],
                       "duration_us": (span[8][0] - span[7][0]) / 1000,
                       "attributes": attributes(span.get(9, [])), "resource": resource,
                       "events": [fields(event)[2][0].decode() for event in span.get(11, [])]}


# --- The collector ---------------------------------------------------------------------------------------------

class Collector:
    """Listens until close(), and answers everything with `code`; one without a code never answers."""

    def __init__(self, code=200):
        self.spans, self.requests = [], []
        self.released = threading.Event()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, self.headers["Content-Type"], self.headers["X-Tenant"]))
                if code is None:
                    collector.released.wait()
                    return
                collector.spans.extend(spans_of(body))
                self.send_response(code)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


# --- The server ------------------------------------------------------------------------------------------------

class Server:
    """Serves the demo model from construction until stop()."""

    def __init__(self, program, folder, endpoint):
        self.log_path = f"{folder}/server.log"
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [program, "--listen", "127.0.0.1:0", "--admin-listen", "", "--log-format", "json",
                 "--otlp-endpoint", endpoint],
                stderr=log, env={**os.environ, "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=ours"})
        end = time.monotonic() + PATIENCE_S
        self.port = None
        while self.port is None:
            match = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log())
            if match:
                self.port = match[1]
            elif self.process.poll() is not None:
                self.without_support()
            elif time.monotonic() > end:
                fail(f"the server does not serve: {self.log()}")
            else:
                time.sleep(0.05)

    def without_support(self):
        if "built without OpenTelemetry" in self.log():
            print("otlp_collector: skipped: the server was built without OpenTelemetry")
            sys.exit(77)
        fail(f"the server ended: {self.log()}")

    def log(self):
        with open(self.log_path, encoding="utf-8") as log:
            return log.read()

    def stop(self):
        """Seconds until it has ended by itself."""
        begin = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout=PATIENCE_S)
        if code != 0:
            fail(f"the server ended with {code}: {self.log()}")
        return time.monotonic() - begin

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def attend(client, server, flags, *more):
    """Whether it was answered."""
    return subprocess.run([client, "attend", "--server", f"127.0.0.1:{server.port}", "--model", "demo", "--shape", "1x5",
                           "--traceparent", f"00-{TRACE_ID}-{PARENT}-{flags}", *more],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def expect(what, got, wanted):
    if got != wanted:
        fail(f"{what}: got {got!r}, wanted {wanted!r}")


def check_spans(arguments, folder):
    collector = Collector()
    server = Server(arguments.server, folder, collector.url)
    try:
        expect("sampled", attend(arguments.client, server, "01"), True)
        expect("not sampled", attend(arguments.client, server, "00"), True)
        expect("refused", attend(arguments.client, server, "01", "--weights", "full", "--layer", "77"), False)
        server.stop()
        log = server.log()
    finally:
        server.kill()
        collector.close()

    for path, content_type, tenant in collector.requests:
        expect("path", path, "/v1/traces")
        expect("content type", content_type, "application/x-protobuf")
        expect("a header of OTEL_EXPORTER_OTLP_HEADERS", tenant, "ours")
    expect("spans", len(collector.spans), 2)
    lines = [line.get("request", line) for line in map(json.loads, log.splitlines())]
    logged = {line["traceparent"].split("-")[2]: line for line in lines if line.get("traceparent", "").endswith("-01")}
    expect("span ids", {span["span_id"] for span in collector.spans}, set(logged))
    for span in collector.spans:
        line = logged[span["span_id"]]
        expect("trace", span["trace_id"], TRACE_ID)
        expect("parent", span["parent"], PARENT)
        expect("name", span["name"], "headlight.v1.AttentionService/Attend")
        expect("kind", span["kind"], 2)  # server
        expect("duration", span["duration_us"], line["total_us"])
        expect("service", span["resource"]["service.name"], "headlight")
        expect("system", span["attributes"]["rpc.system"], "grpc")
        expect("method", span["attributes"]["rpc.method"], "Attend")
        for name in ("tokens", "queue_us", "compute_us", "version"):
            expect(name, span["attributes"].get(f"headlight.{name}"), line.get(name))
    answered, refused = sorted(collector.spans, key=lambda span: span["attributes"]["rpc.grpc.status_code"])
    expect("code", answered["attributes"]["rpc.grpc.status_code"], 0)
    expect("model", answered["attributes"]["headlight.model"], "demo")
    expect("events", answered["events"], ["batch begun", "batch packed", "batch computed"])
    expect("code", refused["attributes"]["rpc.grpc.status_code"], 3)
    expect("events", refused["events"], [])


def check_end(arguments, folder, endpoint, what):
    server = Server(arguments.server, folder, endpoint)
    try:
        for _ in range(3):
            expect(f"answered with {what}", attend(arguments.client, server, "01"), True)
        seconds = server.stop()
    finally:
        server.kill()
    if seconds > LONGEST_END_S:
        fail(f"{what}: the server ended after {seconds:.1f} s, wanted {LONGEST_END_S}")
    if "spans: 0 exported, 3 failed, 0 dropped" not in server.log():
        fail(f"{what}: the log does not tell that 3 spans failed: {server.log()}")
    print(f"otlp_collector: {what}: ended after {seconds:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check_spans(arguments, folder)
        for what, code in ("a silent collector", None), ("a collector that refuses", 503):
            collector = Collector(code)
            try:
                check_end(arguments, folder, collector.url, what)
            finally:
                collector.close()
        check_end(arguments, folder, collector.url, "no collector")
    print("otlp_collector: ok")


if __name__ == "__main__":
    main()
