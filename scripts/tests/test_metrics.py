"""The rules for Prometheus and the dashboards for Grafana, as far as nothing has to run for it."""

import json
import re
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderlog_metrics import files  # noqa: E402
from orderlog_stack import tools  # noqa: E402
from orderlog_stack.home import CHECKOUT  # noqa: E402

WITHIN_S = 60
GRID_COLUMNS = 24


class Rules(unittest.TestCase):
    def promtool(self, *arguments):
        done = subprocess.run([tools.prometheus("promtool"), *map(str, arguments)], cwd=files.PROMETHEUS,
                              capture_output=True, text=True, timeout=WITHIN_S)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_prometheus_takes_the_configuration_and_its_rules(self):
        self.promtool("check", "config", "--lint-fatal", "prometheus.yml")

    def test_every_alert_fires_when_it_should_and_is_silent_when_it_should_be(self):
        tests = sorted((files.PROMETHEUS / "tests").glob("*.yml"))
        self.promtool("test", "rules", *tests)
        fires, silent = files.alert_tests()
        self.assertEqual(fires, set(files.alerts()), "alerts that a test wants to fire")
        self.assertEqual(silent, set(files.alerts()), "alerts that a test wants to be silent")

    def test_every_alert_has_a_section_that_says_what_to_do(self):
        page = (CHECKOUT / "docs" / "runbook.md").read_text()
        sections = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
        for alert, runbooks in files.alerts().items():
            self.assertEqual(runbooks, [f"docs/runbook.md#{alert.lower()}"])
            self.assertIn(alert.lower(), sections)


class Dashboards(unittest.TestCase):
    def test_there_are_three_and_no_uid_twice(self):
        self.assertEqual(list(files.dashboards()), ["commands.json", "overview.json", "reads.json"])
        uids = [dashboard["uid"] for dashboard in files.dashboards().values()]
        self.assertEqual(len(set(uids)), len(uids))

    def test_every_panel_has_an_id_a_place_and_words_of_its_own(self):
        for name, dashboard in files.dashboards().items():
            taken = set()
            ids = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(set(ids)), len(ids), name)
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(cells & taken, f"{name}: {panel['title']} lies on another")
                self.assertLessEqual(place["x"] + place["w"], GRID_COLUMNS, name)
                taken |= cells
            for panel in files.panels(dashboard):
                self.assertTrue(panel["title"] and panel["description"], name)

    def test_every_panel_asks_a_data_source_that_is_provisioned(self):
        known = files.datasources()
        self.assertEqual(set(known), {"prometheus", "loki", "jaeger"})
        for name, dashboard in files.dashboards().items():
            for panel in files.panels(dashboard):
                self.assertTrue(panel["targets"], f"{name}: {panel['title']} asks nothing")
                for asked in [panel["datasource"], *(target["datasource"] for target in panel["targets"])]:
                    self.assertEqual(known.get(asked["uid"]), asked["type"], f"{name}: {panel['title']}")

    def test_from_a_log_line_to_its_trace(self):
        text = (files.GRAFANA / "provisioning" / "datasources" / "orderlog.yml").read_text()
        self.assertRegex(text, r"name: trace_id\n +matcherType: label\n +matcherRegex: trace_id\n +datasourceUid: jaeger\n")


class Targets(unittest.TestCase):
    def test_each_is_a_service_of_the_compose_file(self):
        services = re.findall(r"^  ([\w-]+):$", (CHECKOUT / "docker-compose.yml").read_text(), re.MULTILINE)
        for path in (files.PROMETHEUS / "targets").glob("*.json"):
            for group in json.loads(path.read_text()):
                for target in group["targets"]:
                    self.assertIn(target.split(":")[0], services)


if __name__ == "__main__":
    unittest.main()
