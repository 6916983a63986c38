"""Base images where none can be pulled: stand-ins under the published tags, made of what `scripts/stack` fetches."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from orderlog_stack import downloads, tools
from orderlog_stack.downloads import VERSIONS
from orderlog_stack.home import CHECKOUT
from orderlog_stack.report import Failure, say

from . import go_programs

DIRECTORY = CHECKOUT / "deploy" / "stand-ins"
DEBIAN = "debian:bookworm-slim"
LEFT_OUT = ("grafana/grafana",)
"""Nothing stands in for these."""
IMAGES_DOCKERFILE = CHECKOUT / "deploy" / "images" / "orderlog.Dockerfile"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
ASKED_WITHIN_S = 60
IMPORTED_WITHIN_S = 300


@dataclass(frozen=True)
class StandIn:
    """One Dockerfile of deploy/stand-ins and the fetched programs it copies, files or directories, by the name it copies
    them under."""

    image: str
    """What it stands in for, without its tag."""
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
    StandIn("rust", "rust", "this machine's Rust", _toolchain),
    StandIn("envoyproxy/envoy", "envoy", f"Envoy {VERSIONS['envoy']['version']}, the same release",
            lambda: {"program": Path(tools.envoy()).parent}),
    StandIn("postgres", "postgres", "PostgreSQL of Debian 12, an older one", dict),
    StandIn("mongo", "mongodb", f"MongoDB {VERSIONS['mongodb']['version']}, an older one",
            lambda: {"server": Path(tools.mongod()).resolve().parent}),
    StandIn("apache/kafka", "kafka", f"Kafka {VERSIONS['kafka']['version']}, the same release",
            lambda: {"java": _java(), "libs": tools.kafka_libraries()}),
    StandIn("apicurio/apicurio-registry", "registry", f"Apicurio Registry {VERSIONS['registry']['version']}, the same release",
            lambda: {"java": _java(), "app": tools.registry()}),
    StandIn("otel/opentelemetry-collector-contrib", "collector",
            f"OpenTelemetry Collector {VERSIONS['collector']['version']}, those parts of the same release that are used",
            lambda: {go_programs.COLLECTOR: go_programs.collector()}),
    StandIn("jaegertracing/jaeger", "jaeger", f"Jaeger 2 as of module {VERSIONS['jaeger']['version']}, an older one, no pages",
            lambda: {go_programs.JAEGER: go_programs.jaeger()}),
    StandIn("grafana/loki", "loki", "NOT Loki: a collector that prints what it is sent",
            lambda: {go_programs.COLLECTOR: go_programs.collector()}),
    StandIn("prom/prometheus", "prometheus", "Prometheus of Debian 12, an older one",
            lambda: {"prometheus": Path(tools.prometheus("prometheus")).resolve()}),
)


def build(engine, published):
    """Builds those of `published` images there is a stand-in for, and what the Dockerfile starts from; unchanged ones
    take no time."""
    _debian(engine)
    say(f"  {DEBIAN:<42} stands in: a minimal Debian 12 of the package archive")
    for tag in sorted({*published, *_bases()} - {DEBIAN}):
        for stand_in in STAND_INS:
            if tag.partition(":")[0] == stand_in.image:
                _build(engine, stand_in, tag)
                say(f"  {tag:<42} stands in: {stand_in.what}")


def _build(engine, stand_in, tag):
    context = _context(stand_in)
    try:
        engine.build(tag, context / f"{stand_in.dockerfile}.Dockerfile", context,
                     downloads.cache() / f"stand-in-{stand_in.dockerfile}.log")
    finally:
        shutil.rmtree(context)


def _bases():
    """The images that the Dockerfile starts from."""
    return set(re.findall(r"^FROM (\S+:\S+)", IMAGES_DOCKERFILE.read_text(), re.MULTILINE))


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


def _context(stand_in):
    """The directory of Dockerfiles with the programs beside them, as links: nothing is copied."""
    context = Path(tempfile.mkdtemp(prefix="stand-in-", dir=downloads.cache()))
    shutil.copytree(DIRECTORY, context, dirs_exist_ok=True)
    for name, fetched in stand_in.programs().items():
        if fetched.is_dir():
            shutil.copytree(fetched, context / name, symlinks=True, copy_function=_link)
        else:
            _link(fetched, context / name)
    return context


def _link(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy2(source, target, follow_symlinks=False)
