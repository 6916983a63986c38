"""Shows events as any Kafka client sees them: through Kafka's own console consumer."""

import subprocess
import tempfile
import time

from orderlog_stack import tools
from orderlog_stack.report import Failure

READ_WITHIN_S = 60
ENDED_WITHIN_S = 10
POLL_S = 0.2


class Listener:
    """A console consumer that reads the topics from their beginning while the walk goes on."""

    def __init__(self, home, bootstrap):
        self.output = tempfile.NamedTemporaryFile(prefix="orderlog-demo-", suffix=".events")
        self.log = home.log("demo-events")
        self.process = self._start(bootstrap)

    def _start(self, bootstrap):
        with self.log.open("w") as errors:
            return subprocess.Popen(self._command(bootstrap), stdin=subprocess.DEVNULL, stdout=self.output,
                                    stderr=errors)

    def _command(self, bootstrap):
        return [
            tools.java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-cp", f"{tools.kafka_libraries()}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "--bootstrap-server", bootstrap, "--include", "users|orders", "--from-beginning",
            "--isolation-level", "read_committed",
            *(argument for name in ("partition", "offset", "headers", "key")
              for argument in ("--formatter-property", f"print.{name}=true")),
            "--formatter-property", "print.value=false",
        ]

    def events_of(self, streams, count):
        """The events of these streams, at least `count`, each as (position, headers, stream id)."""
        deadline = time.monotonic() + READ_WITHIN_S
        found = []
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure("Kafka's console consumer ended", self.log)
            with open(self.output.name, encoding="utf-8", errors="replace") as lines:
                found = [event for line in lines if line.endswith("\n") and (event := _parsed(line, streams))]
            if len(found) >= count:
                return found
            time.sleep(POLL_S)
        raise Failure(f"only {len(found)} of {count} events were read from Kafka within {READ_WITHIN_S} s", self.log)

    def close(self):
        """Ends the console consumer."""
        self.process.kill()
        self.process.wait(ENDED_WITHIN_S)


def _parsed(line, streams):
    fields = line.rstrip("\n").split("\t")
    if fields[-1] not in streams:
        return None
    headers = dict(header.split(":", 1) for header in fields[-2].split(",") if ":" in header)
    position = " ".join(fields[:-2]).lower().replace(":", " ")
    return position, headers, fields[-1]
