"""One order by its trace id: its spans as a tree, its lines in the logs, and the metrics that counted it."""

import json
import secrets
import urllib.request

from orderlog_stack import services
from orderlog_stack.report import Failure

from .client import Api, call, eventually

GATEWAY, NOTIFIER = "gateway", "notifier"
SENT = ("send email", "send sms")
METRICS = ("orderlog_trace_spans_exported_total",)
WITHIN_S = 10
LOGS_BYTES_MAX = 64 * 1024 * 1024

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def show_trace(walk):
    """Sends an order in a trace of the demo's own, and shows where else its trace id leads to."""
    with walk.screen.step("One order by its trace id: spans, log lines, metrics", "spans of one order") as row:
        trace_id = order_in_a_trace(walk)
        if _is_received_here(walk):
            row.count = str(_show_spans(walk, trace_id))
        else:
            endpoint = walk.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] or "nowhere"
            walk.screen.remark(f"OTEL_EXPORTER_OTLP_ENDPOINT of this shell: its spans go {endpoint}")
        _show_log_lines(walk, trace_id)
        _show_metrics(walk)


def order_in_a_trace(walk):
    """Sends an order as the caller's own span of a sampled trace does; returns the trace's id."""
    trace_id = secrets.token_hex(16)
    walk.post("/orders", {
        "currency": "GBP", "lines": [{"sku": "TEA-250", "quantity": 1, "unit_price": "4.25"}],
    }, token=walk.token, expect=(201,), traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01")
    return trace_id


def _is_received_here(walk):
    return walk.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://{walk.home.address('spans-otlp')}"


def _show_spans(walk, trace_id):
    spans = Api(walk.settings["ORDERLOG_SPANS_URL"], walk.home.log("spans"))

    def received():
        answer = call(walk.screen, "GET", spans, f"/traces/{trace_id}", shown=False, expect=(200, 404))
        roots = answer["roots"] if answer.status == 200 else []
        names = [span["name"] for _, span in _flat(roots)]
        # The gateway sends its span, the first of all, some seconds later.
        is_whole = [root["service"] for root in roots] == [GATEWAY] and all(name in names for name in SENT)
        return answer if is_whole else None

    trace = eventually("the trace of the order, to its mail", received, walk.home.log("spans"))
    walk.screen.line(f"trace {trace_id}")
    for depth, span in _flat(trace["roots"]):
        name = "  " * depth + span["name"]
        walk.screen.line(f"{name:<34} {span['service']:<12} {span['kind']:<9} {span['duration_ms']:>9.2f} ms")
    walk.screen.remark(f"the same as JSON: {spans.url}/traces/{trace_id}")
    return trace["spans"]


def _flat(nodes, depth=0):
    """Each span with how deep it lies, those above first."""
    for node in nodes:
        yield depth, node
        yield from _flat(node["children"], depth + 1)


def _show_log_lines(walk, trace_id):
    names = [GATEWAY, *services.nodes(walk.home), NOTIFIER]

    def written():
        lines = [(name, line) for name in names for line in _log_lines(walk.home.log(name), trace_id)]
        return lines if {name for name, _ in lines} >= {GATEWAY, NOTIFIER} else None

    found = eventually("the order in the logs", written, walk.home.log(NOTIFIER))
    for name, line in found:
        about = {key: line[key] for key in ("method", "route", "status", "channel", "duration_ms") if key in line}
        said = "  ".join(f"{key}={value}" for key, value in about.items())
        walk.screen.line(f"{name:<14} {line['timestamp'][11:23]}  {line['message']:<9}  {said}")
    walk.screen.remark(f"grep {trace_id} {walk.home.log('*')}; each has the correlation id of the request, too")


def _log_lines(log, trace_id):
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOGS_BYTES_MAX))
        lines = [line for line in file if trace_id.encode() in line]
    return [json.loads(line) for line in lines]


def _show_metrics(walk):
    found = []
    for url in walk.settings["ORDERLOG_COMMAND_URLS"].split(","):
        with _opener.open(f"{url}/metrics", timeout=WITHIN_S) as answer:
            lines = answer.read().decode().splitlines()
        found += [line for line in lines if line.startswith(METRICS) or _counts_orders(line)]
    if not any(map(_counts_orders, found)):
        raise Failure("no metric of command-api counts the orders", walk.home.log(services.nodes(walk.home)[0]))
    for line in found:
        walk.screen.line(line)


def _counts_orders(line):
    """How many orders were accepted, as the histogram of requests counts them."""
    return all(part in line for part in ("_count{", '"POST"', '"/orders"', '"201"'))
