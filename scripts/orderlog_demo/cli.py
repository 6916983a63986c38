"""The command line of `scripts/demo`."""

import argparse
import os
import shutil
import signal
import time

from orderlog_stack import services, stack
from orderlog_stack.components import Postgres
from orderlog_stack.home import Home
from orderlog_stack.report import EXPECTED, Failure, say, show_failure

from .events import Listener
from .screen import Screen
from .walk import PASSWORD, Walk

DESCRIPTION = """\
Gets and starts Apache Kafka, a schema registry, PostgreSQL and MongoDB as local processes, builds and
starts Orderlog, and walks through what it does: register, log in, order, change, cancel, what each store
then holds, e-mails and SMS, rebuild by replay, import from a CSV file.

It leaves everything running: `scripts/stack status` shows it, `scripts/stack down` ends it.
A second run uses what is there. ORDERLOG_HOME and ORDERLOG_PORT_BASE are those of `scripts/stack`.
"""


def main():
    """Runs the demo; the exit code is 0 or 1."""
    argparse.ArgumentParser(
        prog="scripts/demo", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, _end)
    try:
        _demo(Home.from_environment(), begun)
    except EXPECTED as error:
        show_failure(error, program="demo")
        if not getattr(error, "log", None):
            say("  what runs: scripts/stack status; what a process says: scripts/stack logs NAME")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _end(number, _frame):
    """As an exception, so that what the demo itself started is ended."""
    raise SystemExit(128 + number)


def _demo(home, begun):
    _require_compilers()
    screen = Screen()
    with screen.step("Get, build and start everything", "processes running") as row:
        stack.up(home, nodes=None, components_only=False)
        stack.status(home)
        row.count = str(len(stack.names(home)))
    settings = services.settings(home)
    listener = Listener(home, settings["KAFKA_BOOTSTRAP_SERVERS"])
    try:
        walk = Walk(screen, home, settings, Postgres(home), listener)
        walk.run()
    finally:
        listener.close()
    _finish(screen, settings, walk, time.monotonic() - begun)


def _require_compilers():
    missing = [(program, hint) for program, hint in (
        ("cargo", "install Rust with rustup (https://rustup.rs)"),
        ("cc", "install a C compiler: sudo apt-get install build-essential"),
        ("make", "install make: sudo apt-get install build-essential"),
    ) if not shutil.which(program)]
    if missing:
        raise Failure("; ".join(f"{program} is missing, {hint}" for program, hint in missing))


def _finish(screen, settings, walk, took_s):
    print("\nWhat happened")
    screen.table()
    print(f"   everything, {took_s:.0f} s\n")
    url, curl = settings["ORDERLOG_URL"], f"curl --cacert {os.path.relpath(settings['ORDERLOG_CA_FILE'])} -s"
    print(f"""It is running now
   gateway         {url}  (HTTP/1.1, HTTP/2, gRPC; signed by {settings["ORDERLOG_CA_FILE"]})
   sent messages   {settings["ORDERLOG_PROVIDERS_URL"]}/
   traces          {settings["ORDERLOG_SPANS_URL"]}/traces
   Kafka           {settings["KAFKA_BOOTSTRAP_SERVERS"]}
   registry        {settings["SCHEMA_REGISTRY_URL"]}
   MongoDB         {settings["MONGODB_URI"]}
   PostgreSQL      {settings["DATABASE_URL"]}
   admin           {settings["ORDERLOG_ADMIN_EMAIL"]}  {settings["ORDERLOG_ADMIN_PASSWORD"]}
   user            {walk.email}  {PASSWORD}

Try it
   TOKEN=$({curl} {url}/login -H 'Content-Type: application/json' \\
     -d '{{"email":"{walk.email}","password":"{PASSWORD}"}}' | python3 -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')
   {curl} {url}/orders -H "Authorization: Bearer $TOKEN"
   {curl} -i {url}/orders -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
     -d '{{"currency":"GBP","lines":[{{"sku":"TEA-250","quantity":1,"unit_price":"4.25"}}]}}'

   scripts/stack status          what runs, and where
   scripts/stack logs notifier   what a process says
   scripts/stack down            stop everything; the data stays""")
