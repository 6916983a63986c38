"""What is said to the person at the terminal: progress on stderr, failures as one line."""

import subprocess
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


EXPECTED = (Failure, OSError, subprocess.SubprocessError)
"""What a command ends with in one line: besides our own failures those of the machine (a full disk, a directory that
cannot be made, a program that takes too long). Anything else is a mistake of ours and keeps its traceback."""


def say(line):
    """One progress line. stdout is kept for results such as those of `env`."""
    print(line, file=sys.stderr, flush=True)


def show_failure(failure, program="stack"):
    """The line of one of the EXPECTED failures, and the end of the log it points at."""
    say(f"{program}: {in_a_line(failure)}")
    if log := getattr(failure, "log", None):
        for line in log_tail(log):
            say(f"  | {line}")
        say(f"  whole log: {log}")


def in_a_line(failure):
    """One of the EXPECTED failures in words, without line breaks."""
    if isinstance(failure, subprocess.TimeoutExpired):
        command = failure.cmd if isinstance(failure.cmd, str) else " ".join(map(str, failure.cmd))
        return f"`{command}` did not end within {failure.timeout:.0f} s"
    if isinstance(failure, OSError) and failure.filename:
        return f"{failure.filename}: {failure.strerror}"
    return " ".join(str(failure).split())


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
