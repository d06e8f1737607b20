# SPDX-License-Identifier: Apache-2.0
"""A copy of this machine that is thrown away: what runs in it may write to /etc or /models, take any port and name any
process, and nobody else sees it.

Linux's namespaces, and an overlay of the whole file system whose changes are kept in memory. Takes root.
"""
import contextlib
import fcntl
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

INSIDE = '--inside'  # a program that has entered has this, and the descriptor that its exit code is written to
PLACE = '/mnt'  # inside alone something is mounted there
NAMESPACES = ('--mount', '--pid', '--net', '--ipc', '--uts', '--cgroup', '--fork', '--kill-child')
PATIENCE_S = 30  # for what has been killed to be gone
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def why_not():
    """Why there can be no room here, or None."""
    if os.geteuid() != 0:
        return 'only root can make a private file system'
    if shutil.which('unshare') is None:
        return 'there is no unshare in PATH'
    commands = ' && '.join([*OVERLAY, f'chroot {PLACE}/root true'])
    made = subprocess.run(['unshare', *NAMESPACES, 'sh', '-c', commands], capture_output=True, text=True, check=False)
    return None if made.returncode == 0 else 'no private file system: ' + (made.stderr.strip() or 'unshare fails')


def overlay(lower, name):
    return [f'mkdir {PLACE}/{name}.new {PLACE}/{name}.work {PLACE}/{name}',
            f'mount -t overlay overlay -o lowerdir={lower},upperdir={PLACE}/{name}.new,workdir={PLACE}/{name}.work '
            f'{PLACE}/{name}']


OVERLAY = [f'mount -t tmpfs tmpfs {PLACE}', *overlay('/', 'root')]


def enter(script, arguments):
    """Starts `script` again inside; its exit code. With the first process there all others end."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    command = ['setpriv', '--pdeathsig', 'KILL', 'unshare', *NAMESPACES,
               sys.executable, script, *arguments, INSIDE, str(writer)]
    with own_cgroup() as group:
        if group is not None:
            command = ['sh', '-c', 'echo $$ >"$0" && exec "$@"', group + '/cgroup.procs', *command]
        inside = subprocess.Popen(command, pass_fds=[writer])
        os.close(writer)
        code = os.read(reader, 1)  # nothing where it ended otherwise
        inside.kill()
        inside.wait()
    return code[0] if code else 1


@contextlib.contextmanager
def own_cgroup():
    """A cgroup below this process's, in which the room makes its own; None where there is no cgroup v2 to write to."""
    with open('/proc/self/mounts', encoding='utf-8') as mounts:
        places = [line.split()[1] for line in mounts if line.split()[2] == 'cgroup2']
    with open('/proc/self/cgroup', encoding='utf-8') as groups:
        own = [line.strip().removeprefix('0::') for line in groups if line.startswith('0::')]
    try:
        group = tempfile.mkdtemp(prefix='headlight-', dir=places[0] + own[0]) if places and own else None
    except OSError:
        group = None
    try:
        yield group
    finally:
        end = time.monotonic() + PATIENCE_S
        while group is not None and os.path.exists(group) and time.monotonic() < end:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # busy until the kernel has ended the last process in it
                    os.rmdir(folder)
            time.sleep(0.05)


@contextlib.contextmanager
def exit_code(writer):
    """Tells enter() how what is done in the with statement ended. Nothing is said after that."""
    code = 1
    try:
        yield
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os.write(writer, bytes([code]))


def furnish(checkout, programs):
    """Makes the room around this process, with `programs` in /usr/local/bin. The checkout keeps its path."""
    root = PLACE + '/root'
    commands = list(OVERLAY)
    if os.stat(checkout).st_dev != os.stat('/').st_dev:  # an overlay has no other file systems below it
        commands += [*overlay(checkout, 'checkout'), f'mkdir -p {root}{checkout}',
                     f'mount --bind {PLACE}/checkout {root}{checkout}']
    commands += [f'mount -t proc proc {root}/proc']
    commands += [f'mount --rbind /{name} {root}/{name}' for name in ('dev', 'sys')]
    commands += [f'mkdir -p {root}/usr/local/bin', shlex.join(['cp', *programs, root + '/usr/local/bin/'])]
    subprocess.run(['sh', '-c', ' && '.join(commands)], check=True)
    os.chdir(root)
    subprocess.run(['mount', '--move', root, '/'], check=True)  # a chroot alone could make no user namespaces
    os.chroot('.')
    os.chdir(checkout)
    os.environ['PATH'] = '/usr/local/bin:' + os.environ['PATH']
    bring_loopback_up()


def bring_loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack('16sh22x', b'lo', 0)
        flags = struct.unpack('16sh22x', fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack('16sh22x', b'lo', flags | IFF_UP))
