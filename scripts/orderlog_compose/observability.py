"""What watches the system, asked for one order: its spans in Jaeger, its log lines in Loki, every target of Prometheus."""

import contextlib
import re
import urllib.parse

from orderlog_demo.client import Api, call, eventually
from orderlog_demo.trace import order_in_a_trace
from orderlog_stack.report import Failure

PROFILE = "observability"
PROMETHEUS = "http://127.0.0.1:21061"
JAEGER = "http://127.0.0.1:21062"
LOKI_PORT = 3100
NOT_NEEDED = ("collector", "jaeger", "loki")
TRACED = {"gateway", "command-api", "projections", "notifier"}
LOGGED = {"gateway", "command-api", "notifier"}
"""Who writes a line about an order that is accepted, and about its mail."""
APPEARS_WITHIN_S = 90
POLL_S = 1
LINES_MAX = 100


class Watchers:
    """Jaeger, Loki and Prometheus beside one composed system."""

    def __init__(self, screen, project, loki_is_caught):
        self.screen = screen
        self.project = project
        self.loki_is_caught = loki_is_caught
        """A catcher of log lines stands in Loki's place."""

    def check(self, walk):
        """One order by its trace id, then whether everything that is to be measured is."""
        with self.screen.step("One order's spans in Jaeger", "spans") as row:
            trace_id = order_in_a_trace(walk)
            row.count = str(self._show_spans(trace_id))
        place = "sent to where Loki would be" if self.loki_is_caught else "in Loki"
        with self.screen.step(f"Its log lines, {place}", "log lines") as row:
            if self.loki_is_caught:
                self.screen.remark("no Loki runs here: this is what the collector sends to its address")
            row.count = str(self._show_lines(trace_id))
        with self.screen.step("What Prometheus measures", "targets up") as row:
            row.count = str(self._show_targets())

    def _show_spans(self, trace_id):
        def whole():
            answer = self._ask(JAEGER, f"/api/traces/{trace_id}", expect=(200, 404))
            found = answer["data"] if answer.status == 200 else []
            return found[0] if found and TRACED <= set(_services(found[0]).values()) else None

        trace = self._eventually(f"the trace of {', '.join(sorted(TRACED))}", whole)
        services = _services(trace)
        for span in sorted(trace["spans"], key=lambda span: span["startTime"]):
            self.screen.line(f"{services[span['processID']]:<12} {span['operationName']:<40} {span['duration'] / 1000:9.2f} ms")
        return len(trace["spans"])

    def _show_lines(self, trace_id):
        find = self._caught if self.loki_is_caught else self._kept

        def whole():
            found = find(trace_id)
            return found if LOGGED <= {service for service, _ in found} else None

        found = self._eventually(f"the lines of {', '.join(sorted(LOGGED))}", whole)
        for service, line in found:
            self.screen.line(f"{service:<12} {line}")
        return len(found)

    def _caught(self, trace_id):
        """The lines that the catcher printed with this trace id in its own place, with the service's name."""
        found, service, body = [], None, None
        for line in self.project.printed_by("loki"):
            if named := re.match(r"\s+-> service\.name: Str\((.*)\)$", line):
                service = named.group(1)
            elif said := re.match(r"Body: Str\((.*)\)$", line):
                body = said.group(1)
            elif line == f"Trace ID: {trace_id}":
                found.append((service, body))
        return found

    def _kept(self, trace_id):
        """The lines that Loki finds as Grafana asks for them: by the structured metadata beside the line."""
        networks = self.project.containers()["loki"]["NetworkSettings"]["Networks"].values()
        loki = f"http://{next(iter(networks))['IPAddress']}:{LOKI_PORT}"
        query = urllib.parse.urlencode({"limit": LINES_MAX, "query": f'{{service_name=~".+"}} | trace_id="{trace_id}"'})
        answer = self._ask(loki, f"/loki/api/v1/query_range?{query}", expect=(200, 500, 503))
        streams = answer["data"]["result"] if answer.status == 200 else []
        return [(stream["stream"]["service_name"], line) for stream in streams for _, line in stream["values"]]

    def _show_targets(self):
        """All that deploy/prometheus/targets names; where no Loki is, without it."""
        def all_up():
            targets = self._ask(PROMETHEUS, "/api/v1/targets?state=active")["data"]["activeTargets"]
            asked = [target for target in targets if not (self.loki_is_caught and target["labels"]["job"] == "loki")]
            return asked if asked and all(target["health"] == "up" for target in asked) else None

        targets = self._eventually("every target of Prometheus, up", all_up)
        for target in sorted(targets, key=lambda target: target["labels"]["job"]):
            self.screen.line(f"{target['labels']['job']:<12} {target['scrapeUrl']:<45} {target['health']}")
        if self.loki_is_caught:
            self.screen.remark("and the target loki, which is not asked for here: what stands in its place has no metrics")
        return len(targets)

    def take_away(self):
        """Stops what nothing of the core may need."""
        with self.screen.step(f"Stop {', '.join(NOT_NEEDED)}", "watchers stopped") as row:
            self.project.halt(NOT_NEEDED)
            row.count = str(len(NOT_NEEDED))

    def _ask(self, url, path, expect=(200,)):
        return call(self.screen, "GET", Api(url, None), path, shown=False, expect=expect)

    def _eventually(self, what, ask):
        def answered():
            with contextlib.suppress(Failure):  # nothing listens yet
                return ask()
            return None

        return eventually(what, answered, None, within_s=APPEARS_WITHIN_S, every_s=POLL_S)


def _services(trace):
    return {key: process["serviceName"] for key, process in trace["processes"].items()}
