"""The composed system under control of Compose, as a project of its own."""

import json
import re
import subprocess
from pathlib import Path

from orderlog_stack import downloads, tools
from orderlog_stack.home import CHECKOUT
from orderlog_stack.report import Failure, say

PROJECT = "orderlog-test"
UP_WITHIN_S = 600
COMMAND_WITHIN_S = 120
COMPOSE_FILE = CHECKOUT / "docker-compose.yml"
LOG_LINES_SHOWN = 6
KILLER = "debian:bookworm-slim"


class Project:
    """docker-compose.yml on one engine, except for the services of images that are not to be had there. Its volumes are
    not those of a plain `docker compose up`."""

    def __init__(self, engine, profiles=(), without=()):
        self.engine = engine
        self.profiles = profiles
        self.compose = [tools.checker("docker-compose"), "--project-name", PROJECT, "--file", str(COMPOSE_FILE),
                        *(f"--profile={profile}" for profile in profiles)]
        self.config = json.loads(self._run("config", "--format", "json"))
        services = self.config["services"]
        self.left_out = [name for name, service in services.items() if service["image"].partition(":")[0] in without]
        for name in self.left_out:
            del services[name]

    def published_images(self):
        """The images that are not built here."""
        return {service["image"] for service in self.config["services"].values() if "build" not in service}

    def our_services(self):
        """The services whose images are built here."""
        return sorted(name for name, service in self.config["services"].items() if "build" in service)

    def build(self):
        """Builds every image of ours; returns their tags."""
        builds = {service["image"]: service["build"] for service in self.config["services"].values() if "build" in service}
        for tag, build in builds.items():
            log = downloads.cache() / f"image-{re.sub('[^a-z-]', '-', tag)}.log"
            self.engine.build(tag, Path(build["context"]) / build["dockerfile"], build["context"], log, build["target"])
        return sorted(builds)

    def up(self):
        """Starts everything and waits until it is healthy, or has done what it is there for once."""
        log = downloads.cache() / "compose-up.log"
        code = downloads.run([*self.compose, "up", "--no-build", "--detach", "--wait", *self.config["services"]], log,
                             "starting the containers", environment=self.engine.environment, within_s=UP_WITHIN_S)
        if code != 0:
            self.show_logs()
            raise Failure("the containers did not all become healthy", log)

    def stop(self):
        """Stops everything; the volumes stay."""
        self._run("down", within_s=UP_WITHIN_S)

    def halt(self, services):
        """Stops only these."""
        self._run("stop", *services, within_s=UP_WITHIN_S)

    def remove(self):
        """Stops everything and deletes the volumes."""
        self._run("down", "--volumes", "--remove-orphans", within_s=UP_WITHIN_S)

    def containers(self):
        """What `docker inspect` says of each container, by the service's name."""
        ids = self._run("ps", "--all", "--quiet").split()
        found = json.loads(self.engine.run("inspect", *ids))
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def printed_by(self, service):
        """The lines that a service has written to its standard output."""
        return self._run("logs", "--no-log-prefix", service).splitlines()

    def run_once(self, service, *command):
        """Runs a command in a new container of a service's image and with its volumes; returns what it prints."""
        return self._run("run", "--rm", "--no-deps", "--no-TTY", service, *command)

    def kill(self, pid):
        """SIGKILL from outside the container, as the kernel does it when memory is short: Docker's own `kill` would count
        as a stop that was wanted."""
        self.engine.run("run", "--rm", "--network", "none", "--pid", "host", "--user", "0", KILLER, "bash", "-c",
                        f"kill -9 {pid}")

    def show_logs(self):
        """The last lines of every container, for whoever reads why something failed."""
        say(self._run("ps", "--all"))
        say(self._run("logs", "--tail", str(LOG_LINES_SHOWN)))

    def _run(self, *arguments, within_s=COMMAND_WITHIN_S):
        done = subprocess.run([*self.compose, *arguments], env=self.engine.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=within_s)
        if done.returncode != 0:
            raise Failure(f"docker compose {' '.join(arguments)[:200]}: {done.stderr.strip()[-800:]}")
        return done.stdout
