"""C{python -m benchmarks NAME}: run one workload and print what came out; C{table}
puts what was saved into the documentation."""

import argparse
import signal
import sys
from typing import NoReturn

from benchmarks import (
    accept,
    commit,
    hostile,
    imap,
    large,
    memory,
    mixed,
    pop3,
    relay,
    search,
    sites,
    soak,
    table,
)

WORKLOADS = {
    "accept": accept,
    "commit": commit,
    "hostile": hostile,
    "imap": imap,
    "large": large,
    "memory": memory,
    "mixed": mixed,
    "pop3": pop3,
    "relay": relay,
    "search": search,
    "sites": sites,
    "soak": soak,
}


def main() -> int:
    """Parse the command line and run.

    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    names = parser.add_subparsers(metavar="NAME", dest="name")
    for name, module in {**WORKLOADS, "table": table}.items():
        summary = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
        command = names.add_parser(name, help=summary, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args()
    if options.name is None:
        parser.print_help()
        return 2
    signal.signal(signal.SIGTERM, _end)
    options.run(options)
    return 0


def _end(*_: object) -> NoReturn:
    """Whoever ends us wants servers and directories to go, too."""
    raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
