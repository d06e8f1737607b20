#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HAProxy learns where the servers are from DNS, which takes its time: no call fails of it at a reload, and where DNS has
no answer, callers are told so soon. Since 3.1 HAProxy sends nothing to a server that has passed no check.

Exits 77, saying why, where there is no HAProxy (Debian's package haproxy)."""
import argparse
import http.server
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

from local_fleet import DEPLOY, UNTIL_ENDED_S, Fleet, fail, replace_one, skip_unless, wait_for

RELOADS = 3
RATE = 50
DNS_DELAY_S = 0.4


class Readiness(http.server.BaseHTTPRequestHandler):
    """The admin port of a server that says when it is ready."""

    status = 503

    def do_GET(self):  # as the library calls it
        self.send_response(Readiness.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class SlowDns(threading.Thread):
    """Answers each question for an IPv4 address with 127.0.0.1, DNS_DELAY_S later, and any other with nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.silent = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            query, asker = self.socket.recvfrom(4096)
            if not self.silent:
                threading.Timer(DNS_DELAY_S, self.socket.sendto, (self.answer(query), asker)).start()

    @staticmethod
    def answer(query):
        """RFC 1035: the header, the question as it was put, and a record whose name points back to it."""
        name_end = query.index(b"\0", 12) + 1
        question = query[12:name_end + 4]
        (kind,) = struct.unpack_from("!H", query, name_end)
        record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 1, 4, 127, 0, 0, 1) if kind == 1 else b""
        return query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if record else 0, 0, 0) + question + record


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    arguments = parser.parse_args()
    skip_unless("haproxy")
    with tempfile.TemporaryDirectory() as folder, Fleet(arguments.server, arguments.client, folder) as fleet:
        check(fleet)
    print("proxy_dns: ok")


def start_proxy(fleet, dns):
    """With the files of deploy/haproxy, but for where DNS and the one server's ports are."""
    shutil.copytree(DEPLOY / "haproxy", fleet.folder / "haproxy")
    config = fleet.folder / "haproxy/haproxy.cfg"
    text = replace_one(":8001\" port 8002 ", f":{fleet.grpc_ports[0]}\" port {fleet.admin_ports[0]} ",
                       config.read_text(encoding="utf-8"))
    config.write_text(replace_one("parse-resolv-conf", f"nameserver slow 127.0.0.1:{dns.port}", text), encoding="utf-8")
    fleet.run_proxy(config, SERVERS_DNS="headlight.test")


def checks_first():
    """Whether this HAProxy can begin with servers that are down."""
    version = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.search(r"version (\d+)\.(\d+)", version).groups())) >= (3, 1)


def expect_no_server(fleet, when):
    told = fleet.health(timeout_ms=30000)
    if told.returncode == 0 or "no server is ready" not in told.stderr:
        fail(f"{when}: exit code {told.returncode}, {told.stderr}")


def has_no_server(fleet):
    """Three times in a row: the process of before is gone by then."""
    for _ in range(3):
        if fleet.ask_proxy("/readyz")[0] != 503:
            return False
        time.sleep(0.2)
    return True


def check(fleet):
    dns = SlowDns()
    dns.start()
    admin = http.server.ThreadingHTTPServer(("127.0.0.1", fleet.admin_ports[0]), Readiness)
    threading.Thread(target=admin.serve_forever, daemon=True).start()
    fleet.run("server", [fleet.server, "--listen", f"127.0.0.1:{fleet.grpc_ports[0]}", "--admin-listen", "", "--threads", "1",
                         "--models", "demo"])
    wait_for("the server serves", lambda: fleet.health(port=fleet.grpc_ports[0]).returncode == 0)
    start_proxy(fleet, dns)
    wait_for("HAProxy has begun", lambda: fleet.ask_proxy("/readyz")[0])
    if checks_first():
        expect_no_server(fleet, "before a check was passed")
    Readiness.status = 200
    wait_for("HAProxy has checked the server", lambda: fleet.checked(1))
    load = fleet.start_load("load", RATE, UNTIL_ENDED_S)
    time.sleep(3)  # past its warm-up
    for _ in range(RELOADS):
        fleet.reload_proxy()
        time.sleep(2)
    if fleet.end_load(load, "the last reload") != 0:
        fail(f"requests failed: {fleet.log('load')}")
    dns.silent = True
    fleet.reload_proxy()
    wait_for("HAProxy knows no server", lambda: has_no_server(fleet))
    expect_no_server(fleet, "without an answer of DNS")


if __name__ == "__main__":
    main()
