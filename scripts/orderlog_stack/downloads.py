"""Getting things through Maven and pip into a cache that all stacks share.

Every download is checked against versions.json, unpacked beside its final place and renamed
into it, under a lock: what lies in the cache is whole, also when two stacks start at once.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

from .home import CHECKOUT
from .report import Failure, Progress, log_tail, say

ATTEMPTS_MAX = 4
BACKOFF_FIRST_S = 2
ATTEMPT_WITHIN_S = 900
POLL_S = 0.2
READ_BYTES = 1024 * 1024
ERROR_CHARACTERS_MAX = 160
PIP_CHECKSUM_DIFFERS = "DO NOT MATCH THE HASHES"

VERSIONS = json.loads((CHECKOUT / "scripts" / "versions.json").read_text())


def cache():
    """The directory shared by all stacks of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base) / "orderlog"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def cached(name, fill):
    """The cache's directory `name`; when missing, `fill(staging)` returns what is to be put there."""
    place = cache() / name
    if place.exists():
        return place
    with locked(name):
        if place.exists():
            return place
        staging = cache() / f"{name}.partial"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        fill(staging).rename(place)
        shutil.rmtree(staging, ignore_errors=True)
    return place


@contextlib.contextmanager
def locked(name):
    """Keeps every other stack of this user from what lies under that name in the cache."""
    with (cache() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  waiting for another stack that is getting {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def maven_libraries(maven, coordinates, staging, what):
    """The jars of `coordinates` and of all they need, in one directory."""
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *coordinate.split(":")
        )
        for coordinate in coordinates
    )
    (staging / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>orderlog</groupId><artifactId>runtime</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )
    libraries = staging / "libs"
    _maven(maven, "copy-dependencies", ["-DincludeScope=runtime", f"-DoutputDirectory={libraries}"], staging, what)
    return libraries


def maven_artifact(maven, coordinate, staging, what):
    """One artifact (group:artifact:version:type:classifier) as a file in the returned directory."""
    directory = staging / "artifact"
    _maven(maven, "copy", [f"-Dartifact={coordinate}", f"-DoutputDirectory={directory}"], staging, what)
    return directory


def _maven(maven, goal, arguments, staging, what):
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{VERSIONS['maven_dependency_plugin']}:{goal}"
    repository = f"-Dmaven.repo.local={staging / 'repository'}"
    _with_retries([maven, "-q", "-B", "-Dstyle.color=never", plugin, repository, *arguments], staging, what)


def pip_package(requirement, checksums, staging, what):
    """One file of the Python package index, checked and unpacked.

    pip itself compares the checksum, because it asks a source package's build program what the package needs, and
    must not start a program that nobody has checked.
    """
    directory, requirements = staging / "package", staging / "requirements.txt"
    hashes = (f"--hash=sha256:{checksum}" for checksum in checksums.values())
    requirements.write_text(f"{requirement} {' '.join(hashes)}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes",
               "-d", str(directory), "-r", str(requirements)]
    _with_retries(command, staging, what)
    package = next(directory.iterdir())
    if package.name not in checksums:
        raise Failure(f"{what}: no checksum for {package.name} in scripts/versions.json")
    check(package, checksums[package.name])
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            archive.extractall(staging / "unpacked")
        return staging / "unpacked"
    return unpack(package, staging / "unpacked")


def _with_retries(command, staging, what):
    """Runs a package tool, several times when it fails, with a line every few seconds."""
    log = cache() / f"{staging.name.replace('.partial', '')}.log"
    backoff_s = BACKOFF_FIRST_S
    for attempt in range(1, ATTEMPTS_MAX + 1):
        say(f"  getting {what}" + (f" (attempt {attempt} of {ATTEMPTS_MAX})" if attempt > 1 else ""))
        if run(command, log, f"getting {what}", directory=staging) == 0:
            return
        if PIP_CHECKSUM_DIFFERS in " ".join(log_tail(log, lines=1000)):
            raise Failure(
                f"could not get {what}: the package index has none with a checksum of scripts/versions.json for this "
                "machine: a machine of another kind, or a package that was exchanged", log,
            )
        if attempt < ATTEMPTS_MAX:
            say(f"  that failed; again in {backoff_s} s")
            time.sleep(backoff_s)
            backoff_s *= 2
    tool = "Maven" if "pip" not in command else "pip"
    raise Failure(
        f"could not get {what}: {tool} failed {ATTEMPTS_MAX} times ({_first_error(log)}). "
        f"Is the package registry reachable, and is {tool} set up for the one this machine uses?",
        log,
    )


def run(command, log, what, directory=None, environment=None, within_s=ATTEMPT_WITHIN_S):
    """Runs a package tool with a line every few seconds; returns its exit code, its output is in the log."""
    progress = Progress(what)
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output)
        try:
            while process.poll() is None:
                if progress.elapsed_s() > within_s:
                    output.write(f"ERROR: gave up after {within_s} s\n")
                    break
                progress.tick(f"{_size_mb(directory)} MB" if directory else "")
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    return process.returncode


def _size_mb(directory):
    return sum(_size(os.path.join(where, name)) for where, _, names in os.walk(directory) for name in names) // 1_000_000


def _size(file):
    try:
        return os.lstat(file).st_size
    except FileNotFoundError:
        return 0  # A part of a download, renamed since it was listed.


def _first_error(log):
    lines = [line.split("ERROR", 1)[1].strip("]: ") for line in log_tail(log, lines=1000) if "ERROR" in line]
    error = lines[0].split(" -> [Help")[0] if lines else "no error message"
    return error if len(error) <= ERROR_CHARACTERS_MAX else "… " + error[-ERROR_CHARACTERS_MAX:]


def check(file, expected):
    """Fails unless the file has the checksum that versions.json names."""
    if sha256(file) != expected:
        raise Failure(f"{file.name} is not what scripts/versions.json says (SHA-256 {sha256(file)}, not {expected})")


def check_directory(directory, expected):
    """The same for a directory of files: the checksum of `sha256sum * | LC_ALL=C sort -k2`."""
    lines = "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(directory.iterdir()))
    found = hashlib.sha256(lines.encode()).hexdigest()
    if found != expected:
        raise Failure(f"the files in {directory} are not what scripts/versions.json says (SHA-256 {found}, not {expected})")


def sha256(file):
    """The SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def unpack(archive, directory):
    """Unpacks a tar archive that was checked before."""
    directory.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(directory)
    return directory
