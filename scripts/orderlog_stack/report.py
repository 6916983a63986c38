"""What is said to the person at the terminal: progress on stderr, failures as one line."""

import sys
import time
from pathlib import Path

PROGRESS_EVERY_S = 5.0
LOG_TAIL_LINES = 25
LOG_TAIL_BYTES_MAX = 64 * 1024


class Failure(Exception):
    """Something the person can act on; shown as one line, followed by `log`'s end when there is one."""

    def __init__(self, message, log=None):
        super().__init__(message)
        self.log = log


def say(line):
    """One progress line. stdout is kept for results such as those of `env`."""
    print(line, file=sys.stderr, flush=True)


def show_failure(failure, program="stack"):
    """The failure's line and the end of the log it points at."""
    say(f"{program}: {failure}")
    if failure.log:
        for line in log_tail(failure.log):
            say(f"  | {line}")
        say(f"  whole log: {failure.log}")


def log_tail(path, lines=LOG_TAIL_LINES):
    """The last lines of a log; empty when there is none."""
    path = Path(path)
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LOG_TAIL_BYTES_MAX))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]


class Progress:
    """Says every few seconds that something still goes on."""

    def __init__(self, what):
        self.what = what
        self.started = time.monotonic()
        self.said = self.started

    def elapsed_s(self):
        """Seconds since the start."""
        return time.monotonic() - self.started

    def tick(self, detail=""):
        """Call often; prints at most one line per PROGRESS_EVERY_S."""
        now = time.monotonic()
        if now - self.said >= PROGRESS_EVERY_S:
            self.said = now
            say(f"  {self.what} … {now - self.started:.0f} s{', ' + detail if detail else ''}")
