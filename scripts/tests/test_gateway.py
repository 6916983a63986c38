"""The gateway's configuration: it is filled, Envoy takes it, and its problems are those of the services."""

import base64
import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderlog_stack import tools  # noqa: E402
from orderlog_stack.home import CHECKOUT  # noqa: E402

GATEWAY = CHECKOUT / "gateway"
PROBLEMS = CHECKOUT / "runtime" / "src" / "problem.rs"
STATUSES = CHECKOUT / "runtime" / "src" / "grpc" / "status.rs"
CODES = {"InvalidArgument": 3, "DeadlineExceeded": 4, "ResourceExhausted": 8, "Unavailable": 14, "Unauthenticated": 16}
WITHIN_S = 60
NO_NODES = '{"resources":[]}'
LOCAL = {
    "COMMAND_API_NODES_FILE": "/nodes.json",
    "COMMAND_API_GRPC_NODES_FILE": "/nodes.json",
    "ORDERLOG_ALLOWED_ORIGIN": "http://localhost:3000,https://shop.example.com",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
    "OTEL_TRACES_SAMPLER_ARG": "0.1",
}
CONTAINER = {"COMMAND_API_ADDRESS": "command-api:8080", "COMMAND_API_GRPC_ADDRESS": "command-api:8081"}


class AGateway(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        tools.openssl()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = Path(directory.name)
        cls.make_certificate("gateway")

    @classmethod
    def make_certificate(cls, *names):
        command = [str(GATEWAY / "make-certificate"), str(cls.directory), *names]
        subprocess.run(command, check=True, timeout=WITHIN_S)

    def settings(self, more):
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GATEWAY_LISTEN": "127.0.0.1:8443",
            "GATEWAY_ADMIN_LISTEN": "127.0.0.1:9901",
            "GATEWAY_CERTIFICATE_FILE": str(self.directory / "gateway.pem"),
            "GATEWAY_PRIVATE_KEY_FILE": str(self.directory / "gateway-key.pem"),
            "PROJECTIONS_ADDRESS": "projections:8080",
            "PROJECTIONS_GRPC_ADDRESS": "projections:8081",
            **more,
        }

    def render(self, more):
        return subprocess.run([str(GATEWAY / "render")], env=self.settings(more), capture_output=True, text=True,
                              timeout=WITHIN_S)


class Rendering(AGateway):
    def test_envoy_takes_what_a_stack_and_what_a_container_runs(self):
        for settings in (LOCAL, CONTAINER):
            nodes = self.directory / "nodes.json"  # must be there; what is in it is read later
            nodes.write_text(NO_NODES)
            settings = {name: value.replace("/nodes.json", str(nodes)) for name, value in settings.items()}
            rendered = self.render(settings)
            self.assertEqual(rendered.stderr, "")
            file = self.directory / "envoy.yaml"
            file.write_text(rendered.stdout)
            checked = subprocess.run([tools.envoy(), "--mode", "validate", "--config-path", str(file)],
                                     capture_output=True, text=True, timeout=WITHIN_S)
            self.assertEqual(checked.returncode, 0, checked.stderr[-2000:])

    def test_a_setting_that_is_not_what_it_must_be_is_refused_by_name(self):
        for name, value in (
            ("GATEWAY_LISTEN", "8443"),
            ("GATEWAY_LISTEN", ""),
            ("GATEWAY_REQUESTS_PER_SECOND", "0"),
            ("GATEWAY_REQUESTS_PER_SECOND", "many"),
            ("GATEWAY_CERTIFICATE_FILE", 'x" } evil: { "'),
            ("ORDERLOG_ALLOWED_ORIGIN", "*"),
            ("ORDERLOG_ALLOWED_ORIGIN", "https://shop.example.com/"),
            ("OTEL_TRACES_SAMPLER_ARG", "7"),
            ("COMMAND_API_NODES_FILE", "nodes.json"),
        ):
            rendered = self.render({**LOCAL, name: value})
            self.assertNotEqual(rendered.returncode, 0, f"{name}={value}")
            self.assertIn(name, rendered.stderr)
            self.assertEqual(rendered.stdout, "")

    def test_traces_are_made_only_where_they_are_wanted(self):
        self.assertIn("value: 10.0000", self.render(LOCAL).stdout)
        self.assertNotIn("opentelemetry", self.render(CONTAINER).stdout)


class Problems(AGateway):
    def test_what_the_gateway_answers_is_word_for_word_what_the_services_answer(self):
        kinds = re.findall(r'= ([A-Z_]+) "([a-z-]+)", "([^"]+)",', PROBLEMS.read_text())
        kinds = {name: (constant, title) for constant, name, title in kinds}
        self.assertGreater(len(kinds), 15)
        statuses = {"BAD_REQUEST": 400, "UNAUTHORIZED": 401, "NOT_FOUND": 404, "METHOD_NOT_ALLOWED": 405,
                    "PAYLOAD_TOO_LARGE": 413, "TOO_MANY_REQUESTS": 429, "SERVICE_UNAVAILABLE": 503}
        found = [json.loads(text) for text in re.findall(r"inline_string: '(\{.*\})'", self.render(LOCAL).stdout)]
        self.assertGreater(len(found), 6)
        for problem in found:
            name = problem["type"].removeprefix("/problems/")
            constant, title = kinds[name]
            self.assertEqual(problem["title"], title, name)
            self.assertEqual(problem["status"], statuses[constant], name)
            self.assertEqual(set(problem), {"type", "title", "status", "detail"}, name)


    def test_and_over_grpc_too(self):
        arms = re.findall(r'((?:\| )?"[a-z"|\s-]+") => Code::([A-Za-z]+),', STATUSES.read_text())
        codes = {name: code for names, code in arms for name in re.findall(r'"([a-z-]+)"', names)}
        self.assertGreater(len(codes), 15)
        answers = re.findall(r'key: grpc-status, value: "(\d+)" .*\n.* key: grpc-status-details-bin, value: ([A-Za-z0-9+/]+) '
                             r'(?:.*\n)*?.* inline_string: "([^"]+)"', self.render(LOCAL).stdout)
        told = set()
        for code, details, message in answers:
            status = protobuf(base64.b64decode(details + "=" * (-len(details) % 4)))
            self.assertEqual((str(status[1][0]), status[2][0].decode()), (code, message))
            kinds = {kind.decode().rpartition(".")[2]: protobuf(value)
                     for kind, value in ((any_[1][0], any_[2][0]) for any_ in map(protobuf, status[3]))}
            info = kinds["ErrorInfo"]
            self.assertEqual(info[2], [b"orderlog"])
            member = protobuf(info[3][0])
            name = member[2][0].decode()
            self.assertEqual(member[1], [b"problem"])
            self.assertEqual(info[1][0].decode(), name.upper().replace("-", "_"))
            self.assertEqual(CODES[codes[name]], int(code), name)
            self.assertEqual("RetryInfo" in kinds, name in ("unavailable", "outcome-unknown"), name)
            told.add(name)
        self.assertEqual(told, {"unavailable", "outcome-unknown", "not-authenticated", "too-many-requests", "too-large",
                                "unreadable"})


def protobuf(data):
    """The fields of a message: number to values, of which there are numbers and bytes here."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Certificates(AGateway):
    def test_a_certificate_is_kept_until_it_must_be_another(self):
        file, authority = self.directory / "gateway.pem", self.directory / "ca.pem"
        before = file.read_bytes(), authority.read_bytes()
        self.make_certificate("gateway")
        self.assertEqual((file.read_bytes(), authority.read_bytes()), before)
        self.make_certificate("gateway", "another")
        self.assertNotEqual(file.read_bytes(), before[0])
        self.assertEqual(authority.read_bytes(), before[1])
        checked = subprocess.run(["openssl", "verify", "-CAfile", str(authority), "-verify_hostname", "another", str(file)],
                                 capture_output=True, text=True, timeout=WITHIN_S)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.make_certificate("gateway")

    def test_only_its_owner_reads_a_key(self):
        for file in ("ca-key.pem", "gateway-key.pem"):
            self.assertEqual((self.directory / file).stat().st_mode & 0o077, 0, file)


if __name__ == "__main__":
    unittest.main()
