"""Shows events as any Kafka client sees them: through Kafka's own console consumer."""

import subprocess
import tempfile
import time

from orderlog_stack import tools
from orderlog_stack.report import Failure, log_tail

READ_WITHIN_S = 60
POLL_S = 0.2


class Listener:
    """A console consumer that reads the topics from their beginning while the walk goes on."""

    def __init__(self, bootstrap):
        self.output = tempfile.NamedTemporaryFile(prefix="orderlog-demo-", suffix=".events")
        self.errors = tempfile.NamedTemporaryFile(prefix="orderlog-demo-", suffix=".log")
        self.process = subprocess.Popen(
            [tools.java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
             "-cp", f"{tools.kafka_libraries()}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer",
             "--bootstrap-server", bootstrap, "--include", "users|orders", "--from-beginning",
             "--isolation-level", "read_committed",
             *(argument for name in ("partition", "offset", "headers", "key")
               for argument in ("--formatter-property", f"print.{name}=true")),
             "--formatter-property", "print.value=false"],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors,
        )

    def events_of(self, streams, count):
        """The events of these streams, at least `count`, each as (position, headers, stream id)."""
        deadline = time.monotonic() + READ_WITHIN_S
        found = []
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"Kafka's console consumer ended: {' '.join(log_tail(self.errors.name, 3))}")
            with open(self.output.name, encoding="utf-8", errors="replace") as lines:
                found = [event for line in lines if line.endswith("\n") and (event := _parsed(line, streams))]
            if len(found) >= count:
                return found
            time.sleep(POLL_S)
        raise Failure(f"only {len(found)} of {count} events were read from Kafka within {READ_WITHIN_S} s")

    def close(self):
        """Ends the console consumer."""
        self.process.kill()
        self.process.wait()


def _parsed(line, streams):
    fields = line.rstrip("\n").split("\t")
    if fields[-1] not in streams:
        return None
    headers = dict(header.split(":", 1) for header in fields[-2].split(",") if ":" in header)
    position = " ".join(fields[:-2]).lower().replace(":", " ")
    return position, headers, fields[-1]
