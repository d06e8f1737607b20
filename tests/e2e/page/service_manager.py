# SPDX-License-Identifier: Apache-2.0
"""systemd as the first process of the room (room.py), with nothing but its journal: none of the machine's own services,
mounts or settings of the kernel, which is everybody's."""
import os
import subprocess
import time

SYSTEMD = '/lib/systemd/systemd'
MOUNTS = (('sysfs', '/sys'), ('cgroup2', '/sys/fs/cgroup'), ('tmpfs', '/run'),
          ('tmpfs', '/lib/systemd/system/sysinit.target.wants'))
UNITS = '/etc/systemd/system'
PATIENCE_S = 60


def boot():
    """Called by the first process. Goes on in a child, which hears why there is no systemd, or None."""
    if not os.path.exists(SYSTEMD):
        return f'there is no {SYSTEMD}'
    for kind, place in MOUNTS:
        mounted = subprocess.run(['mount', '-t', kind, kind, place], capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            return mounted.stderr.strip()
    with open(UNITS + '/room.target', 'w', encoding='utf-8') as file:
        file.write('[Unit]\nWants=sysinit.target systemd-journald.service\n')
    for name, text in (('/etc/fstab', ''), ('/etc/machine-id', '')):
        with open(name, 'w', encoding='utf-8') as file:
            file.write(text)
    if os.fork() != 0:
        os.execve(SYSTEMD, [SYSTEMD, '--unit=room.target', '--show-status=no', '--log-level=warning'],
                  {'container': 'other', 'PATH': os.environ['PATH']})
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if state('sysinit.target', 'systemd-journald.service') == ['active', 'active']:
            return None
        time.sleep(0.2)
    return f'systemd does not come up within {PATIENCE_S} s'


def state(*units):
    told = subprocess.run(['systemctl', 'is-active', *units], capture_output=True, text=True, check=False)
    return told.stdout.split()
