"""What the walk shows: numbered steps, short requests and answers, a table at the end."""

import contextlib
import json
import shutil
import sys
import time

from orderlog_stack.report import Failure

COLUMNS_MIN = 80
COLUMNS_MAX = 160

_bold, _dim, _plain = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Screen:
    """Prints the walk and keeps what the table at the end says."""

    def __init__(self):
        self.columns = min(max(shutil.get_terminal_size().columns, COLUMNS_MIN), COLUMNS_MAX)
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
        except Failure as failure:
            raise Failure(f"step {self.number} ({title}) failed: {failure}", failure.log) from failure
        row.took_s = time.monotonic() - begun
        self.rows.append(row)

    def line(self, text=""):
        """A line of what was found, cut to the width of the terminal."""
        text = f"   {text}"
        print(text if len(text) <= self.columns else text[: self.columns - 1] + "…", flush=True)

    def remark(self, text):
        """Says in a few words what the lines before it show."""
        print(f"   {_dim}{text}{_plain}", flush=True)

    def request(self, method, path, body, headers):
        """A request in short form."""
        shown = "".join(f"  {name}: {value}" for name, value in headers.items())
        self.line(f"→ {method} {path}{shown}" + (f"  {compact(body)}" if body is not None else ""))

    def answer(self, status, body, headers):
        """Its answer in short form."""
        shown = "".join(f"  {name}: {headers[name]}" for name in ("ETag",) if headers.get(name))
        self.line(f"← {status}{shown}" + (f"  {compact(body)}" if body is not None else ""))

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


def compact(body):
    """JSON on one line, without what is secret."""
    if isinstance(body, dict):
        body = {name: "…" if name in ("password", "access_token", "refresh_token") else value
                for name, value in body.items()}
    return json.dumps(body, ensure_ascii=False)
