# SPDX-License-Identifier: Apache-2.0
"""One shell, in which commands run one after the other as in an operator's terminal."""
import os
import select
import subprocess
import tempfile
import time

SERVES = 'listening on '  # in the log of a server that serves


class ShellError(Exception):
    """What a command did instead of ending as it should."""


class Shell:
    """Variables, the folder and background jobs stay from one command to the next."""

    def __init__(self, folder, patience_s):
        self.outputs = tempfile.TemporaryDirectory()
        self.patience_s = patience_s
        self.count = 0
        self.statuses, writer = os.pipe()
        environment = {name: value for name, value in os.environ.items() if not name.startswith('HEADLIGHT_')}
        self.process = subprocess.Popen(['bash', '--noprofile', '--norc'], cwd=folder, env=environment, text=True,
                                        stdin=subprocess.PIPE, pass_fds=[writer])
        self.writer = writer
        os.close(writer)

    def run(self, text):
        """(exit code, what it printed). A server that it leaves in the background serves by then."""
        self.count += 1
        command, output = (f'{self.outputs.name}/{kind}{self.count}' for kind in ('command', 'output'))
        with open(command, 'w', encoding='utf-8') as file:
            file.write(text + '\n')
        end = time.monotonic() + self.patience_s
        status = self.status_of(f'. {command} </dev/null >{output} 2>&1 {self.writer}>&-', output)
        if text.split('#')[0].rstrip().endswith('&') and 'headlight-server' in text:
            self.wait_until_it_serves(output, end)
        return status, read(output)

    def status_of(self, line, output):
        self.process.stdin.write(f'{line}; echo $? >&{self.writer}\n')
        self.process.stdin.flush()
        ready, _, _ = select.select([self.statuses], [], [], self.patience_s)
        if not ready:
            raise ShellError(f'still runs after {self.patience_s} s: {read(output)}')
        status = os.read(self.statuses, 16)
        if not status:
            raise ShellError(f'it ended the shell: {read(output)}')
        return int(status)

    def wait_until_it_serves(self, output, end):
        while SERVES not in read(output):
            if time.monotonic() > end:
                raise ShellError(f'does not serve after {self.patience_s} s: {read(output)}')
            if self.status_of('kill -0 "$!" 2>/dev/null', output) != 0:
                raise ShellError(f'the server has ended: {read(output)}')
            time.sleep(0.1)

    def close(self):
        """Ends the shell; what it has left in the background goes with the room, or by the page's own commands."""
        self.process.stdin.close()
        self.process.wait()
        os.close(self.statuses)
        self.outputs.cleanup()


def read(path):
    with open(path, encoding='utf-8', errors='replace') as file:
        return file.read()
