"""Base images where none can be pulled: stand-ins under the published tags, made of what `scripts/stack` fetches."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from orderlog_stack import downloads, tools
from orderlog_stack.home import CHECKOUT
from orderlog_stack.report import Failure, say

DIRECTORY = CHECKOUT / "deploy" / "stand-ins"
DEBIAN = "debian:bookworm-slim"
RUST_DOCKERFILE = CHECKOUT / "deploy" / "images" / "orderlog.Dockerfile"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
ASKED_WITHIN_S = 60
IMPORTED_WITHIN_S = 300


@dataclass(frozen=True)
class StandIn:
    """One Dockerfile of deploy/stand-ins and the fetched programs it copies, by the name it copies them under."""

    service: str
    """Whose image it stands in for, or `build` for the one our own are built in."""
    dockerfile: str
    what: str
    programs: Callable[[], dict]


def _java():
    return Path(tools.java()).resolve().parents[1]


def _toolchain():
    asked = subprocess.run(["rustc", "--print", "sysroot"], cwd=CHECKOUT, capture_output=True, text=True, check=True,
                           timeout=ASKED_WITHIN_S)
    sysroot = Path(asked.stdout.strip()).resolve()
    return {"toolchain/bin": sysroot / "bin", "toolchain/lib": sysroot / "lib"}


STAND_INS = (
    StandIn("build", "rust", "this machine's Rust", _toolchain),
    StandIn("postgres", "postgres", "PostgreSQL of Debian 12, an older one", dict),
    StandIn("mongodb", "mongodb", f"MongoDB {downloads.VERSIONS['mongodb']['version']}, an older one",
            lambda: {"server": Path(tools.mongod()).resolve().parent}),
    StandIn("kafka", "kafka", f"Kafka {downloads.VERSIONS['kafka']['version']}, the same release",
            lambda: {"java": _java(), "libs": tools.kafka_libraries()}),
    StandIn("registry", "registry", f"Apicurio Registry {downloads.VERSIONS['registry']['version']}, the same release",
            lambda: {"java": _java(), "app": tools.registry()}),
)


def build(engine, published):
    """Builds those whose service is among `published`, a service's image by its name; unchanged ones take no time."""
    _debian(engine)
    say(f"  {DEBIAN:<42} stands in: a minimal Debian 12 of the package archive")
    for stand_in in STAND_INS:
        tag = _rust_tag() if stand_in.service == "build" else published.get(stand_in.service)
        if not tag:
            continue
        context = _context(stand_in)
        try:
            engine.build(tag, context / f"{stand_in.dockerfile}.Dockerfile", context,
                         downloads.cache() / f"stand-in-{stand_in.dockerfile}.log")
        finally:
            shutil.rmtree(context)
        say(f"  {tag:<42} stands in: {stand_in.what}")


def _debian(engine):
    if engine.has_image(DEBIAN):
        return
    archive = downloads.cached("debian-bookworm-slim", _fetch_debian) / "base.tar"
    engine.run("import", str(archive), DEBIAN, within_s=IMPORTED_WITHIN_S)


def _fetch_debian(staging):
    """With this machine's root certificates: it may reach its registries through a proxy with one of its own."""
    directory = staging / "debian"
    directory.mkdir()
    command = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates",
               f"--customize-hook=copy-in {CERTIFICATES} {os.path.dirname(CERTIFICATES)}", "bookworm",
               str(directory / "base.tar")]
    log = downloads.cache() / "debian-bookworm-slim.log"
    if downloads.run(command, log, "getting a minimal Debian 12") != 0:
        raise Failure("a minimal Debian could not be put together", log)
    return directory


def _rust_tag():
    """The image that the Dockerfile builds in."""
    first = next(line for line in RUST_DOCKERFILE.read_text().splitlines() if line.startswith("FROM rust:"))
    return first.split()[1]


def _context(stand_in):
    """The directory of Dockerfiles with the programs beside them, as links: nothing is copied."""
    context = Path(tempfile.mkdtemp(prefix="stand-in-", dir=downloads.cache()))
    shutil.copytree(DIRECTORY, context, dirs_exist_ok=True)
    for name, directory in stand_in.programs().items():
        shutil.copytree(directory, context / name, symlinks=True, copy_function=_link)
    return context


def _link(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy2(source, target, follow_symlinks=False)
