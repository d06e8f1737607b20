#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HAProxy takes deploy/haproxy/haproxy.cfg as it is, in every variant, and its times go with those of deploy/compose.yaml.

Exits 77, saying why, where there is no HAProxy (Debian's package haproxy)."""
import os
import re
import subprocess
import tempfile

from local_fleet import DEPLOY, fail, skip_unless

CONFIG = DEPLOY / "haproxy/haproxy.cfg"


def milliseconds(pattern, text):
    found = re.search(pattern + r"(\d+)(ms|s)\b", text)
    if not found:
        fail(f"{pattern!r} is not there")
    return int(found[1]) * (1 if found[2] == "ms" else 1000)


def main():
    skip_unless("haproxy", "openssl")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([DEPLOY / "tls/make-test-ca.sh", folder], check=True)
        tls = {"TLS": f"{folder}/proxy"}
        local = {"SERVER_1": "127.0.0.1:1", "SERVER_1_ADMIN": "2", "SERVER_4": "127.0.0.1:3"}
        for variant in {}, {"SERVERS_DNS": "headlight"}, local, {**tls, "SERVERS_DNS": "headlight"}, {**tls, **local}:
            checked = subprocess.run(["haproxy", "-c", "-f", CONFIG], env={**os.environ, **variant}, capture_output=True,
                                     text=True, check=False)
            if checked.returncode != 0 or "WARNING" in checked.stderr:
                fail(f"with {variant}: {checked.stderr}")

    config = CONFIG.read_text(encoding="utf-8")
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    fall = int(re.search(r" fall (\d+)", config)[1])
    noticed_ms = fall * (milliseconds(r" inter ", config) + milliseconds(r"timeout check ", config))
    lame_duck_ms = 1000 * int(re.search(r'HEADLIGHT_LAME_DUCK_S: "(\d+)"', compose)[1])
    if lame_duck_ms <= noticed_ms:
        fail(f"HAProxy may take {noticed_ms} ms to see that a server drains; its lame duck is {lame_duck_ms} ms")
    proxy = compose[compose.index("\n  haproxy:"):compose.index("\n  prometheus:")]
    if milliseconds("stop_grace_period: ", proxy) <= milliseconds("hard-stop-after ", config):
        fail("HAProxy is killed before its hard-stop-after")
    print(f"proxy_config: ok; a drain is noticed within {noticed_ms} ms, and lasts {lame_duck_ms} ms")


if __name__ == "__main__":
    main()
