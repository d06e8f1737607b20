#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shutdown_times.py finds a server that would be killed too early, in every kind of file."""
import unittest

from shutdown_times import judge

CASES = {
    "Dockerfile": ("ENV HEADLIGHT_SHUTDOWN_GRACE_S=8\n", "ENV HEADLIGHT_SHUTDOWN_GRACE_S=9\n"),
    "a Compose file": (
        'HEADLIGHT_LAME_DUCK_S: "5"\nHEADLIGHT_SHUTDOWN_GRACE_S: "30"\nstop_grace_period: 37s  # enough\n',
        'HEADLIGHT_LAME_DUCK_S: "5"\nHEADLIGHT_SHUTDOWN_GRACE_S: "30"\nstop_grace_period: 36s\n',
    ),
    "a unit": ("lame-duck-s = 5\nshutdown-grace-s = 30\nTimeoutStopSec=37\n", "lame-duck-s = 5\nTimeoutStopSec=36\n"),
    "a pod": (
        "terminationGracePeriodSeconds: 45\nargs: [--lame-duck-s=10, --shutdown-grace-s=30]\n",
        "terminationGracePeriodSeconds: 40\nargs: [--lame-duck-s=10, --shutdown-grace-s=30]\n",
    ),
    "a pod of 30 s": (
        "apiVersion: v1\nargs: [--lame-duck-s=10, --shutdown-grace-s=15]\n",
        "apiVersion: v1\nargs: [--lame-duck-s=10, --shutdown-grace-s=20]\n",
    ),
    "a chart": (
        "{{ add .Values.lameDuckSeconds .Values.shutdownGraceSeconds 5 }}",
        "{{ add .Values.lameDuckSeconds .Values.shutdownGraceSeconds 1 }}",
    ),
}


class ShutdownTimesTest(unittest.TestCase):
    def test_enough_time_passes_and_too_little_fails(self):
        for name, (enough, too_little) in CASES.items():
            with self.subTest(name):
                self.assertTrue(judge(name, [enough])[1])
                self.assertFalse(judge(name, [too_little])[1])

    def test_the_largest_times_count_against_the_smallest_to_kill(self):
        self.assertFalse(judge("two services", ["GRACE_S: 1\nSHUTDOWN_GRACE_S: 20\nstop_grace_period: 20s\n"
                                                "SHUTDOWN_GRACE_S: 1\nstop_grace_period: 60s\n"])[1])

    def test_a_file_without_servers_says_nothing(self):
        self.assertIsNone(judge("a scrape configuration", ["scrape_interval: 5s\n"]))


if __name__ == "__main__":
    unittest.main()
