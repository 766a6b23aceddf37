"""C{twisted-mta check FILE}: all that is wrong with a config, at once."""

import argparse
import re

from twisted_mta.app import part_problems
from twisted_mta.config.check import survey, text_of
from twisted_mta.config.load import read
from twisted_mta.errors import ConfigError

_PLACE = re.compile(r":(\d+):(\d+): ")


def check(options: argparse.Namespace) -> int:
    """Say C{ok}, or fail with every problem as C{FILE:line:column: ...}."""
    document = read(str(options.file), text_of(options.file))
    config, found = survey(document)
    problems = document.problems(found)
    if config is not None:
        problems += part_problems(document, config)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    print("ok")
    return 0


def _place(problem: str) -> tuple[int, int]:
    """Line and column; what has none, such as a plugin's file, comes first."""
    match = _PLACE.search(problem)
    return (int(match[1]), int(match[2])) if match else (0, 0)
