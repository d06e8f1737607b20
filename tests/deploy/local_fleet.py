# SPDX-License-Identifier: Apache-2.0
"""A fleet without containers: three servers behind HAProxy as deploy/haproxy/haproxy.cfg says, with TLS on every leg as
deploy/tls/make-test-ca.sh makes it, and Prometheus as deploy/prometheus says; all on free ports of 127.0.0.1."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
PATIENCE_S = 120
UNTIL_ENDED_S = 300  # of a load that end_load ends once everything has happened


def fail(text):
    sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {text}")


def skip_unless(*programs):
    """Exits 77, saying why, unless all of them can be run."""
    for program in programs:
        if shutil.which(program) is None:
            print(f"{pathlib.Path(sys.argv[0]).stem}: skipped: there is no {program} in PATH")
            sys.exit(77)


def wait_for(what, attempt):
    """What attempt() returns, as soon as that is something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        result = attempt()
        if result:
            return result
        time.sleep(0.2)
    fail(f"{what}: not after {PATIENCE_S} s")


def get(url):
    """(status, text); (0, "") if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def shown_by(port):
    """The serial number of the certificate that is shown there."""
    shown = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "h2"], input="",
                           capture_output=True, text=True, check=False).stdout
    return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True,
                          check=False).stdout


class Fleet:
    """What it starts ends with it."""

    SERVERS = 3

    def __init__(self, server, client, folder):
        self.server, self.client, self.folder = server, client, pathlib.Path(folder)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADLIGHT_")}
        self.processes = []
        self.tls = self.folder / "tls"
        ports = free_ports(2 * self.SERVERS + 3)
        self.grpc_ports, self.admin_ports = ports[:self.SERVERS], ports[self.SERVERS:2 * self.SERVERS]
        self.port, self.proxy_metrics_port, self.prometheus_port = ports[2 * self.SERVERS:]
        self.proxy = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def run(self, name, argv, **more_environment):
        with open(self.folder / f"{name}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, env={**self.environment, **more_environment})
        self.processes.append(process)
        return process

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def make_certificates(self):
        """The first time all of them, later new ones of the same authority."""
        subprocess.run([DEPLOY / "tls/make-test-ca.sh", self.tls], check=True)

    def start_servers(self, flags_of_last=()):
        for i in range(self.SERVERS):
            more = flags_of_last if i == self.SERVERS - 1 else ()
            self.run(f"server-{i}", [
                self.server, "--listen", f"127.0.0.1:{self.grpc_ports[i]}", "--admin-listen",
                f"127.0.0.1:{self.admin_ports[i]}", "--threads", "1", "--models", "demo", "--tls-cert",
                self.tls / "server/cert.pem", "--tls-key", self.tls / "server/key.pem", "--tls-client-ca",
                self.tls / "server/ca.pem", *more])

    def start_proxy(self):
        """Returns once it sends calls to every server."""
        servers = {}
        for i in range(self.SERVERS):
            servers[f"SERVER_{i + 1}"] = f"127.0.0.1:{self.grpc_ports[i]}"
            servers[f"SERVER_{i + 1}_ADMIN"] = str(self.admin_ports[i])
        self.run_proxy(DEPLOY / "haproxy/haproxy.cfg", TLS=str(self.tls / "proxy"), **servers)
        self.wait_until_balanced()

    def run_proxy(self, config, **where_servers_are):
        self.proxy = self.run("haproxy", ["haproxy", "-W", "-db", "-f", config], BIND=f"127.0.0.1:{self.port}",
                              METRICS_BIND=f"127.0.0.1:{self.proxy_metrics_port}", **where_servers_are)

    def ask_proxy(self, path):
        """(status, text) of its own port; (0, "") if it does not answer."""
        return get(f"http://127.0.0.1:{self.proxy_metrics_port}{path}")

    def wait_until_balanced(self):
        want = f'haproxy_backend_active_servers{{proxy="servers"}} {self.SERVERS}\n'
        wait_for("HAProxy has every server", lambda: want in self.ask_proxy("/metrics")[1] and self.checked())

    def checked(self, servers=SERVERS):
        """Whether so many servers have passed a check of HAProxy's: before the first one it believes in all."""
        passed = re.findall(r'haproxy_server_check_status\{proxy="servers",server="[^"]*",state="L7OK"\} (\d)',
                            self.ask_proxy("/metrics")[1])
        return passed.count("1") == servers

    def reload_proxy(self):
        self.proxy.send_signal(signal.SIGUSR2)

    def client_flags(self, party="client", port=None):
        """With TLS if there are certificates; of the proxy unless a port is given."""
        flags = ["--server", f"localhost:{port or self.port}"]
        if self.tls.exists():
            flags += ["--tls-ca", self.tls / "client/ca.pem"]
            if party:
                flags += ["--tls-cert", self.tls / party / "cert.pem", "--tls-key", self.tls / party / "key.pem"]
        return flags

    def health(self, party="client", port=None, timeout_ms=5000):
        return subprocess.run([self.client, "health", *self.client_flags(party, port), "--timeout-ms", str(timeout_ms)],
                              env=self.environment, capture_output=True, text=True, check=False)

    def start_load(self, name, rate, seconds, *flags):
        return self.run(name, [self.client, "loadtest", *self.client_flags(), "--model", "demo", "--shape", "1x4",
                               "--rate", str(rate), "--duration", f"{seconds}s", "--json", self.folder / f"{name}.json", *flags])

    def end_load(self, load, before):
        """The exit code of start_load's process, which must not have ended before that."""
        if load.poll() is not None:
            fail(f"the load ended before {before}: {self.log('load')}")
        load.send_signal(signal.SIGINT)
        return load.wait()

    def run_of_load(self, name):
        """What the report of a load that has ended says of its one run."""
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))["runs"][0]

    def start_prometheus(self):
        """With the files of deploy/prometheus, but for where the targets are, and ten times as often."""
        config = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8")
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in self.admin_ports)
        config = replace_one(r"dns_sd_configs:\n +- \{names: \[headlight\].*\}", f"static_configs: [{{targets: [{targets}]}}]",
                             config)
        config = replace_one(r'"haproxy:8404"', f'"127.0.0.1:{self.proxy_metrics_port}"', config)
        config = replace_one(r"scrape_interval: \d+s", "scrape_interval: 1s", config)
        config = replace_one(r"evaluation_interval: \d+s", "evaluation_interval: 1s", config)
        rules = (DEPLOY / "prometheus/rules.yaml").read_text(encoding="utf-8")
        (self.folder / "rules.yaml").write_text(replace_one(r"interval: \d+s", "interval: 1s", rules), encoding="utf-8")
        (self.folder / "prometheus.yml").write_text(config, encoding="utf-8")
        self.run("prometheus", ["prometheus", f"--config.file={self.folder}/prometheus.yml",
                                f"--storage.tsdb.path={self.folder}/data",
                                f"--web.listen-address=127.0.0.1:{self.prometheus_port}", "--log.level=warn"])

    def ask(self, path, **parameters):
        """The data of Prometheus's answer; None while it does not answer. An error is one of the test."""
        query = urllib.parse.urlencode(parameters)
        status, text = get(f"http://127.0.0.1:{self.prometheus_port}/api/v1/{path}?{query}")
        if status == 0 or status == 503:
            return None
        answer = json.loads(text)
        if answer["status"] != "success":
            fail(f"Prometheus: {path} {parameters}: {answer['error']}")
        return answer["data"]

    def query(self, expression):
        """The series of the answer that have a number."""
        data = self.ask("query", query=expression)
        return [] if data is None else [series for series in data["result"] if series["value"][1] != "NaN"]


def replace_one(pattern, by, text):
    text, count = re.subn(pattern, by, text)
    if count != 1:
        fail(f"{pattern!r} occurs {count} times in a file of deploy/prometheus; wanted once")
    return text
