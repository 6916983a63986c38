"""The command line of `scripts/stack`."""

import argparse

from . import processes, stack
from .home import NODES_MAX, Home
from .report import EXPECTED, show_failure

DESCRIPTION = """\
Runs Apache Kafka, a schema registry, PostgreSQL, MongoDB and Orderlog's services as local processes.

ORDERLOG_HOME       where state, logs and secrets live (default: .orderlog in the checkout)
ORDERLOG_PORT_BASE  the first port, given at the first `up` of a home and remembered (default: 21000)
ORDERLOG_PROFILE    release (default) or dev: which build of the services is run
ORDERLOG_BINARIES   a directory of built services to run instead of building them
"""


def main():
    """Runs one command; the exit code is 0 or 1."""
    arguments = _parser().parse_args()
    try:
        _run(Home.from_environment(), arguments)
    except EXPECTED as error:
        show_failure(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(home, arguments):
    command = arguments.command
    if command == "up":
        stack.up(home, arguments.nodes, arguments.components_only)
        return
    if command in ("down", "reset") and not home.exists():
        return
    if command != "reset":
        home.require()
    if command in ("start", "stop", "reload", "logs"):
        getattr(stack, command)(home, arguments.name)
    elif command in ("kill", "pause", "resume"):
        stack.component_of(home, arguments.name)
        getattr(processes, command)(home, arguments.name)
    else:
        getattr(stack, command)(home)


def _parser():
    parser = argparse.ArgumentParser(
        prog="scripts/stack", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="build and start everything; returns when it is ready")
    up.add_argument("--nodes", type=_nodes, help="number of command-api processes, remembered (default 1)")
    up.add_argument("--components-only", action="store_true", help="only Kafka, registry, PostgreSQL and MongoDB")
    commands.add_parser("down", help="stop everything; the data stays")
    commands.add_parser("reset", help="stop everything and delete the data")
    commands.add_parser("status", help="name, state, pid and address of every process")
    commands.add_parser("env", help="print `export NAME=value` lines for clients and tests")
    for name, help_text in (
        ("logs", "show the end of a log"),
        ("start", "start one process; returns when it is ready"),
        ("stop", "stop one process gracefully"),
        ("kill", "SIGKILL"),
        ("pause", "SIGSTOP"),
        ("resume", "SIGCONT"),
        ("reload", "SIGHUP: one of Orderlog's services reads its files anew"),
    ):
        commands.add_parser(name, help=help_text).add_argument("name", metavar="NAME")
    return parser


def _nodes(text):
    if not text.isdigit() or not 1 <= int(text) <= NODES_MAX:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {NODES_MAX}")
    return int(text)
