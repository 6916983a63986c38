"""The files under deploy/prometheus and deploy/grafana, as far as they can be read without a YAML parser."""

import json
import re

from orderlog_stack.home import CHECKOUT

PROMETHEUS = CHECKOUT / "deploy" / "prometheus"
GRAFANA = CHECKOUT / "deploy" / "grafana"


def dashboards():
    """Each dashboard by the name of its file."""
    return {path.name: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def panels(dashboard):
    """Its panels without the rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def datasources():
    """The types of the data sources that Grafana is given, by uid."""
    text = (GRAFANA / "provisioning" / "datasources" / "orderlog.yml").read_text()
    return dict(re.findall(r"^    uid: (\S+)\n    type: (\S+)$", text, re.MULTILINE))


def alerts():
    """Each alert and the place that says what to do about it."""
    text = (PROMETHEUS / "rules" / "alerts.yml").read_text()
    blocks = re.split(r"^      - alert: ", text, flags=re.MULTILINE)[1:]
    runbook = re.compile(r"^ +runbook_url: (\S+)$", re.MULTILINE)
    return {block.split()[0]: runbook.findall(block) for block in blocks}


def alert_tests():
    """The alerts that a test wants to fire, and those that a test wants to be silent."""
    fires, silent = set(), set()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for name, expected in re.findall(r"^ +alertname: (\w+)\n +exp_alerts:(.*)$", path.read_text(), re.MULTILINE):
            (silent if expected.strip() == "[]" else fires).add(name)
    return fires, silent
