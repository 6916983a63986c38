"""What `scripts/stack` promises about homes, processes and downloads, without starting any component.

Where services are needed, a stand-in takes their place: it listens, says that it is ready, and notes what it is asked.
"""

import contextlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderlog_stack import cli, downloads, probes, processes, services, stack, tools  # noqa: E402
from orderlog_stack.home import PORT_OFFSETS, Home  # noqa: E402
from orderlog_stack.report import Failure  # noqa: E402

SLEEPER = ["sleep", "600"]
METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
SERVICE = f"""#!{sys.executable}
import http.server, json, os, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

with open(os.path.dirname(sys.argv[0]) + "/asked", "a") as asked:
    print(json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], dict(os.environ)]), file=asked)
if sys.argv[1:] not in ([], ["serve"]):
    sys.exit(os.path.exists(os.path.dirname(sys.argv[0]) + "/refuses-" + sys.argv[1]))
host, port = next(value for name, value in os.environ.items() if name.endswith("_LISTEN")).split(":")
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""


class AStack(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.base = _free_base()
        environment = mock.patch.dict(os.environ, {"XDG_CACHE_HOME": directory.name, "ORDERLOG_PORT_BASE": str(self.base)})
        environment.start()
        self.addCleanup(environment.stop)
        self.home = Home(Path(directory.name) / "home")
        self.home.create()

    def launch(self, command=SLEEPER):
        process = processes.launch(self.home, "sleeper", command, dict(os.environ))
        self.addCleanup(process.signal, 9, with_descendants=True)
        return process


class Ports(AStack):
    def test_the_base_is_remembered(self):
        del os.environ["ORDERLOG_PORT_BASE"]
        self.assertEqual(Home(self.home.path).address("registry"), f"127.0.0.1:{self.base + 2}")

    def test_another_base_for_the_same_home_is_refused(self):
        os.environ["ORDERLOG_PORT_BASE"] = str(self.base + 1000)
        with self.assertRaisesRegex(Failure, f"was made with port base {self.base}"):
            self.home.create()

    def test_a_base_that_is_no_port_is_refused(self):
        for wrong in ("80", "65001", "x", "-1"):
            os.environ["ORDERLOG_PORT_BASE"] = wrong
            with self.assertRaises(Failure):
                Home(self.home.path / wrong).create()
            self.assertFalse((self.home.path / wrong).exists())

    def test_ports_that_are_taken_are_not_remembered(self):
        port = self.base + PORT_OFFSETS["notifier"]
        with socket.create_server(("127.0.0.1", port)):
            home = Home(self.home.path / "new")
            with self.assertRaisesRegex(Failure, f"port {port}, which notifier needs, is taken"):
                home.create()
            self.assertFalse(home.path.exists())
        home.create()

    def test_a_probe_that_connects_with_itself_has_found_nobody(self):
        begins_there = socket.socket()
        self.addCleanup(begins_there.close)
        begins_there.bind(("127.0.0.1", 0))
        port = begins_there.getsockname()[1]
        with mock.patch.object(socket, "socket", return_value=begins_there):
            self.assertFalse(probes.taken(port))


class Reset(AStack):
    def test_it_leaves_nothing_and_may_be_repeated(self):
        self.launch()
        self.home.secret("password")
        for _ in range(2):
            with mock.patch.dict(os.environ, {"ORDERLOG_HOME": str(self.home.path)}):
                with mock.patch.object(sys, "argv", ["scripts/stack", "reset"]):
                    self.assertEqual(cli.main(), 0)
            self.assertFalse(self.home.path.exists())


class AStackOfServices(AStack):
    """The stand-in as every service, and no third-party component."""

    def setUp(self):
        super().setUp()
        self.binaries = self.home.path.parent / "binaries"
        self.binaries.mkdir()
        for name in services.BINARIES:
            (self.binaries / name).write_text(SERVICE)
            (self.binaries / name).chmod(0o755)
        os.environ["ORDERLOG_BINARIES"] = str(self.binaries)
        os.environ["ORDERLOG_PORT_BASE"] = str(_free_base())
        self.home = Home(self.home.path.parent / "of-services")
        without = mock.patch.object(stack, "THIRD_PARTY", ())
        without.start()
        self.addCleanup(without.stop)
        self.addCleanup(lambda: self.home.exists() and self.quietly(stack.down))

    def up(self, nodes=None):
        self.quietly(stack.up, nodes, components_only=False)

    def quietly(self, command, *arguments, **more):
        with contextlib.redirect_stderr(io.StringIO()):
            command(self.home, *arguments, **more)

    def asked(self):
        """What the stand-in was run as: binary, arguments, environment."""
        return [json.loads(line) for line in (self.binaries / "asked").read_text().splitlines()]


class Nodes(AStackOfServices):
    def test_a_stopped_node_stays_in_status_and_env(self):
        self.up(nodes=2)
        stack.stop(self.home, "command-api-1")
        self.assertEqual(self.nodes(), {"command-api-1": "stopped", "command-api-2": "running"})
        self.up()
        self.assertEqual(self.nodes(), {"command-api-1": "running", "command-api-2": "running"})

    def test_up_ends_the_nodes_that_are_too_many_by_their_names(self):
        self.up(nodes=3)
        stack.stop(self.home, "command-api-1")
        self.up(nodes=1)
        self.assertEqual(self.nodes(), {"command-api-1": "running"})
        self.assertEqual(processes.state(self.home, "command-api-2"), "stopped")
        self.assertEqual(processes.state(self.home, "command-api-3"), "stopped")

    def test_a_node_that_start_added_belongs_to_the_stack_until_it_is_stopped(self):
        self.up()
        self.quietly(stack.start, "command-api-3")
        self.assertEqual(self.nodes(), {"command-api-1": "running", "command-api-3": "running"})
        stack.stop(self.home, "command-api-3")
        self.assertEqual(self.nodes(), {"command-api-1": "running"})

    def nodes(self):
        """The states that `status` shows of the nodes; `env` must name the same nodes."""
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            stack.status(self.home)
        lines = [line.split() for line in shown.getvalue().splitlines() if line.startswith("command-api-")]
        urls = services.settings(self.home)["ORDERLOG_COMMAND_URLS"].split(",")
        self.assertEqual(urls, [f"http://{self.home.address(line[0])}" for line in lines])
        return {line[0]: line[1] for line in lines}


class Reloads(AStack):
    def test_only_what_reads_anew_gets_the_signal(self):
        with mock.patch.object(processes, "reload") as signalled:
            for name in ("command-api-1", "command-api-3", "projections", "notifier"):
                stack.reload(self.home, name)
                signalled.assert_called_with(self.home, name)
            signalled.reset_mock()
            for name in ("kafka", "postgres", "gateway", "providers", "spans", "nobody"):
                with self.assertRaises(Failure, msg=name):
                    stack.reload(self.home, name)
            signalled.assert_not_called()


class Admin(AStackOfServices):
    def test_an_up_after_one_that_was_interrupted_makes_the_admin(self):
        (self.binaries / "refuses-create-admin").touch()
        with self.assertRaisesRegex(Failure, "create-admin failed"):
            self.up()
        (self.binaries / "refuses-create-admin").unlink()
        self.up()
        self.assertEqual([arguments for _, arguments, _ in self.asked()].count(["create-admin"]), 2)


class Failures(AStack):
    def test_what_the_machine_refuses_is_one_line(self):
        for command, home in (("up", "/proc/nope"), ("up", __file__), ("up", f"{__file__}/below"), ("down", __file__)):
            with mock.patch.dict(os.environ, {"ORDERLOG_HOME": home, "ORDERLOG_PORT_BASE": str(_free_base())}):
                code, said = self.stack(command)
            self.assertEqual((code, len(said)), (0, 0) if command == "down" else (1, 1), said)

    def test_a_program_that_takes_too_long_is_one_line(self):
        slow = subprocess.TimeoutExpired(["initdb", "-D", "somewhere"], 120)
        with mock.patch.dict(os.environ, {"ORDERLOG_HOME": str(self.home.path)}):
            with mock.patch.object(stack, "status", side_effect=slow):
                self.assertEqual(self.stack("status"), (1, ["stack: `initdb -D somewhere` did not end within 120 s"]))

    def stack(self, *arguments):
        """Exit code and lines of a command of `scripts/stack`."""
        said = io.StringIO()
        with mock.patch.object(sys, "argv", ["scripts/stack", *arguments]), contextlib.redirect_stderr(said):
            return cli.main(), said.getvalue().splitlines()


class Locks(AStack):
    def test_whoever_waits_says_so(self):
        said, first = io.StringIO(), contextlib.ExitStack()
        first.enter_context(self.home.lock("stack"))

        def second():
            with self.home.lock("stack"):
                pass

        with contextlib.redirect_stderr(said):
            waiting = threading.Thread(target=second)
            waiting.start()
            deadline = time.monotonic() + 5
            while not said.getvalue() and time.monotonic() < deadline:
                waiting.join(0.01)
            first.close()
            waiting.join()
        self.assertEqual(said.getvalue(), "  waiting for another command that works on this stack\n")


class Proxies(AStackOfServices):
    def test_loopback_is_asked_past_a_proxy_of_the_shell(self):
        os.environ.update(HTTP_PROXY="http://proxy.example", NO_PROXY="intranet, 127.0.0.1", no_proxy="intranet")
        self.up()
        wanted = "intranet,127.0.0.1,localhost"
        for binary, arguments, environment in self.asked():
            excepted = environment["NO_PROXY"], environment["no_proxy"]
            self.assertEqual(excepted, (wanted, wanted), (binary, arguments))
            self.assertEqual(environment["HTTP_PROXY"], "http://proxy.example")
        self.assertEqual(services.settings(self.home)["NO_PROXY"], wanted)


class Traces(AStackOfServices):
    def test_they_go_to_the_stack_itself_unless_the_shell_says_otherwise(self):
        endpoint, sampled = services.TRACES
        os.environ.update({endpoint: ""})
        self.up()
        told = {binary: environment[endpoint] for binary, arguments, environment in self.asked() if arguments == ["serve"]}
        self.assertEqual(told, dict.fromkeys(("command-api", "projections", "notifier"), ""))
        own = f"http://{self.home.address('spans-otlp')}"
        for given, wanted in (
            ({}, (own, "1.0")),
            ({sampled: ""}, (own, "1.0")),
            ({endpoint: "http://collector:4317", sampled: "0.5"}, ("http://collector:4317", "0.5")),
            ({endpoint: ""}, ("", "1.0")),
        ):
            for name in services.TRACES:
                os.environ.pop(name, None)
            os.environ.update(given)
            told = services.settings(self.home)
            self.assertEqual((told[endpoint], told[sampled]), wanted, given)


class Secrets(AStack):
    def test_a_secret_is_made_once_and_read_by_its_owner_only(self):
        secret = self.home.secret("password")
        self.assertEqual(self.home.secret("password"), secret)
        self.assertEqual((self.home.secrets / "password").stat().st_mode & 0o777, 0o600)


class Processes(AStack):
    def test_the_states_a_process_goes_through(self):
        self.assertEqual(processes.state(self.home, "sleeper"), "stopped")
        self.launch()
        self.assertEqual(processes.state(self.home, "sleeper"), "running")
        processes.pause(self.home, "sleeper")
        self.assertEqual(processes.state(self.home, "sleeper"), "paused")
        processes.resume(self.home, "sleeper")
        self.assertEqual(processes.state(self.home, "sleeper"), "running")
        processes.kill(self.home, "sleeper")
        self.assertEqual(processes.state(self.home, "sleeper"), "dead")
        processes.stop(self.home, "sleeper")
        self.assertEqual(processes.state(self.home, "sleeper"), "stopped")

    def test_reload_is_a_hangup_to_the_process(self):
        self.launch(["sh", "-c", "trap 'echo again' HUP; echo ready; while :; do sleep 0.05; done"])
        processes.await_ready(self.home, "sleeper", lambda: None if "ready\n" in self.log() else "silent", within_s=5)
        processes.reload(self.home, "sleeper")
        processes.await_ready(self.home, "sleeper", lambda: None if "again\n" in self.log() else "silent", within_s=5)
        processes.stop(self.home, "sleeper")

    def test_a_process_that_a_hangup_would_end_is_left_alone(self):
        self.launch()
        with self.assertRaisesRegex(Failure, "sleeper is still starting"):
            processes.reload(self.home, "sleeper")
        self.assertEqual(processes.state(self.home, "sleeper"), "running")
        processes.stop(self.home, "sleeper")

    def test_a_paused_process_can_be_stopped(self):
        self.launch()
        processes.pause(self.home, "sleeper")
        processes.stop(self.home, "sleeper", within_s=5)
        self.assertEqual(processes.state(self.home, "sleeper"), "stopped")

    def test_a_process_that_ignores_the_request_is_killed(self):
        process = self.launch(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
        processes.await_ready(self.home, "sleeper", lambda: None if "ready\n" in self.log() else "silent", within_s=5)
        processes.stop(self.home, "sleeper", within_s=0.5)
        self.assertEqual(process.state(), "dead")

    def test_kill_takes_the_children_along(self):
        process = self.launch(["sh", "-c", "sleep 600 & echo child $!; wait"])
        processes.await_ready(self.home, "sleeper", lambda: None if "child" in self.log() else "silent", within_s=5)
        child = int(self.log().split("child ")[-1])
        processes.kill(self.home, "sleeper")
        self.assertEqual(process.state(), "dead")
        self.assertFalse(_runs(child))

    def test_a_pid_given_to_another_process_is_not_ours(self):
        process = self.launch()
        stranger = processes.Process(process.pid, process.start_time - 1)
        self.assertEqual(stranger.state(), "dead")
        stranger.signal(9)
        self.assertEqual(process.state(), "running")

    def test_a_crash_during_the_start_is_noticed_at_once(self):
        self.launch(["sh", "-c", "echo no disk left; exit 1"])
        with self.assertRaisesRegex(Failure, "sleeper ended while starting") as caught:
            processes.await_ready(self.home, "sleeper", lambda: "not yet", within_s=30)
        self.assertEqual(caught.exception.log, self.home.log("sleeper"))

    def log(self):
        return self.home.log("sleeper").read_text().split("\n", 1)[1]


class Downloads(AStack):
    def test_a_wrong_checksum_is_refused_and_nothing_enters_the_cache(self):
        def fill(staging):
            (staging / "file").write_text("tampered with")
            downloads.check(staging / "file", "0" * 64)
            return staging

        with self.assertRaisesRegex(Failure, "is not what scripts/versions.json says"):
            downloads.cached("thing-1", fill)
        self.assertFalse((downloads.cache() / "thing-1").exists())

    def test_two_stacks_that_need_the_same_fetch_it_once(self):
        fetched = []

        def fill(staging):
            fetched.append(staging)
            (staging / "out").mkdir()
            return staging / "out"

        threads = [threading.Thread(target=downloads.cached, args=("thing-2", fill)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(fetched), 1)

    def test_what_an_interrupted_download_left_is_thrown_away(self):
        left = downloads.cache() / "thing-3.partial"
        left.mkdir()
        (left / "half").touch()
        place = downloads.cached("thing-3", lambda staging: (staging / "out").mkdir() or staging / "out")
        self.assertEqual(list(place.iterdir()), [])


class Programs(AStack):
    """What is found on the machine, and whether it is good enough."""

    def setUp(self):
        super().setUp()
        for directory in ("path", "postgres"):
            (self.home.path / directory).mkdir()
        for patch in (
            mock.patch.object(tools, "POSTGRES_DIRECTORIES", str(self.home.path / "postgres")),
            mock.patch.dict(os.environ, {"PATH": str(self.home.path / "path")}),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def install(self, directory, name, says):
        program = self.home.path / directory / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
        return str(program)

    def install_postgres(self, directory, version):
        for name in tools.POSTGRES_PROGRAMS:
            self.install(directory, name, f"{name} (PostgreSQL) {version} (Debian)")

    def test_a_mongod_that_is_new_enough_is_used(self):
        found = self.install("path", "mongod", "db version v7.0.14")
        self.assertEqual(tools.mongod(), found)

    def test_a_mongod_that_is_too_old_is_not(self):
        self.install("path", "mongod", "db version v4.4.29")
        fetched = downloads.cache() / f"mongodb-{downloads.VERSIONS['mongodb']['version']}"
        fetched.mkdir()
        with mock.patch.object(tools, "_missing_libraries", return_value=[]):
            self.assertEqual(tools.mongod(), str(fetched / "mongod"))

    def test_the_postgres_on_path_comes_first_when_it_is_new_enough(self):
        self.install_postgres("postgres/17/bin", "17.2")
        self.install_postgres("path", "16devel")
        self.assertEqual(tools.postgres("psql"), str(self.home.path / "path" / "psql"))

    def test_the_newest_postgres_installed_is_used(self):
        self.install_postgres("path", "13.18")
        for version in ("9.6", "14", "17"):
            self.install_postgres(f"postgres/{version}/bin", f"{version}.1")
        (self.home.path / "postgres" / "common" / "bin").mkdir(parents=True)
        self.assertEqual(tools.postgres("psql"), str(self.home.path / "postgres" / "17" / "bin" / "psql"))

    def test_a_postgres_that_is_too_old_or_not_whole_is_no_postgres(self):
        self.install_postgres("path", "13.18")
        self.install("postgres/17/bin", "postgres", "postgres (PostgreSQL) 17.1")
        with mock.patch.object(tools, "_apt_install") as install:
            with self.assertRaisesRegex(Failure, "no PostgreSQL 14 or newer"):
                tools.postgres("psql")
        install.assert_called_once_with("postgresql", "PostgreSQL")

    def test_a_postgres_that_is_missing_is_installed_beside_its_client(self):
        self.install("postgres/17/bin", "psql", "psql (PostgreSQL) 17.1")
        install = mock.patch.object(
            tools, "_apt_install", side_effect=lambda *_: self.install_postgres("postgres/17/bin", "17.1"))
        with install:
            self.assertEqual(tools.postgres("initdb"), str(self.home.path / "postgres" / "17" / "bin" / "initdb"))


class Packages(AStack):
    """Through pip, from a directory in place of the package index."""

    def setUp(self):
        super().setUp()
        tools.require_pip()
        index = self.home.path / "index"
        index.mkdir()
        os.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index))
        self.source = index / "thing-1.0.tar.gz"
        self.built = self.home.path / "built"
        self.add_source_package()
        self.wheel = index / "other-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as wheel:
            wheel.writestr("other/program", "of the wheel")
            wheel.writestr("other-1.0.dist-info/METADATA", METADATA.format("other"))
            wheel.writestr("other-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr("other-1.0.dist-info/RECORD", "")

    def add_source_package(self):
        """One whose build program leaves a trace when pip starts it."""
        files = {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n',
            "PKG-INFO": METADATA.format("thing"),
            "program": "of the source package",
            "build.py": f"""
import os
open({str(self.built)!r}, "w").close()

def prepare_metadata_for_build_wheel(directory, settings=None):
    os.mkdir(os.path.join(directory, "thing-1.0.dist-info"))
    with open(os.path.join(directory, "thing-1.0.dist-info", "METADATA"), "w") as file:
        file.write({METADATA.format("thing")!r})
    return "thing-1.0.dist-info"

def build_wheel(directory, settings=None, metadata=None):
    raise NotImplementedError
""",
        }
        with tarfile.open(self.source, "w:gz") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(f"thing-1.0/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))

    def test_a_source_package_with_another_checksum_is_refused_before_it_is_built(self):
        with self.assertRaises(Failure) as caught:
            self.get("thing", {self.source.name: "0" * 64})
        self.assertFalse(self.built.exists())
        self.assertIn("none with a checksum of scripts/versions.json", str(caught.exception))

    def test_a_package_with_its_checksum_is_unpacked(self):
        unpacked = self.get("thing", {self.source.name: downloads.sha256(self.source)})
        self.assertEqual((unpacked / "thing-1.0" / "program").read_text(), "of the source package")

    def test_one_checksum_of_several_machines_is_enough(self):
        of_others = {f"other-1.0-py3-none-{machine}.whl": machine * 32 for machine in ("aa", "bb")}
        unpacked = self.get("other", {**of_others, self.wheel.name: downloads.sha256(self.wheel)})
        self.assertEqual((unpacked / "other" / "program").read_text(), "of the wheel")
        with self.assertRaisesRegex(Failure, "a machine of another kind"):
            self.get("other", of_others)

    def get(self, name, checksums):
        staging = self.home.path / f"{name}.{len(checksums)}.partial"
        staging.mkdir()
        with contextlib.redirect_stderr(io.StringIO()):
            return downloads.pip_package(f"{name}==1.0", checksums, staging, name)


def _free_base():
    while True:
        base = random.randrange(10000, 32000, 100)
        if not any(probes.taken(base + offset) for offset in (*PORT_OFFSETS.values(), *range(10, 15))):
            return base


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    unittest.main()
