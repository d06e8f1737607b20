#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TLS from callers through HAProxy to the servers: who has no certificate stays out, and every certificate is exchanged
under load without a request that fails.

Exits 77, saying why, where there is no HAProxy (Debian's package haproxy)."""
import argparse
import tempfile

from local_fleet import UNTIL_ENDED_S, Fleet, fail, shown_by, skip_unless, wait_for

ROTATIONS = 2
RATE = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    arguments = parser.parse_args()
    skip_unless("haproxy", "openssl")
    with tempfile.TemporaryDirectory() as folder, Fleet(arguments.server, arguments.client, folder) as fleet:
        check(fleet)
    print("tls_rotation: ok")


def check(fleet):
    fleet.make_certificates()
    fleet.start_servers()
    fleet.start_proxy()
    if fleet.health("client").returncode != 0:
        fail(f"with a certificate: {fleet.health('client').stderr}")
    # Neither without one, nor with one that is for servers.
    for party in None, "server":
        if fleet.health(party).returncode == 0:
            fail(f"got in with the certificate of {party}")

    load = fleet.start_load("load", RATE, UNTIL_ENDED_S)
    for _ in range(ROTATIONS):
        before = {port: shown_by(port) for port in (fleet.port, *fleet.grpc_ports)}
        fleet.make_certificates()
        fleet.reload_proxy()
        for port, serial in before.items():
            wait_for(f"port {port} shows a new certificate", lambda port=port, serial=serial: shown_by(port) != serial)
        if fleet.health("client").returncode != 0:
            fail("with the new certificate: no")
    if fleet.end_load(load, "the certificates were all exchanged") != 0:
        fail(f"requests failed: {fleet.log('load')}")
    replies = fleet.run_of_load("load")
    print(f"tls_rotation: {replies['requests_per_s']:.0f} requests a second through {ROTATIONS} rotations, none failed")


if __name__ == "__main__":
    main()
