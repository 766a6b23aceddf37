"""C{twisted-mta backup TARGET}: a copy of the mail, made while the server runs or
not.

The exit status is 0 for a backup in which nothing is wrong, else 1.
"""

import argparse
import sys

from twisted_mta.cli import table
from twisted_mta.cli.auditing import ledger_directory
from twisted_mta.cli.progress import Progress
from twisted_mta.cli.server import config_path
from twisted_mta.config.check import load
from twisted_mta.config.schema import Storage
from twisted_mta.ledger.backup import Backup


def backup(options: argparse.Namespace) -> int:
    """Make it, and say what it consists of."""
    directory = ledger_directory(options)
    storage = Storage()
    if options.directory is None:
        storage = load(config_path(options.config))[1].storage
    target = options.target.absolute()
    with Progress(sys.stderr) as progress:
        made = Backup(
            directory, target, storage.reserve, not options.copy, progress.look
        ).make(options.verify)
    for problem in made.problems:
        print(problem)
    print(
        f"{target}: {table.size(made.octets)} of rows, {made.linked} large messages"
        f" linked, {made.copied} copied."
    )
    if not made.problems:
        return 0
    print(
        "What is wrong with it is wrong with the mail itself: keep an older backup,"
        " and run 'twisted-mta check --data'.",
        file=sys.stderr,
    )
    return 1
