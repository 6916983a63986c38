"""One stack's home: where its state lives, which ports it uses, its secrets."""

import contextlib
import fcntl
import json
import os
import secrets as random_secrets
from pathlib import Path

from . import probes
from .report import Failure, say

CHECKOUT = Path(__file__).resolve().parents[2]
PORT_BASE_DEFAULT = 21000
PORT_BASE_MIN = 1024
PORT_BASE_MAX = 65000
PORT_OFFSETS = {
    "kafka": 0,
    "kafka-controller": 1,
    "registry": 2,
    "postgres": 3,
    "mongodb": 4,
    "providers": 5,
    "gateway": 6,
    "projections-grpc": 7,
    "projections": 8,
    "notifier": 9,
    "command-api-1": 10,
    "command-api-1-grpc": 30,
    "registry-management": 50,
    "gateway-admin": 51,
    "spans-otlp": 52,
    "spans": 53,
    "providers-smtp": 54,
    "providers-smtps": 55,
    "command-api-1-node": 60,
    "kafka-proxied": 56,
    "kafka-proxy": 57,
}
NODES_MAX = 20
"""command-api-21 would meet the ports of gRPC; each has three, in three rows."""

ADMIN_EMAIL = "admin@example.com"
PASSWORD_BYTES = 24


class Home:
    """State, logs, records and secrets of one stack, all below one directory."""

    def __init__(self, path):
        self.path = path
        self.logs = path / "logs"
        self.data = path / "data"
        self.run = path / "run"
        self.secrets = path / "secrets"

    @classmethod
    def from_environment(cls):
        """ORDERLOG_HOME, or `.orderlog` in the checkout."""
        return cls(Path(os.environ.get("ORDERLOG_HOME") or CHECKOUT / ".orderlog").absolute())

    def create(self):
        """Remembers the port base and makes the directories; a second call changes nothing."""
        wanted = os.environ.get("ORDERLOG_PORT_BASE")
        if not self.exists():
            base = _checked_base(wanted or str(PORT_BASE_DEFAULT))
            _require_free(base)
            self.path.mkdir(parents=True, exist_ok=True)
            self.remember("port_base", base)
        elif wanted and _checked_base(wanted) != self.port_base():
            raise Failure(
                f"{self.path} was made with port base {self.port_base()}, not {wanted}: "
                "unset ORDERLOG_PORT_BASE, or name another ORDERLOG_HOME, or run scripts/stack reset"
            )
        for directory in (self.logs, self.data, self.run):
            directory.mkdir(exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)

    def exists(self):
        """Whether `up` was run here before."""
        return self._settings_file().exists()

    def require(self):
        """Fails unless `up` was run here before."""
        if not self.exists():
            raise Failure(f"there is no stack in {self.path}: run scripts/stack up")

    def port_base(self):
        """The first port of this stack, as remembered from its first `up`."""
        return self.remembered("port_base")

    def remember(self, name, value):
        """Keeps a choice of `up` for the commands that follow it."""
        known = json.loads(self._settings_file().read_text()) if self.exists() else {}
        write_atomically(self._settings_file(), json.dumps({**known, name: value}) + "\n")

    def remembered(self, name):
        """What `remember` kept under this name, or None."""
        return json.loads(self._settings_file().read_text()).get(name)

    def forget(self):
        """The last step of `reset`: the next `up` chooses anew. The directory stays when it holds other things."""
        self._settings_file().unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def port(self, name):
        """The port of a component or service; NAME-grpc is where it speaks gRPC, NAME-node where it does so with other nodes."""
        if name.startswith("command-api-"):
            number, dash, row = name[len("command-api-"):].partition("-")
            return self.port_base() + PORT_OFFSETS[f"command-api-1{dash}{row}"] + int(number) - 1
        return self.port_base() + PORT_OFFSETS[name]

    def address(self, name):
        """host:port of a component or service."""
        return f"127.0.0.1:{self.port(name)}"

    def log(self, name):
        """The log file of a component or service."""
        return self.logs / f"{name}.log"

    def secret(self, name, prefix="", value=None):
        """The secret of that name, made up on first use and kept in a file only its owner reads."""
        path = self.secrets / name
        if not path.exists():
            secret = prefix + (value or random_secrets.token_urlsafe(PASSWORD_BYTES))
            write_atomically(path, secret + "\n", mode=0o600)
        return path.read_text().strip()

    @contextlib.contextmanager
    def lock(self, name):
        """Keeps a second command of the same kind out until this one is done."""
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"  waiting for another command that works on {'this stack' if name == 'stack' else name}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _settings_file(self):
        return self.path / "stack.json"


def write_atomically(path, text, mode=0o644):
    """Whole or not at all, also when killed half-way."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    temporary.replace(path)


def _checked_base(text):
    if not text.isdigit() or not PORT_BASE_MIN <= int(text) <= PORT_BASE_MAX:
        raise Failure(f"ORDERLOG_PORT_BASE must be a number from {PORT_BASE_MIN} to {PORT_BASE_MAX}, not {text!r}")
    return int(text)


def _require_free(base):
    """Before a base is remembered; later a single port may still turn out to be taken."""
    for name, offset in PORT_OFFSETS.items():
        if probes.taken(base + offset):
            raise Failure(
                f"port {base + offset}, which {name} needs, is taken by another process: "
                "stop that, or give this stack other ports: ORDERLOG_PORT_BASE=… scripts/stack up"
            )
