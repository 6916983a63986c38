"""A Docker engine: the machine's own where it can be used, otherwise one that is started for this run and ended with it."""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orderlog_stack import downloads, tools
from orderlog_stack.report import Failure, say

ASKED_WITHIN_S = 20
COMMAND_WITHIN_S = 600
BUILD_WITHIN_S = 5400
STARTED_WITHIN_S = 60
ENDED_WITHIN_S = 60
POLL_S = 0.1
OPEN_FILES_MAX = 1_048_576
NEW_NETWORK_NAMESPACE = 0x40000000
PROGRAMS = {"/usr/sbin/dockerd": "docker.io", "/usr/bin/docker": "docker.io", "/usr/bin/mmdebstrap": "mmdebstrap",
            "/usr/sbin/iptables": "iptables", "/usr/sbin/ip": "iproute2"}
"""What an engine of our own needs, and the Debian packages that have it. The client is Debian's too: a newer one that
may lie before it on PATH builds with a plugin only."""


@dataclass(frozen=True)
class Engine:
    """How Docker is called."""

    docker: str
    environment: dict
    build_arguments: tuple = ()

    def run(self, *arguments, within_s=COMMAND_WITHIN_S):
        """Runs one command of Docker's and returns what it prints; fails with its last lines."""
        done = subprocess.run([self.docker, *arguments], env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=within_s)
        if done.returncode != 0:
            raise Failure(f"docker {' '.join(arguments)[:200]}: {(done.stderr or done.stdout).strip()[-800:]}")
        return done.stdout

    def has_image(self, tag):
        """Whether the image is there already."""
        done = subprocess.run([self.docker, "image", "inspect", tag], env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=ASKED_WITHIN_S)
        return done.returncode == 0

    def build(self, tag, dockerfile, context, log, target=None):
        """Builds one image; the build's own output goes to the log."""
        jobs = ["--build-arg", "CARGO_BUILD_JOBS"] if "CARGO_BUILD_JOBS" in self.environment else []
        command = [self.docker, "build", "--progress", "plain", *self.build_arguments, *jobs, "--tag", tag,
                   "--file", str(dockerfile), *(["--target", target] if target else []), str(context)]
        if downloads.run(command, log, f"building {tag}", environment=self.environment, within_s=BUILD_WITHIN_S) != 0:
            raise Failure(f"{tag} could not be built", log)


def of_this_machine():
    """The engine that the shell's Docker talks to, or None."""
    docker = shutil.which("docker")
    if not docker:
        return None
    try:
        asked = subprocess.run([docker, "version", "--format", "{{.Server.Version}}"], stdin=subprocess.DEVNULL,
                               capture_output=True, text=True, timeout=ASKED_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode != 0:
        return None
    return Engine(docker, {**os.environ, "DOCKER_BUILDKIT": "1"})


def require_programs():
    """Installs what an engine of our own needs; only root on Debian can have one."""
    if os.geteuid() != 0:
        raise Failure("no Docker engine answers here, and only root can start one: start yours, or run this as root")
    with _nothing_started():
        for program, package in PROGRAMS.items():
            tools.debian_program(program, package)


@contextlib.contextmanager
def _nothing_started():
    """Debian's packages start their daemon unless this file says no."""
    policy = Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if made:
            policy.unlink()


@contextlib.contextmanager
def for_builds():
    """An engine of our own that builds with the machine's network and changes nothing of it."""
    quiet = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"]
    with _started(quiet, ("--network", "host")) as engine:
        yield engine


@contextlib.contextmanager
def in_a_network_of_its_own():
    """An engine of our own in a new network namespace, which this process enters for good: its bridges and rules touch
    nothing outside, and the ports it publishes are reached from here only."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK_NAMESPACE) != 0:
        raise Failure(f"no network namespace of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["/usr/sbin/ip", "link", "set", "lo", "up"], check=True, timeout=ASKED_WITHIN_S)
    with _started([], ()) as engine:
        yield engine


@contextlib.contextmanager
def _started(more, build_arguments):
    """`dockerd` with its images in the cache; ended by its own process id."""
    state = Path(tempfile.mkdtemp(prefix="orderlog-docker-"))
    socket = f"unix://{state}/docker.sock"
    log = downloads.cache() / "docker.log"
    open_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], OPEN_FILES_MAX)
    command = ["/usr/sbin/dockerd", "--host", socket, "--data-root", str(downloads.cache() / "docker"),
               "--exec-root", str(state / "run"), "--pidfile", str(state / "docker.pid"),
               "--default-ulimit", f"nofile={open_files}:{open_files}", "--storage-driver", "overlay2",
               "--exec-opt", "native.cgroupdriver=cgroupfs", *more]
    environment = {**os.environ, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(state / "client")}
    with downloads.locked("docker"), log.open("w") as output:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                  start_new_session=True)
        try:
            engine = Engine("/usr/bin/docker", environment, build_arguments)
            _await_answer(engine, daemon, log)
            yield engine
        finally:
            _end(daemon)
            shutil.rmtree(state, ignore_errors=True)


def _await_answer(engine, daemon, log):
    deadline = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise Failure(f"dockerd ended with code {daemon.returncode}", log)
        with contextlib.suppress(Failure, subprocess.TimeoutExpired):
            engine.run("version", within_s=ASKED_WITHIN_S)
            return
        time.sleep(POLL_S)
    raise Failure(f"dockerd did not answer within {STARTED_WITHIN_S} s", log)


def _end(daemon):
    """SIGTERM lets it stop its containers and its containerd; SIGKILL only when it does not."""
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(ENDED_WITHIN_S)
    except subprocess.TimeoutExpired:
        say(f"  dockerd did not end within {ENDED_WITHIN_S} s: killed")
        daemon.kill()
        daemon.wait()
