"""Bugs that are planted on purpose: the tests must find each. A checker that has not found a planted bug proves nothing.

A patch in `tests/planted-bugs/` begins with lines `guarantee: …` (what is broken, and how), `test: …` (the test that must
find it) and `shows: …` (a pattern: what that test must say, such as a kind of violation). `in: …` says in which service it
is, unless in command-api, and `by: adapters` that the test is one of that service's own, on the real databases. Each is
applied to a copy of the checkout, alone, built, and run on a stack of its own.
"""

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orderlog_stack.home import CHECKOUT
from orderlog_stack.report import EXPECTED, Failure, say, show_failure
from orderlog_stack.services import BINARIES

from . import runs

PATCHES = CHECKOUT / "tests" / "planted-bugs"
AS_WITH_TESTS = ("--test", "contract")
"""A small test beside a service: cargo then chooses the features that it chooses when it builds everything."""
HEADER = {"guarantee": None, "test": None, "shows": None, "in": "command-api", "by": runs.END_TO_END}
"""The lines of a header, and what one says that is not there."""
PORT_BASE_DEFAULT = 25_000
GIT_WITHIN_S = 60


class Bug:
    """A patch and its header."""

    def __init__(self, path):
        self.path, self.name = path, path.stem
        text = path.read_text()
        header = {}
        for name, otherwise in HEADER.items():
            found = re.search(rf"^{name}: (.+)$", text, re.MULTILINE)
            header[name] = found.group(1) if found else otherwise
            if header[name] is None:
                raise Failure(f"{path.name} has no line `{name}: …`")
        self.guarantee, self.test, self.shows = header["guarantee"], header["test"], header["shows"]
        self.service, self.by = header["in"], header["by"]

    def is_found(self, said):
        """Whether the test failed, and with what it should fail with."""
        return not said.passed and re.search(self.shows, said.output) is not None


def main():
    """Plants one bug after another; the exit code is 1 when one is not found."""
    parser = argparse.ArgumentParser(prog="scripts/planted-bugs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="say which there are, and whether they still apply")
    arguments = parser.parse_args()
    try:
        bugs = _chosen(arguments.names)
        work = runs.target() / "planted-bugs"
        if arguments.list:
            return _list(bugs, work / "checkout")
        return _run(bugs, work)
    except EXPECTED as error:
        show_failure(error, "planted-bugs")
        return 1


def _chosen(names):
    bugs = [Bug(path) for path in sorted(PATCHES.glob("*.patch"))]
    unknown = set(names) - {bug.name for bug in bugs}
    if unknown:
        raise Failure(f"there is no planted bug {', '.join(sorted(unknown))}")
    return [bug for bug in bugs if not names or bug.name in names]


def _list(bugs, checkout):
    stale = 0
    for bug in bugs:
        copy(checkout)
        is_good = applies(bug, checkout)
        stale += not is_good
        print(f"{bug.name:<36}{'' if is_good else 'DOES NOT APPLY  '}{bug.guarantee}")
    copy(checkout)
    return 1 if stale else 0


def _run(bugs, work):
    begun = time.monotonic()
    tests = runs.test_binaries()
    binaries = _binaries(work / "bin")
    port_base = os.environ.get("ORDERLOG_PLANTED_PORT_BASE", str(PORT_BASE_DEFAULT))
    rows, missed = [], []
    # The next bug is built while the one before it is looked for.
    with ThreadPoolExecutor(max_workers=1) as builder, runs.Stack(work / "stack", port_base, binaries) as stack:
        built = [(bug, builder.submit(_build, bug, work)) for bug in bugs]
        try:
            _without_a_bug(bugs, stack, tests)
            for bug, broken in built:
                say(f"{bug.name}: {bug.guarantee}")
                caught_by, shown = _look_for(bug, broken.result(), binaries, stack, tests, work)
                rows.append((bug.name, bug.guarantee, caught_by or "**not caught**", shown))
                if not caught_by:
                    missed.append(bug.name)
        finally:
            builder.shutdown(wait=False, cancel_futures=True)
    print(runs.table(("planted bug", "what is broken", "caught by", "with"), rows))
    say(f"planted-bugs: {len(bugs) - len(missed)} of {len(bugs)} caught, {time.monotonic() - begun:.0f} s")
    if missed:
        say(f"planted-bugs: NOT CAUGHT: {', '.join(missed)}")
    return 1 if missed else 0


def _without_a_bug(bugs, stack, tests):
    """A test that fails anyway finds nothing."""
    say("without a bug")
    stack.fresh()
    for by, test in sorted({(bug.by, bug.test) for bug in bugs}):
        said = stack.test(tests[by], test)
        runs.told(said)
        if not said.passed:
            raise Failure(f"{test} fails without any bug: {said.why()}")


def _build(bug, work):
    """The service with the bug, or its own tests; None when the patch does not apply."""
    checkout = work / "checkout"
    copy(checkout)
    if not applies(bug, checkout):
        return None
    wanted = ("--bin", bug.service, *AS_WITH_TESTS) if bug.by == runs.END_TO_END else ("--test", bug.by)
    built = runs.build("build", "--locked", "--workspace", *wanted, checkout=checkout, into=work / "target")
    broken = work / "target" / "debug" / bug.service
    if bug.by != runs.END_TO_END:
        broken = runs.executable(built, bug.by, bug.service)
    kept = work / "built" / bug.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    _put(broken, kept)
    return kept


def _look_for(bug, broken, binaries, stack, tests, work):
    """The test that caught the bug (or nothing), and what it said."""
    if broken is None:
        say("  the patch does not apply any more")
        return None, "the patch does not apply"
    stack.reset()
    whole = runs.target() / "debug" / bug.service
    if bug.by == runs.END_TO_END:
        _put(broken, binaries / bug.service)
    stack.fresh()
    binary = tests[bug.by] if bug.by == runs.END_TO_END else broken
    said = stack.test(binary, bug.test, to_the_end=False)
    broken.unlink()
    _put(whole, binaries / bug.service)
    log = work / f"{bug.name}.log"
    log.write_text(said.output)
    if bug.is_found(said):
        say(f"  caught: {said.why()}")
        return f"`{bug.test.rpartition('::')[2]}`", said.why()
    shown = "nothing" if said.passed else f"{said.why()}, but `{bug.shows}` was wanted"
    say(f"  NOT CAUGHT: {bug.test} said {shown}; {log}")
    return None, shown


def copy(checkout):
    """The checkout as it is now, without what git ignores. What is the same already is left, so that little is built."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT,
                            capture_output=True, check=True, timeout=GIT_WITHIN_S).stdout.decode()
    wanted = {name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()}
    for path in [path for path in checkout.rglob("*") if path.is_file()]:
        if str(path.relative_to(checkout)) not in wanted:
            path.unlink()
    for name in wanted:
        source, copy = CHECKOUT / name, checkout / name
        if not (copy.exists() and filecmp.cmp(source, copy, shallow=False)):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            shutil.copymode(source, copy)


def applies(bug, checkout):
    """Applies a patch to the copy; whether it could."""
    # Else git would take the copy, which lies in what it ignores, for a part of the checkout around it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(checkout.parent)}
    done = subprocess.run(["git", "apply", str(bug.path)], cwd=checkout, env=environment, capture_output=True,
                          timeout=GIT_WITHIN_S)
    return done.returncode == 0


def _binaries(directory):
    """The services as they are, in a directory where one can be exchanged."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in BINARIES:
        _put(runs.target() / "debug" / name, directory / name)
    return directory


def _put(source, place):
    """As a new file: the old one may be running."""
    source = Path(source)
    temporary = place.with_name(f".{place.name}.new")
    shutil.copy2(source, temporary)
    Path(temporary).replace(place)


if __name__ == "__main__":
    sys.exit(main())
