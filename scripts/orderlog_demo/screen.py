"""What the walk shows: numbered steps, short requests and answers, a table at the end."""

import contextlib
import json
import shutil
import sys
import textwrap
import time

from orderlog_stack.report import EXPECTED, Failure, in_a_line

COLUMNS_WITHOUT_TERMINAL = 120
COLUMNS_MIN = 60
COLUMNS_MAX = 160
BODY_LINES_MAX = 3
MARGIN = "   "
SECRETS = ("password", "access_token", "refresh_token")

_bold, _dim, _plain = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Screen:
    """Prints the walk and keeps what the table at the end says."""

    def __init__(self):
        columns = shutil.get_terminal_size((COLUMNS_WITHOUT_TERMINAL, 24)).columns
        self.columns = min(max(columns, COLUMNS_MIN), COLUMNS_MAX)
        self.rows = []
        self.number = 0

    @contextlib.contextmanager
    def step(self, title, what=None):
        """One numbered step. `what` enters the table; the step may set `row.count` before it ends."""
        self.number += 1
        print(f"\n{_bold}{self.number}. {title}{_plain}", flush=True)
        row = _Row(what or title)
        begun = time.monotonic()
        try:
            yield row
        except EXPECTED as error:
            log = getattr(error, "log", None)
            raise Failure(f"step {self.number} ({title}) failed: {in_a_line(error)}", log) from error
        row.took_s = time.monotonic() - begun
        self.rows.append(row)

    def line(self, text=""):
        """A line of what was found, cut to the width of the terminal."""
        text = MARGIN + text
        print(text if len(text) <= self.columns else text[: self.columns - 1] + "…", flush=True)

    def json(self, body, lines_max=BODY_LINES_MAX):
        """A JSON body on a few lines, without what is secret or empty."""
        lines = textwrap.wrap(_compact(body), self.columns - len(MARGIN) - 2, break_on_hyphens=False)
        for line in lines[:lines_max]:
            self.line("  " + line)
        if len(lines) > lines_max:
            self.line("  …")

    def remark(self, text):
        """Says in a few words what the lines before it show."""
        print(f"{MARGIN}{_dim}{text}{_plain}", flush=True)

    def request(self, method, path, body, headers):
        """A request in short form."""
        self.line(f"→ {method} {path}" + "".join(f"   {name}: {value}" for name, value in headers.items()))
        if body is not None:
            self.json(body)

    def answer(self, status, body, headers):
        """Its answer in short form."""
        self.line(f"← {status}" + "".join(f"   {name}: {headers[name]}" for name in ("ETag",) if headers.get(name)))
        if body is not None:
            self.json(body)

    def table(self):
        """What, how many, how long."""
        width = max(len(row.what) for row in self.rows)
        for row in self.rows:
            print(f"   {row.what:<{width}}  {row.count:>14}  {row.took_s:8.1f} s")


class _Row:
    def __init__(self, what):
        self.what = what
        self.count = ""
        self.took_s = 0.0


def _compact(body):
    return json.dumps(_shown(body), ensure_ascii=False)


def _shown(value):
    if isinstance(value, dict):
        return {name: "…" if name in SECRETS else _shown(inner)
                for name, inner in value.items() if inner not in (None, {}, [])}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    return value
