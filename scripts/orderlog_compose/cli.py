"""The command line of `scripts/test-compose`."""

import argparse
import contextlib
import signal
import tempfile
import time
from pathlib import Path

from orderlog_demo.screen import Screen
from orderlog_stack.report import EXPECTED, say, show_failure

from . import confinement, engine, observability, stand_ins, walk
from .project import PROJECT, Project

DESCRIPTION = f"""\
Builds the images, brings the core of docker-compose.yml up, walks through the demo's scenario by way of the gateway,
looks at what the containers may do, kills a service, restarts everything, and takes it all down with its volumes.

Where a Docker engine answers, that one is used, with the published images. Elsewhere root on Debian gets one for the
time of the run, in a network namespace of its own and with stand-ins for the images that it cannot pull; each is named.

With --observability collector, Jaeger, Loki, Prometheus and Grafana run beside it; one order is looked for in Jaeger and
among the log lines, Prometheus is asked what it measures, and everything goes on when collector, Jaeger and Loki are
stopped. Where nothing can be pulled the first two are built with Go (10 minutes once), there is no Grafana, and in Loki's
place stands something that only prints what Loki would be sent.

The project is named {PROJECT}; its ports are those of docker-compose.yml, so that no other composed Orderlog may run.
"""
KILLED = "projections"


def main():
    """Runs the test; the exit code is 0 or 1."""
    parser = argparse.ArgumentParser(
        prog="scripts/test-compose", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--observability", action="store_true", help="also what watches the system")
    profiles = (observability.PROFILE,) if parser.parse_args().observability else ()
    signal.signal(signal.SIGTERM, _end)
    screen, begun = Screen(), time.monotonic()
    try:
        _test(screen, profiles)
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


def _test(screen, profiles):
    machine = engine.of_this_machine()
    if machine:
        say("the machine's own Docker engine, published images")
        project = Project(machine, profiles)
        _run(screen, project, _build(screen, project))
        return
    engine.require_programs()
    with engine.for_builds() as builder:
        project = Project(builder, profiles, without=stand_ins.LEFT_OUT)
        with screen.step("An engine of its own, with stand-ins for what it cannot pull", "stand-ins"):
            stand_ins.build(builder, project.published_images())
            for service in project.left_out:
                say(f"  {service:<42} LEFT OUT: nothing stands in for it here")
        tags = _build(screen, project)
    with engine.in_a_network_of_its_own() as runner:
        _run(screen, Project(runner, profiles, without=stand_ins.LEFT_OUT), tags, published=False)


def _build(screen, project):
    with screen.step("Build the images", "images built") as row:
        tags = project.build()
        for tag in tags:
            screen.line(f"{tag:<32} {int(project.engine.run('image', 'inspect', '--format', '{{.Size}}', tag)) / 1e6:5.0f} MB")
        row.count = str(len(tags))
    return tags


def _run(screen, project, tags, published=True):
    project.remove()  # what an earlier run left when it was killed
    try:
        with _removed_in_the_end(screen, project):
            _check(screen, project, tags, published)
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


def _check(screen, project, tags, published):
    with screen.step("Start everything and wait until it is healthy", "containers started") as row:
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
        if observability.PROFILE in project.profiles:
            _watch(screen, project, asked, published)
        with screen.step(f"Kill {KILLED} and wait until it is back", "killed and back"):
            killed = project.containers()[KILLED]["State"]["Pid"]
            project.kill(killed)
            walk.back(project, KILLED, killed)
        asked.still_there("after the kill")
        with screen.step("Stop everything, start it again on the same volumes", "stopped and started"):
            project.stop()
            project.up()
        asked.still_there("after the restart")


def _watch(screen, project, asked, published):
    watchers = observability.Watchers(screen, project, loki_is_caught=not published)
    watchers.check(asked)
    watchers.take_away()
    asked.anew().run()
