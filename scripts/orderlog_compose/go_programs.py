"""Programs that are to be had as Go modules only: built once per version, then in the cache."""

import json
import os
import shutil
import subprocess

from orderlog_stack import downloads
from orderlog_stack.downloads import VERSIONS
from orderlog_stack.report import Failure

COLLECTOR, JAEGER = "otelcol-contrib", "jaeger"
BUILT_WITHIN_S = 3600
FETCHED_WITHIN_S = 600
PARTS = ("receivers", "processors", "exporters")


def collector():
    """The OpenTelemetry Collector with those parts of its release that are used here."""
    return downloads.cached(f"collector-{VERSIONS['collector']['version']}", _build_collector) / COLLECTOR


def _build_collector(staging):
    """The release's own builder writes the sources; their go.sum, which versions.json pins, names the checksum of every
    module in them."""
    wanted, sources = VERSIONS["collector"], staging / "sources"
    plan = {"dist": {"name": COLLECTOR, "version": wanted["version"], "output_path": str(sources)},
            **{part: [{"gomod": module} for module in wanted[part]] for part in PARTS}}
    (staging / "plan.yaml").write_text(json.dumps(plan))  # JSON is YAML
    _go(staging, "the collector's builder", "install", wanted["builder"])
    builder = staging / "bin" / "builder"
    _run([builder, "--config", staging / "plan.yaml", "--skip-compilation"], staging, "the collector's sources")
    downloads.check(sources / "go.sum", wanted["sha256_of_go_sum"])
    return _compiled(staging, sources, ".", COLLECTOR)


def jaeger():
    """Jaeger, without the pages that it shows to people."""
    return downloads.cached(f"jaeger-{VERSIONS['jaeger']['version']}", _build_jaeger) / JAEGER


def _build_jaeger(staging):
    """In a copy of the module, because only there its own replacements and its own go.sum hold."""
    wanted, sources = VERSIONS["jaeger"], staging / "sources"
    _require_go()
    fetched = subprocess.run(["go", "mod", "download", "-json", wanted["module"]], cwd=staging, env=_environment(staging),
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCHED_WITHIN_S)
    if fetched.returncode != 0:
        raise Failure(f"{wanted['module']} could not be had: {(fetched.stdout or fetched.stderr).strip()[-800:]}")
    module = json.loads(fetched.stdout)
    if module["Sum"] != wanted["sum"]:
        raise Failure(f"{wanted['module']} is not what scripts/versions.json says ({module['Sum']}, not {wanted['sum']})")
    shutil.copytree(module["Dir"], sources)
    return _compiled(staging, sources, "./cmd/jaeger", JAEGER)


def _compiled(staging, sources, package, program):
    built = staging / "built"
    _go(staging, f"{program} (some minutes)", "-C", sources, "build", "-trimpath", "-ldflags", "-s -w",
        "-o", built / program, package)
    return built


def _go(staging, what, *arguments):
    _require_go()
    _run(["go", *arguments], staging, what)


def _run(command, staging, what):
    log = downloads.cache() / f"{staging.name.replace('.partial', '')}.log"
    code = downloads.run(list(map(str, command)), log, f"building {what}", environment=_environment(staging),
                         within_s=BUILT_WITHIN_S)
    if code != 0:
        raise Failure(f"{what} could not be built", log)


def _require_go():
    if not shutil.which("go"):
        raise Failure("Go is needed on PATH to build what stands in for the images that cannot be pulled: "
                      "https://go.dev/dl, or `apt-get install golang`")


def _environment(staging):
    """What Go fetches and compiles is deleted with the staging directory, unless the shell names places to keep it."""
    kept = {"GOPATH": str(staging / "go"), "GOCACHE": str(staging / "go-build"), **os.environ}
    flags = f"{os.environ.get('GOFLAGS', '')} -modcacherw -buildvcs=false".strip()
    return {**kept, "GOFLAGS": flags, "GOBIN": str(staging / "bin"), "CGO_ENABLED": "0"}
