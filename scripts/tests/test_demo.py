"""How `scripts/demo` asks, waits and fails, against stand-ins for what it asks."""

import contextlib
import http.server
import io
import json
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderlog_demo import walk  # noqa: E402
from orderlog_demo.client import Api, call  # noqa: E402
from orderlog_demo.screen import Screen  # noqa: E402
from orderlog_stack.home import Home  # noqa: E402
from orderlog_stack.report import Failure  # noqa: E402

UNAVAILABLE = (503, {"type": "/problems/unavailable"})
UNKNOWN = (503, {"type": "/problems/outcome-unknown"})
CREATED = (201, {"id": "1"})


class ADemo(unittest.TestCase):
    def setUp(self):
        shown = contextlib.redirect_stdout(io.StringIO())
        shown.__enter__()
        self.addCleanup(shown.__exit__, None, None, None)
        self.screen = Screen()


class Calls(ADemo):
    def test_who_is_unavailable_is_asked_again(self):
        api = self.api(UNAVAILABLE, UNAVAILABLE, CREATED)
        self.assertEqual(self.post(api)["id"], "1")
        self.assertEqual(self.asked, 3)

    def test_what_may_have_been_done_is_repeated_under_a_key_only(self):
        api = self.api(UNKNOWN, UNKNOWN, CREATED)
        with self.assertRaisesRegex(Failure, "outcome-unknown"):
            self.post(api)
        self.assertEqual(self.asked, 1)
        self.post(api, Idempotency_Key='"one"')
        self.assertEqual(self.asked, 3)

    def test_a_failure_names_the_step_and_the_log_of_who_answered(self):
        api = self.api(UNAVAILABLE, (500, None))
        with self.assertRaisesRegex(Failure, r"step 1 \(Try\) failed: POST /orders answered 500") as caught:
            with self.screen.step("Try"):
                self.post(api)
        self.assertEqual(caught.exception.log, "the log")

    def test_a_failure_names_the_log_of_who_does_not_answer(self):
        api = self.api()
        self.server.server_close()
        with self.assertRaises(Failure) as caught:
            self.post(api)
        self.assertEqual(caught.exception.log, "the log")

    def api(self, *answers):
        """A server that gives these answers, one after another; `asked` counts the requests."""
        self.asked = 0
        test, answers = self, iter(answers)

        class Service(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                test.asked += 1
                status, body = next(answers)
                self.send_response(status)
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for end in (thread.join, self.server.server_close, self.server.shutdown):
            self.addCleanup(end)
        return Api(f"http://127.0.0.1:{self.server.server_address[1]}", "the log")

    def post(self, api, **headers):
        return call(self.screen, "POST", api, "/orders", {}, expect=(201,), **headers)


class Tools(ADemo):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        home = Home(Path(directory.name))
        home.remember("port_base", 1024)
        home.remember("binaries", directory.name)
        self.walk = walk.Walk(self.screen, home, {
            "ORDERLOG_URL": "", "ORDERLOG_CA_FILE": "", "ORDERLOG_PROVIDERS_URL": "",
        }, postgres=None, listener=None)
        self.log = home.log("projections")

    def run_tool(self, script):
        program = self.walk.home.path / "tool"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return self.walk.tool(["tool", "verify"], asks="projections")

    def test_what_a_tool_prints_is_returned(self):
        self.assertEqual(self.run_tool("echo equal; echo too"), ["equal\n", "too\n"])

    def test_a_tool_that_fails_is_named_with_a_log(self):
        with self.assertRaisesRegex(Failure, r"tool verify failed \(3\)") as caught:
            self.run_tool("exit 3")
        self.assertEqual(caught.exception.log, self.log)

    def test_a_tool_that_does_not_end_is_ended(self):
        with mock.patch.object(walk, "COMMAND_WITHIN_S", 0.2):
            with self.assertRaisesRegex(Failure, "tool verify did not end within 0.2 s"):
                self.run_tool("exec sleep 600")

    def test_a_tool_does_not_outlive_the_demo(self):
        lines = []

        def end(line):
            lines.append(line)
            if len(lines) == 2:
                raise SystemExit(143)

        begun = time.monotonic()
        with mock.patch.object(self.screen, "line", end), self.assertRaises(SystemExit):
            self.run_tool("echo $$; exec sleep 20")
        self.assertLess(time.monotonic() - begun, 10)
        self.assertFalse(Path(f"/proc/{int(lines[1])}").exists())


if __name__ == "__main__":
    unittest.main()
