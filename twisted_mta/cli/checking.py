"""C{twisted-mta check}: all that is wrong with a config, at once; with C{--data},
with the mail on disk (L{twisted_mta.cli.auditing})."""

import argparse
import re
import sys

from twisted_mta.app import part_problems
from twisted_mta.cli import auditing
from twisted_mta.cli.server import where
from twisted_mta.config.check import survey, text_of
from twisted_mta.config.load import read
from twisted_mta.errors import ConfigError

_PLACE = re.compile(r":(\d+):(\d+): ")


def check(options: argparse.Namespace) -> int:
    """Say C{ok}, or fail with every problem as C{FILE:line:column: ...}."""
    if options.file is not None:
        if options.config is not None or options.directory is not None:
            return _senseless("FILE is the config: say it, or --config, not both")
        options.config = options.file
    if options.data:
        return auditing.check(options)
    if options.repair or options.json:
        return _senseless("--repair and --json go with --data")
    path = where(options)
    document = read(str(path), text_of(path))
    config, found = survey(document)
    problems = document.problems(found)
    if config is not None:
        problems += part_problems(document, config)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    print("ok")
    return 0


def _senseless(why: str) -> int:
    print(f"twisted-mta check: {why}", file=sys.stderr)
    return 2


def _place(problem: str) -> tuple[int, int]:
    """Line and column; what has none, such as a plugin's file, comes first."""
    match = _PLACE.search(problem)
    return (int(match[1]), int(match[2])) if match else (0, 0)
