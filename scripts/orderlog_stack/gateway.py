"""The gateway: Envoy with the configuration of `gateway/`, a certificate of a local authority, and the nodes it may ask."""

import json
import os
import subprocess

from . import probes, services, tools
from .components import Component
from .home import CHECKOUT, write_atomically
from .report import Failure

FOLDER = CHECKOUT / "gateway"
COMMAND_WITHIN_S = 60
THREADS_LOCAL = 2
LIMITS_LOCAL = {
    "GATEWAY_REQUESTS_PER_SECOND": "100000",
    "GATEWAY_CREDENTIALS_PER_MINUTE": "600000",
}
"""A local stack lets an import, the tests and the benchmarks through. The template's own limits are those of a network."""
CA_FILE = "ca.pem"


class Gateway(Component):
    """Envoy, for everybody outside."""

    name = "gateway"

    def __init__(self, home):
        super().__init__(home)
        self.configuration = self.data / "envoy.yaml"

    def ports(self):
        return [self.port, self.home.port("gateway-admin")]

    def fetch(self):
        tools.envoy()
        tools.openssl()

    def prepare(self):
        self.data.mkdir(exist_ok=True)
        self._run([str(FOLDER / "make-certificate"), str(self.home.secrets)])
        tell_nodes(self.home)
        write_atomically(self.configuration, self._run([str(FOLDER / "render")], self._settings()))

    def command(self):
        return [tools.envoy(), "--config-path", str(self.configuration), "--concurrency", str(THREADS_LOCAL),
                "--log-level", "warning", "--file-flush-interval-msec", "500", "--disable-hot-restart"]

    def not_ready(self):
        """Envoy itself says when it listens, after it has heard of the nodes."""
        return probes.http(f"http://{self.home.address('gateway-admin')}/ready")

    def _settings(self):
        """What `gateway/render` takes; the shell's GATEWAY_… and OTEL_… come first."""
        given = {name: value for name, value in os.environ.items() if name.startswith(("GATEWAY_", "OTEL_"))}
        return {
            **LIMITS_LOCAL,
            **given,
            **services.traces(self.home),
            "GATEWAY_LISTEN": self.address,
            "GATEWAY_ADMIN_LISTEN": self.home.address("gateway-admin"),
            "GATEWAY_CERTIFICATE_FILE": str(self.home.secrets / "gateway.pem"),
            "GATEWAY_PRIVATE_KEY_FILE": str(self.home.secrets / "gateway-key.pem"),
            "COMMAND_API_NODES_FILE": str(_nodes_file(self.home, "command-api")),
            "COMMAND_API_GRPC_NODES_FILE": str(_nodes_file(self.home, "command-api-grpc")),
            "PROJECTIONS_ADDRESS": self.home.address("projections"),
            "PROJECTIONS_GRPC_ADDRESS": self.home.address("projections-grpc"),
            "ORDERLOG_ALLOWED_ORIGIN": services.settings(self.home)["ORDERLOG_ALLOWED_ORIGIN"],
        }

    def _run(self, command, more_environment=None):
        done = subprocess.run(command, env={**self.environment(), **(more_environment or {})},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_WITHIN_S)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
            raise Failure(f"gateway: {reason}")
        return done.stdout


def tell_nodes(home):
    """Writes the command-api nodes of this stack where the gateway looks for them; it sees a new file at once."""
    home_of_gateway = home.data / Gateway.name
    if not home_of_gateway.exists():  # nobody to tell yet: `prepare` does it before the first start
        return
    for cluster, suffix in (("command-api", ""), ("command-api-grpc", "-grpc")):
        nodes = [home.port(name + suffix) for name in services.nodes(home)]
        endpoints = [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
                     for port in nodes]
        told = json.dumps({"resources": [{
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}],
        }]}, indent=1) + "\n"
        file = _nodes_file(home, cluster)
        if not file.exists() or file.read_text() != told:
            write_atomically(file, told)


def _nodes_file(home, cluster):
    return home.data / Gateway.name / f"{cluster}-nodes.json"
