"""The fault suite's and the planted bugs' own words, as far as nothing has to run for it."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderlog_faults import planted, runs  # noqa: E402
from orderlog_stack.home import CHECKOUT  # noqa: E402

PLANTED_MIN = 10
SAYS_VIOLATIONS = """\
print("faults: LateCommits (900 ms) and, 20 ms later, KilledKafka (1 ms); ORDERLOG_FAULT_SEED=7")
print("checked: 5 calls against a log of 3 events about orders, 2 violations")
print("thread 'x' (1) panicked at tests/x.rs:1:1:")
print("2 violations")
print("violation: Lost: something")
print("violation: Lost: something else")
print("note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace")
raise SystemExit(1)
"""


class PlantedBugs(unittest.TestCase):
    def test_each_says_what_it_breaks_and_which_test_must_find_it(self):
        bugs = [planted.Bug(path) for path in planted.PATCHES.glob("*.patch")]
        self.assertGreaterEqual(len(bugs), PLANTED_MIN)
        of_services = {"it": "tests/tests/it", "adapters": "projections/tests/adapters"}
        tests = {by: "".join(path.read_text() for path in (CHECKOUT / directory).glob("*.rs"))
                 for by, directory in of_services.items()}
        for bug in bugs:
            self.assertIn(f"fn {bug.test.rpartition('::')[2]}()", tests[bug.by], bug.name)

    def test_each_still_applies(self):
        with tempfile.TemporaryDirectory() as directory:
            for path in sorted(planted.PATCHES.glob("*.patch")):
                checkout = Path(directory) / "checkout"
                planted.copy(checkout)
                self.assertTrue(planted.applies(planted.Bug(path), checkout), path.name)


class WhatATestSays(unittest.TestCase):
    def test_violations_faults_and_calls_are_read_from_it(self):
        stack = runs.Stack("/nowhere", 1, "/nowhere")
        stack.settings = dict
        with tempfile.TemporaryDirectory() as directory:
            binary = Path(directory) / "it"
            binary.write_text(f"#!{sys.executable}\n{SAYS_VIOLATIONS}")
            binary.chmod(0o755)
            said = stack.test(str(binary), "two_faults::it", to_the_end=False)
        self.assertFalse(said.passed)
        self.assertEqual(said.violations, {"Lost": 2})
        self.assertEqual(said.why(), "Lost × 2")
        self.assertEqual(said.faults, ["LateCommits", "KilledKafka"])
        self.assertEqual(said.calls, 5)


if __name__ == "__main__":
    unittest.main()
