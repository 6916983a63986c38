"""Our own processes: how they are built, with which settings they run, and what is prepared for them."""

import os
import shutil
import subprocess
from pathlib import Path

from . import probes, processes
from .components import Component, Postgres, Registry
from .home import ADMIN_EMAIL, CHECKOUT, NODES_MAX
from .report import Failure, say

BINARIES = ("command-api", "projections", "notifier", "providers", "spans", "import-orders")
PROFILE_DIRECTORIES = {"release": "release", "dev": "debug"}
COMMAND_WITHIN_S = 120
READ_MODELS_WITHIN_S = 3600
"""A log of some ten million events is read for a new version of a read model."""
BCRYPT_COST_LOCAL = "8"
"""Cheap on purpose: a local stack is for trying things out. The services' own default is 12."""

SECRET_FILES = {
    "TOKEN_SIGNING_KEY_FILE": "token-signing-key.pem",
    "TOKEN_PUBLIC_KEY_FILE": "token-public-key.pem",
    "DATA_KEY_WRAPPING_KEY_FILE": "data-key-wrapping-key",
    "EMAIL_HASH_KEY_FILE": "email-hash-key",
}
SAMPLED_LOCAL = "1.0"
"""Every request, so that whatever is tried out can be looked at. The services' own default is one in twenty."""
TRACES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG")
LOG = ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL")
PAST_THE_PROXY = ("NO_PROXY", "no_proxy")
"""A proxy that the shell names (HTTP_PROXY) does not reach this machine's loopback."""
PROVIDER_ACCOUNTS = ("SENDGRID_API_KEY", "MAILGUN_API_KEY", "MAILGUN_DOMAIN", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
SMTP_USERNAME = "orders"
MAIL_PROVIDERS = "sendgrid,mailgun,smtp"


def settings(home):
    """Every setting of this stack by its environment variable, for the services and for `env`."""
    urls = {name: f"http://{home.address(name)}" for name in ("projections", "notifier", "providers", "spans")}
    return {
        "ORDERLOG_HOME": str(home.path),
        "ORDERLOG_URL": f"https://{home.address('gateway')}",
        "ORDERLOG_GRPC_ADDR": home.address("gateway"),
        "ORDERLOG_GATEWAY_ADMIN_URL": f"http://{home.address('gateway-admin')}",
        "ORDERLOG_CA_FILE": str(home.secrets / "ca.pem"),
        "ORDERLOG_COMMAND_URLS": ",".join(f"http://{home.address(name)}" for name in nodes(home)),
        "ORDERLOG_COMMAND_GRPC_ADDRS": ",".join(home.address(f"{name}-grpc") for name in nodes(home)),
        "ORDERLOG_COMMAND_NODE_ADDRS": ",".join(home.address(f"{name}-node") for name in nodes(home)),
        "ORDERLOG_QUERY_URL": urls["projections"],
        "ORDERLOG_QUERY_GRPC_ADDR": home.address("projections-grpc"),
        "ORDERLOG_NOTIFIER_URL": urls["notifier"],
        "ORDERLOG_PROVIDERS_URL": urls["providers"],
        "ORDERLOG_SPANS_URL": urls["spans"],
        "ORDERLOG_ADMIN_EMAIL": ADMIN_EMAIL,
        "ORDERLOG_ADMIN_PASSWORD": home.secret("admin-password"),
        "ORDERLOG_ALLOWED_ORIGIN": "http://localhost:3000",
        "KAFKA_BOOTSTRAP_SERVERS": home.address("kafka"),
        "ORDERLOG_KAFKA_PROXIED": home.address("kafka-proxied"),
        "ORDERLOG_KAFKA_PROXY": home.address("kafka-proxy"),
        "SCHEMA_REGISTRY_URL": Registry(home).url(),
        "DATABASE_URL": Postgres(home).url("orderlog"),
        "MONGODB_URI": f"mongodb://{home.address('mongodb')}",
        "SENDGRID_API_URL": urls["providers"],
        "SENDGRID_API_KEY": home.secret("sendgrid-api-key", prefix="SG."),
        "MAILGUN_API_URL": urls["providers"],
        "MAILGUN_API_KEY": home.secret("mailgun-api-key"),
        "MAILGUN_DOMAIN": "mg.example.com",
        "SMTP_URL": _smtp_url(home),
        "SMTP_CA_FILE": str(home.secrets / "smtp" / "smtp.pem"),
        "MAIL_PROVIDERS": os.environ.get("MAIL_PROVIDERS") or MAIL_PROVIDERS,
        "TWILIO_API_URL": urls["providers"],
        "TWILIO_ACCOUNT_SID": home.secret("twilio-account-sid", prefix="AC", value=os.urandom(16).hex()),
        "TWILIO_AUTH_TOKEN": home.secret("twilio-auth-token"),
        "MAIL_FROM": "orders@example.com",
        "SMS_FROM": "+15005550006",
        "BCRYPT_COST": BCRYPT_COST_LOCAL,
        **traces(home),
        **{variable: _past_the_proxy() for variable in PAST_THE_PROXY},
        **{variable: str(home.secrets / file) for variable, file in SECRET_FILES.items()},
    }


def _smtp_url(home):
    """The stand-in as a mail server, with STARTTLS; it makes the certificate itself."""
    return f"smtp://{SMTP_USERNAME}:{home.secret('smtp-password')}@{home.address('providers-smtp')}?tls=required"


def _past_the_proxy():
    given = [host.strip() for variable in PAST_THE_PROXY for host in os.environ.get(variable, "").split(",")]
    if "*" in given:  # everything, but only where it stands alone
        return "*"
    return ",".join(dict.fromkeys(filter(None, (*given, "127.0.0.1", "localhost"))))


def traces(home):
    """Where spans go, and of how many requests: what the shell says, else to `spans`, and of all.
    An empty endpoint: nowhere."""
    endpoint, sampled = TRACES
    return {
        endpoint: os.environ.get(endpoint, f"http://{home.address('spans-otlp')}"),
        sampled: os.environ.get(sampled) or SAMPLED_LOCAL,
    }


def nodes(home):
    """The command-api processes of this stack: those the last `up` wanted, whether they run or not, and those
    that `start` added, until `stop`."""
    wanted = home.remembered("nodes") or 1
    added = [name for name in command_apis(NODES_MAX)[wanted:] if processes.started(home, name)]
    return [*command_apis(wanted), *added]


def command_apis(count):
    """The names of that many command-api processes, from the first on."""
    return [f"command-api-{number}" for number in range(1, count + 1)]


class Service(Component):
    """One of our binaries, with just the settings it needs; what else the shell sets (LOG_FILTER and the
    limits that `--help` lists) is passed on."""

    binary = ""
    listen = ""
    grpc_listen = ""
    takes = ()

    def command(self):
        return [str(binaries(self.home) / self.binary), "serve"]

    def environment(self):
        known = settings(self.home)
        tuning = {variable: value for variable, value in os.environ.items() if variable not in known}
        return {
            **tuning,
            **super().environment(),
            **{variable: known[variable] for variable in (*PAST_THE_PROXY, *self.takes)},
            self.listen: self.address,
            **({self.grpc_listen: self.home.address(f"{self.name}-grpc")} if self.grpc_listen else {}),
        }

    def not_ready(self):
        return probes.http(f"http://{self.address}/readyz")


class Providers(Service):
    """The stand-in for SendGrid, Mailgun, a mail server and Twilio."""

    name = binary = "providers"
    listen = "PROVIDERS_LISTEN"
    takes = PROVIDER_ACCOUNTS

    def command(self):
        return [str(binaries(self.home) / self.binary)]

    def environment(self):
        return {
            **super().environment(),
            "PROVIDERS_SMTP_LISTEN": self.home.address("providers-smtp"),
            "PROVIDERS_SMTPS_LISTEN": self.home.address("providers-smtps"),
            "PROVIDERS_CERTIFICATE_DIR": str(self.home.secrets / "smtp"),
            "SMTP_USERNAME": SMTP_USERNAME,
            "SMTP_PASSWORD": self.home.secret("smtp-password"),
        }


class Spans(Service):
    """The stand-in for a collector of traces. Nothing waits for it, so it may go away at any time."""

    name = binary = "spans"
    listen = "SPANS_LISTEN"

    def command(self):
        return [str(binaries(self.home) / self.binary)]

    def ports(self):
        return [self.port, self.home.port("spans-otlp")]

    def environment(self):
        return {**super().environment(), "SPANS_OTLP_LISTEN": self.home.address("spans-otlp")}


class CommandApi(Service):
    """One command-api process."""

    binary = "command-api"
    listen = "COMMAND_API_LISTEN"
    grpc_listen = "COMMAND_API_GRPC_LISTEN"
    reads_anew = True
    # Without its state store it reads all of the log first.
    ready_within_s = 900
    takes = (*LOG, *TRACES, "DATABASE_URL", "BCRYPT_COST", *SECRET_FILES)

    def __init__(self, home, name):
        self.name = name
        super().__init__(home)

    def ports(self):
        return [*super().ports(), self.home.port(f"{self.name}-node")]

    def environment(self):
        return {
            **super().environment(),
            "COMMAND_API_INSTANCE": self.name,
            "COMMAND_API_NODE_LISTEN": self.home.address(f"{self.name}-node"),
            "COMMAND_API_STATE_DIR": str(self.home.data / self.name),
        }


class Projections(Service):
    """The read models and the query API."""

    name = binary = "projections"
    listen = "PROJECTIONS_LISTEN"
    grpc_listen = "PROJECTIONS_GRPC_LISTEN"
    reads_anew = True
    takes = (*LOG, *TRACES, "DATABASE_URL", "MONGODB_URI", "TOKEN_PUBLIC_KEY_FILE", "DATA_KEY_WRAPPING_KEY_FILE")


class Notifier(Service):
    """E-mails and SMS."""

    name = binary = "notifier"
    # Its certificate for SMTP is made as they start, and read as this one starts.
    after = ("providers",)
    listen = "NOTIFIER_LISTEN"
    reads_anew = True
    takes = (*LOG, *TRACES, "DATABASE_URL", "DATA_KEY_WRAPPING_KEY_FILE", "SENDGRID_API_URL", "MAILGUN_API_URL",
             "SMTP_URL", "SMTP_CA_FILE", "TWILIO_API_URL", *PROVIDER_ACCOUNTS, "MAIL_PROVIDERS", "MAIL_FROM",
             "SMS_FROM")


def binaries(home):
    """The directory of the binaries that this stack runs, as the last `up` chose it."""
    chosen = home.remembered("binaries")
    if not chosen:
        raise Failure("the services were never built for this stack: run scripts/stack up")
    return Path(chosen)


def build(home):
    """Builds what is newer than its binary; cargo's own output is the progress."""
    if given := os.environ.get("ORDERLOG_BINARIES"):
        directory = Path(given).absolute()
    else:
        directory = _cargo_build(os.environ.get("ORDERLOG_PROFILE", "release"))
    missing = [name for name in BINARIES if not (directory / name).exists()]
    if missing:
        raise Failure(f"{directory} lacks {', '.join(missing)}")
    home.remember("binaries", str(directory))


def _cargo_build(profile):
    if profile not in PROFILE_DIRECTORIES:
        raise Failure(f"ORDERLOG_PROFILE must be release or dev, not {profile!r}")
    if not shutil.which("cargo"):
        raise Failure("Rust is needed: install rustup (https://rustup.rs), then run this again")
    say(f"building the services ({profile})")
    command = ["cargo", "build", "--locked", "--workspace", "--bins", "--profile", profile]
    if subprocess.run(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL).returncode != 0:
        raise Failure("the services could not be built; cargo's message is above")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target").absolute()
    return target / PROFILE_DIRECTORIES[profile]


def prepare(home):
    """Secret files, topics, schemas, tables, and read models of this version; a second call changes nothing."""
    run_once(home, "create-secrets", ["command-api", "create-secrets", "--dir", str(home.secrets)])
    run_once(home, "prepare", ["command-api", "prepare"])
    run_once(home, "prepare-read-models", ["projections", "prepare"], READ_MODELS_WITHIN_S)


def create_admin(home):
    """The first admin; nothing happens when there is one already."""
    run_once(home, "create-admin", ["command-api", "create-admin"])


def run_once(home, name, command, within_s=COMMAND_WITHIN_S):
    """Runs a short command of ours with the settings of the stack; its output goes to the log NAME."""
    environment = {**os.environ, **settings(home)}
    log = home.log(name)
    with log.open("w") as output:
        try:
            done = subprocess.run([str(binaries(home) / command[0]), *command[1:]], env=environment, cwd=home.path,
                                  stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=within_s)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure(f"{name}: {error}", log) from error
    if done.returncode != 0:
        raise Failure(f"{name} failed with exit code {done.returncode}", log)
