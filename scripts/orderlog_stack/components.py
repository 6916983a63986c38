"""What is run: one small class per third-party component, in the order they start."""

import base64
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

from . import probes, tools
from .home import CHECKOUT, write_atomically
from .report import Failure, say

COMMAND_WITHIN_S = 120
KAFKA_HEAP = "512m"
REGISTRY_HEAP = "384m"
MONGODB_CACHE_GB = "0.25"
REASON = re.compile("error|fatal|panic|could not", re.IGNORECASE)
"""What the line of PostgreSQL's programs says that tells why they failed."""
CONFIG = CHECKOUT / "scripts" / "orderlog_stack" / "config"


class Component:
    """One process under control. Subclasses say how it is prepared, run and asked whether it is ready."""

    name = ""
    after = ()
    """What must be ready before this one starts."""
    user = None
    stop_signal = signal.SIGTERM
    stop_within_s = 30
    ready_within_s = 120
    reads_anew = False
    """Whether it reads its files anew at SIGHUP, which would be the end of any other."""

    def __init__(self, home):
        self.home = home
        self.port = home.port(self.name)
        self.address = home.address(self.name)
        self.data = home.data / self.name

    def ports(self):
        """Every port it listens on."""
        return [self.port]

    def fetch(self):
        """Gets the programs it needs; quick when they are there."""

    def prepare(self):
        """Whatever must exist before the process starts; a second call changes nothing."""

    def command(self):
        """The command line."""
        raise NotImplementedError

    def environment(self):
        """The process's environment."""
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "TZ": "UTC"}

    def not_ready(self):
        """None when it is ready, otherwise what it still waits for."""
        raise NotImplementedError

    def became_ready(self):
        """Called once after every start."""


class Postgres(Component):
    """PostgreSQL. It refuses to run as root, so that root starts it as the user `postgres`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions instead of waiting for them

    def __init__(self, home):
        super().__init__(home)
        if os.geteuid() == 0:
            self.user = "postgres"

    def fetch(self):
        tools.postgres("postgres")

    def prepare(self):
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # the caller knows that it does not run
        if (self.data / "PG_VERSION").exists():
            return
        say("  creating the PostgreSQL cluster")
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if self.user:
            shutil.chown(self.data, self.user, self.user)
        password = self.home.data / "postgres-initial-password"
        write_atomically(password, self.home.secret("postgres-password") + "\n", mode=0o600)
        if self.user:
            shutil.chown(password, self.user)
        initdb = [tools.postgres("initdb"), "-D", str(self.data), "-U", "postgres", "-A", "scram-sha-256",
                  "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", f"--pwfile={password}"]
        try:
            self._run(self._as_user(initdb), "")
        finally:
            password.unlink()

    def command(self):
        return self._as_user([
            tools.postgres("postgres"), "-D", str(self.data), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
            "-c", "shared_buffers=128MB", "-c", "log_timezone=UTC", "-c", "timezone=UTC",
        ])

    def _as_user(self, command):
        """As root: as the user `postgres`, who may pass through directories closed to him when need be."""
        if not self.user:
            return command
        try:
            pwd.getpwnam(self.user)
        except KeyError:
            raise Failure("PostgreSQL does not run as root: run `useradd --system postgres`, or use another account")
        switch = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        if not _others_may_pass(self.data.parent):
            switch += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return [*switch, "--", *command]

    def not_ready(self):
        done = subprocess.run([tools.postgres("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)],
                              timeout=COMMAND_WITHIN_S)
        return None if done.returncode == 0 else "does not take connections yet"

    def became_ready(self):
        roles = self.sql("postgres", "SELECT rolname FROM pg_roles").split()
        for role in ("orderlog", "registry"):
            if role not in roles:
                password = self.home.secret(f"postgres-{role}-password")
                self.sql("postgres", f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD '{password}'")
        databases = self.sql("postgres", "SELECT datname FROM pg_database").split()
        for database in ("orderlog", "registry"):
            if database not in databases:
                self.sql("postgres", f"CREATE DATABASE {database} OWNER {database}")

    def url(self, database):
        """The connection URL of a database, as its owner."""
        password = self.home.secret(f"postgres-{database}-password")
        return f"postgres://{database}:{password}@127.0.0.1:{self.port}/{database}"

    def sql(self, database, statement):
        """The rows a statement answers, as the superuser, one a line."""
        psql = [tools.postgres("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                "-p", str(self.port), "-U", "postgres", "-d", database]
        return self._run(psql, statement, {"PGPASSWORD": self.home.secret("postgres-password")})

    def rows(self, database, query):
        """The rows of a query, each by its columns' names."""
        answer = self.sql(database, f"SELECT coalesce(json_agg(found), '[]') FROM ({query}) AS found")
        return json.loads(answer)

    def _run(self, command, given, more_environment=None):
        done = subprocess.run(command, input=given, env={**self.environment(), **(more_environment or {})}, cwd="/",
                              capture_output=True, text=True, timeout=COMMAND_WITHIN_S)
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip() or str(done.returncode)).splitlines()
            reason = next((line for line in lines if REASON.search(line)), lines[-1])
            program = command[command.index("--") + 1] if "--" in command else command[0]
            raise Failure(f"postgres: {Path(program).name} failed: {reason}")
        return done.stdout


def _others_may_pass(directory):
    return all(step.stat().st_mode & 0o001 for step in [directory, *directory.parents])


class MongoDb(Component):
    """A standalone MongoDB."""

    name = "mongodb"

    def fetch(self):
        tools.mongod()

    def prepare(self):
        self.data.mkdir(exist_ok=True)

    def command(self):
        return [tools.mongod(), "--dbpath", str(self.data), "--port", str(self.port), "--bind_ip", "127.0.0.1",
                "--nounixsocket", "--wiredTigerCacheSizeGB", MONGODB_CACHE_GB]

    def not_ready(self):
        return probes.mongodb(self.port)


class Kafka(Component):
    """One Kafka node that is broker and controller."""

    name = "kafka"
    stop_within_s = 60

    def ports(self):
        return [self.port, self.home.port("kafka-controller"), self.home.port("kafka-proxied")]

    def fetch(self):
        tools.java()
        tools.kafka_libraries()

    def prepare(self):
        properties = self.home.data / "kafka.properties"
        settings = (CONFIG / "kafka.properties").read_text()
        write_atomically(properties, settings.format(
            address=self.address, controller_address=self.home.address("kafka-controller"),
            proxied_address=self.home.address("kafka-proxied"), proxy_address=self.home.address("kafka-proxy"),
            data=self.data,
        ))
        if (self.data / "meta.properties").exists():
            return
        say("  formatting Kafka's log directory")
        done = subprocess.run(
            [*self._java(), "kafka.tools.StorageTool", "format", "--standalone", "--ignore-formatted",
             f"--cluster-id={_cluster_id()}", "-c", str(properties)],
            capture_output=True, text=True, timeout=COMMAND_WITHIN_S,
        )
        if done.returncode != 0:
            raise Failure(f"kafka could not be formatted: {(done.stderr + done.stdout).strip()[-500:]}")

    def _java(self):
        return [tools.java(), f"-Xmx{KAFKA_HEAP}", "-XX:+UseSerialGC", "-XX:-UsePerfData",
                f"-Dlog4j2.configurationFile={CONFIG / 'kafka-log4j2.xml'}",
                "-cp", f"{tools.kafka_libraries()}/*"]

    def command(self):
        return [*self._java(), "kafka.Kafka", str(self.home.data / "kafka.properties")]

    def not_ready(self):
        return probes.kafka(self.port)


def _cluster_id():
    """One in 64 begins with a dash, and must not stand as an argument of its own."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


class Registry(Component):
    """Apicurio Registry with its schemas in PostgreSQL: their ids survive restarts."""

    name = "registry"
    after = ("postgres",)

    def ports(self):
        return [self.port, self.home.port("registry-management")]

    def fetch(self):
        tools.java()
        tools.registry()

    def command(self):
        return [tools.java(), f"-Xmx{REGISTRY_HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData", "-jar", f"{tools.registry()}/quarkus-run.jar"]

    def environment(self):
        return {
            **super().environment(),
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(self.home.port("registry-management")),
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "postgresql",
            "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{self.home.address('postgres')}/registry",
            "APICURIO_DATASOURCE_USERNAME": "registry",
            "APICURIO_DATASOURCE_PASSWORD": self.home.secret("postgres-registry-password"),
            # Each connection that did not survive a restart of PostgreSQL costs one failed answer.
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "4",
        }

    def url(self):
        """The base of the Confluent-compatible API."""
        return f"http://{self.address}/apis/ccompat/v7"

    def not_ready(self):
        return probes.http(f"{self.url()}/subjects")


THIRD_PARTY = (Postgres, MongoDb, Kafka, Registry)
