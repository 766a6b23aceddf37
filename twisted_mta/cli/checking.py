"""C{twisted-mta check FILE}: all that is wrong with a config, at once."""

import argparse

from twisted_mta.app import check_parts
from twisted_mta.config.check import load


def check(options: argparse.Namespace) -> int:
    """Say C{ok}, or fail with every problem as C{FILE:line:column: ...}."""
    document, config = load(options.file)
    check_parts(document, config)
    print("ok")
    return 0
