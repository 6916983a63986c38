"""The command line of `scripts/test-compose`."""

import argparse
import contextlib
import signal
import tempfile
import time
from pathlib import Path

from orderlog_demo.screen import Screen
from orderlog_stack.report import EXPECTED, say, show_failure

from . import confinement, engine, stand_ins, walk
from .project import PROJECT, Project

DESCRIPTION = f"""\
Builds the images, brings the core of docker-compose.yml up, walks through the demo's scenario by way of the gateway,
looks at what the containers may do, kills a service, restarts everything, and takes it all down with its volumes.

Where a Docker engine answers, that one is used, with the published images. Elsewhere root on Debian gets one for the
time of the run, in a network namespace of its own and with stand-ins for the images that it cannot pull; each is named.
The project is named {PROJECT}; its ports are those of docker-compose.yml, so that no other composed Orderlog may run.
"""
KILLED = "projections"


def main():
    """Runs the test; the exit code is 0 or 1."""
    argparse.ArgumentParser(
        prog="scripts/test-compose", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    signal.signal(signal.SIGTERM, _end)
    screen, begun = Screen(), time.monotonic()
    try:
        _test(screen)
    except EXPECTED as error:
        show_failure(error, program="test-compose")
        return 1
    except KeyboardInterrupt:
        return 130
    print()
    screen.table()
    print(f"test-compose: everything held, {time.monotonic() - begun:.0f} s in all")
    return 0


def _end(number, _frame):
    """As an exception, so that the engine and the containers are ended."""
    raise SystemExit(128 + number)


def _test(screen):
    machine = engine.of_this_machine()
    if machine:
        say("the machine's own Docker engine, published images")
        tags = _build(screen, machine)
        _run(screen, machine, tags)
        return
    engine.require_programs()
    with engine.for_builds() as builder:
        with screen.step("An engine of its own, with stand-ins for what it cannot pull", "stand-ins"):
            stand_ins.build(builder, Project(builder).published_images())
        tags = _build(screen, builder)
    with engine.in_a_network_of_its_own() as runner:
        _run(screen, runner, tags)


def _build(screen, builder):
    with screen.step("Build the images", "images built") as row:
        tags = Project(builder).build()
        for tag in tags:
            screen.line(f"{tag:<32} {int(builder.run('image', 'inspect', '--format', '{{.Size}}', tag)) / 1e6:5.0f} MB")
        row.count = str(len(tags))
    return tags


def _run(screen, runner, tags):
    project = Project(runner)
    project.remove()  # what an earlier run left when it was killed
    try:
        with _removed_in_the_end(screen, project):
            _check(screen, project, tags)
    except EXPECTED:
        with contextlib.suppress(*EXPECTED):
            project.remove()
        raise


@contextlib.contextmanager
def _removed_in_the_end(screen, project):
    try:
        yield
    except EXPECTED:
        project.show_logs()
        raise
    with screen.step("Take it down", "taken down"):
        project.remove()


def _check(screen, project, tags):
    with screen.step("Start the core and wait until everything is healthy", "containers started") as row:
        project.up()
        row.count = str(len(project.containers()))
    with screen.step("What the containers may do", "containers confined") as row:
        lines = confinement.require_confined(project)
        for line in lines:
            screen.line(line)
        row.count = str(len(lines))
    with tempfile.TemporaryDirectory() as directory:
        secrets = project.run_once("secrets", "bash", "-c", "cat /secrets/* /database-secrets/* /gateway-*/*key.pem")
        with screen.step("What Docker gives away", "secrets looked for") as row:
            row.count = str(confinement.require_kept_secrets(project, [secrets], tags))
        ca_file = Path(directory) / "ca.pem"
        ca_file.write_text(project.run_once("secrets", "cat", "/gateway-secrets/ca.pem"))
        asked = walk.ComposedWalk(screen, project.run_once("secrets", "cat", "/secrets/admin-password").strip(), str(ca_file))
        asked.run()
        with screen.step(f"Kill {KILLED} and wait until it is back", "killed and back"):
            killed = project.containers()[KILLED]["State"]["Pid"]
            project.kill(killed)
            walk.back(project, KILLED, killed)
        asked.still_there("after the kill")
        with screen.step("Stop everything, start it again on the same volumes", "stopped and started"):
            project.stop()
            project.up()
        asked.still_there("after the restart")
