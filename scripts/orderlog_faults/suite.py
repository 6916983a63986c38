"""The faults of the command side, again and again, each round with other seeds; prints a table fault × runs × violations.

A round is every test that breaks one thing, and two faults at once from a seed: S, S + 1, … A seed replays:
`ORDERLOG_FAULT_SEED=<seed>` and the test `two_faults::…`, or --seed <seed> --rounds 1 --only two_faults.
"""

import argparse
import os
import random
import sys
import time

from orderlog_stack.report import EXPECTED, show_failure, say

from . import runs

PORT_BASE_DEFAULT = 25_000
SEED_MAX = 2**32
MODULES = ("commit_window", "nodes", "two_faults")
"""Modules of which every test breaks something on the command side."""
FAULTS = (
    "a_killed_command_api_loses_and_doubles_nothing",
    "a_command_api_that_stops_in_good_order_finishes_what_it_has_begun",
    "a_paused_command_api_goes_on_as_if_nothing_had_been",
    "a_killed_kafka_loses_and_doubles_nothing",
    "a_restarted_kafka_loses_and_doubles_nothing",
    "a_paused_kafka_loses_and_doubles_nothing",
)
"""Those of `faults` that do."""


def main():
    """Runs the suite; the exit code is 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="scripts/fault-suite", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--seed", type=int, help="the first one (default: drawn, and told)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only tests whose name has this in it")
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except EXPECTED as error:
        show_failure(error, "fault-suite")
        return 1


def _run(arguments):
    seed = random.randrange(SEED_MAX) if arguments.seed is None else arguments.seed
    begun = time.monotonic()
    binary = runs.test_binaries()[runs.END_TO_END]
    tests = [test for test in _tests(binary) if arguments.only in test]
    home = runs.target() / "fault-suite"
    home.mkdir(parents=True, exist_ok=True)
    port_base = os.environ.get("ORDERLOG_FAULT_SUITE_PORT_BASE", str(PORT_BASE_DEFAULT))
    told = []
    with runs.Stack(home / "stack", port_base, runs.target() / "debug") as stack:
        for number in range(arguments.rounds):
            say(f"round {number + 1} of {arguments.rounds}, seed {seed + number}")
            stack.fresh()
            for test in tests:
                said = stack.test(binary, test, {"ORDERLOG_FAULT_SEED": str(seed + number)})
                runs.told(said)
                told.append(said)
                if not said.passed:
                    log = home / f"{test.rpartition('::')[2]}-{seed + number}.log"
                    log.write_text(said.output)
                    say(f"    {log}")
                    stack.fresh()
    print(runs.table(("fault", "runs", "calls checked", "failed", "violations"), _rows(told)))
    failed = sum(not said.passed for said in told)
    say(f"fault-suite: seeds {seed} to {seed + arguments.rounds - 1}, {len(told)} runs, {failed} failed, "
        f"{time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


def _tests(binary):
    """The names of the tests that break something on the command side."""
    listed = runs.listed(binary)
    faults = [f"faults::{name}" for name in FAULTS]
    return [name for name in listed if name.partition("::")[0] in MODULES or name in faults]


def _rows(told):
    rows = {}
    for said in told:
        names = [f"two at once: {fault}" for fault in said.faults] or [f"`{said.test}`"]
        for name in names:
            row = rows.setdefault(name, [0, 0, 0, 0])
            row[0] += 1
            row[1] += said.calls
            row[2] += not said.passed
            row[3] += sum(said.violations.values())
    return [(name, *row) for name, row in sorted(rows.items())]


if __name__ == "__main__":
    sys.exit(main())
