"""A test of `tests/tests/it`, on a stack of its own, and what it said."""

import json
import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from orderlog_stack.home import CHECKOUT
from orderlog_stack.report import Failure, say

CARGO = os.environ.get("CARGO", "cargo")
END_TO_END = "it"
ADAPTERS = "adapters"
BUILD_WITHIN_S = 3_600
STACK_WITHIN_S = 600
TEST_WITHIN_S = 420
VIOLATION = re.compile(r"^violation: (\w+): ")
PANIC = re.compile(r"^thread '.*' .*panicked at ")
END_OF_PANIC = "note: run with `RUST_BACKTRACE"
PLAN = re.compile(r"^faults: (.*)$")
FAULTS_OF_PLAN = re.compile(r"^(\w+) \(.* later, (\w+) \(")
CHECKED = re.compile(r"^checked: (\d+) calls")


def target():
    """Where cargo builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target").absolute()


def build(*arguments, checkout=CHECKOUT, into=None):
    """Runs cargo; what it says of its artefacts, one JSON object a line."""
    environment = {**os.environ, **({"CARGO_TARGET_DIR": str(into)} if into else {})}
    command = [CARGO, *arguments, "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True, timeout=BUILD_WITHIN_S)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed in {checkout}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_binaries():
    """The end-to-end tests and those of the read side's databases, built, and the services beside them."""
    built = build("build", "--locked", "--workspace", "--lib", "--bins", "--tests")
    return {END_TO_END: executable(built, END_TO_END), ADAPTERS: executable(built, ADAPTERS, "projections")}


def executable(built, name, package=""):
    """What cargo built under this name, of the package in the directory of that name."""
    found = [each["executable"] for each in built
             if each.get("executable") and each.get("target", {}).get("name") == name
             and f"/{package}" in each["target"]["src_path"]]
    if not found:
        raise Failure(f"cargo built no `{name}` {package}".rstrip())
    return found[-1]


def listed(binary):
    """The names of all tests in it."""
    done = subprocess.run([binary, "--list", "--format=terse"], capture_output=True, text=True, check=True,
                          timeout=STACK_WITHIN_S)
    return [line[:-len(": test")] for line in done.stdout.splitlines() if line.endswith(": test")]


@dataclass
class Said:
    """What a test said."""

    test: str
    passed: bool
    violations: dict = field(default_factory=dict)
    """How many of each kind."""
    panic: str = ""
    """The first line of the first failure that is none of the checker's."""
    faults: list = field(default_factory=list)
    """What it drew from its seed."""
    plans: list = field(default_factory=list)
    calls: int = 0
    output: str = ""

    def why(self):
        """What it failed with, in a few words."""
        if self.violations:
            return ", ".join(f"{kind} × {count}" for kind, count in sorted(self.violations.items()))
        return self.panic or "it did not end in time"


class Stack:
    """A stack for the tests, apart from every other."""

    def __init__(self, home, port_base, binaries):
        self.variables = {
            **os.environ,
            "ORDERLOG_HOME": str(home),
            "ORDERLOG_PORT_BASE": str(port_base),
            "ORDERLOG_BINARIES": str(binaries),
            "ORDERLOG_STACK_BIN": str(CHECKOUT / "scripts" / "stack"),
            "RUST_BACKTRACE": "0",
        }

    def __enter__(self):
        self.reset()
        return self

    def __exit__(self, *_):
        self.reset()

    def run(self, *arguments):
        """`scripts/stack`; what it printed."""
        done = subprocess.run([self.variables["ORDERLOG_STACK_BIN"], *arguments], env=self.variables, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=STACK_WITHIN_S)
        if done.returncode != 0:
            raise Failure(f"scripts/stack {' '.join(arguments)}: {done.stderr.strip()[-2_000:]}")
        return done.stdout

    def reset(self):
        """Ends it and deletes its data."""
        self.run("reset")

    def fresh(self):
        """A new one: no data, everything started."""
        self.reset()
        self.run("up")

    def settings(self):
        """The environment of its tests."""
        lines = (line for line in self.run("env").splitlines() if line.startswith("export "))
        pairs = (line[len("export "):].split("=", 1) for line in lines)
        return {**self.variables, **{name: value.strip("'") for name, value in pairs}}

    def test(self, binary, name, more=None, to_the_end=True):
        """Runs one test; otherwise than `to_the_end` it is ended as soon as it has failed."""
        environment = {**self.settings(), **(more or {})}
        command = [binary, "--exact", "--nocapture", name]
        running = subprocess.Popen(command, cwd=CHECKOUT / "tests", env=environment, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        timer = threading.Timer(TEST_WITHIN_S, _end, [running])
        timer.start()
        said = Said(name, passed=False)
        try:
            failed = _listen(running, said, to_the_end)
            said.passed = not failed and running.wait() == 0 and "1 passed" in said.output
        finally:
            timer.cancel()
            _end(running)
            running.stdout.close()
        return said


def _listen(running, said, to_the_end):
    """Reads what a test says; whether it failed."""
    failing = failed = False
    for line in running.stdout:
        said.output += line
        if found := PLAN.match(line):
            said.plans.append(found.group(1))
            said.faults += FAULTS_OF_PLAN.match(found.group(1)).groups()
        elif found := CHECKED.match(line):
            said.calls += int(found.group(1))
        elif PANIC.match(line):
            failing = failed = True
        elif found := VIOLATION.match(line):
            kind = found.group(1)
            said.violations[kind] = said.violations.get(kind, 0) + 1
        elif failing and line.startswith(END_OF_PANIC):
            failing = False
            if not to_the_end:
                return True
        elif failing and not said.panic:
            said.panic = line.strip()[:160]
    return failed


def _end(running):
    """Ends a test and what it has started for itself; the processes of the stack are in sessions of their own."""
    try:
        os.killpg(running.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    running.wait()


def table(columns, rows):
    """A table of Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def told(said):
    """One progress line."""
    say(f"  {'passed' if said.passed else 'FAILED'}  {said.test}{'' if said.passed else ': ' + said.why()}")
