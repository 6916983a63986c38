"""Running processes: started in sessions of their own, known by pid and start time, ended within bounds."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .home import write_atomically
from .report import Failure, Progress, say

POLL_S = 0.05
KILLED_WITHIN_S = 10
SIGNALLED_WITHIN_S = 5
LOG_BYTES_MAX = 50 * 1024 * 1024
"""A log longer than this is set aside as NAME.log.1 at the next start."""


@dataclass
class Process:
    """What was started under a name, as its record in the home says."""

    pid: int
    start_time: int
    """In clock ticks since boot: with it a pid that was given to another process is recognised."""

    def state(self):
        """running, paused or dead."""
        stat = _stat(self.pid)
        if stat is None or stat.start_time != self.start_time or stat.letter in "ZX":
            return "dead"
        return "paused" if stat.letter in "Tt" else "running"

    def signal(self, number, with_descendants=False):
        """Sends a signal; a process that is gone already is fine."""
        if self.state() == "dead":
            return
        for pid in [self.pid, *(_descendants(self.pid) if with_descendants else [])]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


def started(home, name):
    """The process recorded under this name, or None when it was stopped or never started."""
    try:
        record = json.loads(_record(home, name).read_text())
    except FileNotFoundError:
        return None
    return Process(record["pid"], record["start_time"])


def state(home, name):
    """running, paused, dead (ended by itself or killed) or stopped."""
    process = started(home, name)
    return process.state() if process else "stopped"


def launch(home, name, command, environment, user=None):
    """Starts the command and records it; does not wait until it is ready."""
    log = home.log(name)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(log.name + ".1"))
    with log.open("a") as output:
        output.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {' '.join(command)}\n")
        output.flush()
        try:
            child = subprocess.Popen(
                command, env=environment, cwd=home.path if user is None else "/", stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )
        except OSError as error:
            raise Failure(f"{name} could not be started: {error}") from error
    stat = _stat(child.pid)
    write_atomically(
        _record(home, name), json.dumps({"pid": child.pid, "start_time": stat.start_time if stat else 0}) + "\n"
    )
    _children.append(child)
    return Process(child.pid, stat.start_time if stat else 0)


_children = []
"""Keeps the Popen objects alive, so that Python does not warn about processes left running on purpose."""


def await_ready(home, name, not_ready, within_s):
    """Waits until `not_ready()` returns None instead of a reason; fails with the log's end."""
    process = started(home, name)
    progress = Progress(f"waiting for {name}")
    reason = "not asked yet"
    while progress.elapsed_s() < within_s:
        if process is None or process.state() == "dead":
            raise Failure(f"{name} ended while starting", home.log(name))
        reason = not_ready()
        if reason is None:
            return progress.elapsed_s()
        progress.tick(reason)
        time.sleep(POLL_S)
    raise Failure(f"{name} was not ready within {within_s} s: {reason}", home.log(name))


def stop(home, name, gently=signal.SIGTERM, within_s=30):
    """Asks the process to end, kills it when it does not; forgets it."""
    process = started(home, name)
    if process and process.state() != "dead":
        process.signal(gently)
        process.signal(signal.SIGCONT, with_descendants=True)
        if not _gone([process.pid], within_s, f"stopping {name}"):
            say(f"  {name} did not stop within {within_s} s: killed")
            kill(home, name)
    _record(home, name).unlink(missing_ok=True)


def kill(home, name):
    """SIGKILL to the process and all it started; returns when they are gone. `status` then says dead."""
    process = started(home, name)
    if process is None or process.state() == "dead":
        raise Failure(f"{name} is not running")
    family = [process.pid, *_descendants(process.pid)]
    process.signal(signal.SIGKILL, with_descendants=True)
    if not _gone(family, KILLED_WITHIN_S, f"killing {name}"):
        raise Failure(f"{name} did not go away within {KILLED_WITHIN_S} s of SIGKILL")


def pause(home, name):
    """SIGSTOP to the process and all it started; returns when it stands still."""
    _signal_running(home, name, signal.SIGSTOP, "paused")


def resume(home, name):
    """SIGCONT to the process and all it started."""
    _signal_running(home, name, signal.SIGCONT, "running")


def reload(home, name):
    """SIGHUP to the process itself."""
    process = started(home, name)
    if process is None or process.state() == "dead":
        raise Failure(f"{name} is not running")
    if not _catches(process.pid, signal.SIGHUP):
        raise Failure(f"{name} is still starting, and SIGHUP would end it; say so again when it is ready")
    process.signal(signal.SIGHUP)


def _signal_running(home, name, number, expected):
    process = started(home, name)
    if process is None or process.state() == "dead":
        raise Failure(f"{name} is not running")
    process.signal(number, with_descendants=True)
    deadline = time.monotonic() + SIGNALLED_WITHIN_S
    while process.state() != expected:
        if time.monotonic() > deadline:
            raise Failure(f"{name} is {process.state()}, not {expected}, {SIGNALLED_WITHIN_S} s after the signal")
        time.sleep(POLL_S)


def _catches(pid, number):
    """Whether the process has a handler for the signal, as the kernel says."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _gone(pids, within_s, what):
    progress = Progress(what)
    while progress.elapsed_s() < within_s:
        for child in _children:
            child.poll()
        if all((stat := _stat(pid)) is None or stat.letter in "ZX" for pid in pids):
            return True
        progress.tick()
        time.sleep(POLL_S)
    return False


def _record(home, name):
    return home.run / f"{name}.json"


@dataclass
class _Stat:
    letter: str
    parent: int
    start_time: int


def _stat(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2:].split()
    return _Stat(letter=fields[0], parent=int(fields[1]), start_time=int(fields[19]))


def _descendants(pid):
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(stat.parent, []).append(int(entry.name))
    found, open_ends = [], [pid]
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found += below
        open_ends += below
    return found
