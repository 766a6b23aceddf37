"""C{twisted-mta check --data}: all that is wrong with a ledger, whether the server
runs or not.

The exit status is 0 if all is well (now), 1 if problems are left, 2 if it could not
be looked at.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from twisted_mta.cli.progress import Progress
from twisted_mta.cli.server import config_path, in_reactor
from twisted_mta.config.check import load
from twisted_mta.errors import ConfigError, MailError
from twisted_mta.ledger.audit.audit import Audit
from twisted_mta.ledger.audit.finding import Finding
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.office import search_directory
from twisted_mta.store import search_check

_CANNOT = 2


@dataclass
class _Tally:
    """What was found, as it is said in the end."""

    found: int = 0
    left: int = 0
    worth: Counter[str] = field(default_factory=Counter)


def check(options: argparse.Namespace) -> int:
    """Say everything that is wrong, a line each, then how much it is."""
    try:
        directory = ledger_directory(options)
        with (
            Progress(sys.stderr) as progress,
            closing(Audit(directory, progress.look)) as audit,
        ):
            findings = chain(
                audit.findings(options.repair), _of_the_index(directory, options.repair)
            )
            return _report(findings, options.json, progress)
    except ConfigError as error:
        print(error, file=sys.stderr)
    except MailError as error:
        print(f"twisted-mta: {error.text}", file=sys.stderr)
    return _CANNOT


def ledger_directory(options: argparse.Namespace) -> Path:
    """The directory of the ledger that C{--config} or C{--directory} means.

    @raise ConfigError: the config cannot be used.
    """
    directory: Path | None = options.directory
    if directory is not None:
        return directory
    return load(config_path(options.config))[1].directory


def _of_the_index(directory: Path, repair: bool) -> Iterator[tuple[Finding, bool]]:
    """What is wrong with the search index, if there is one: a backup has none, nor
    has a server that never ran. Whatever it is, the index is made anew."""
    place = search_directory(directory)
    if not place.is_dir():
        return
    found = in_reactor(partial(_look_at_index, directory, place, repair))
    for what in found:
        yield Finding(what, "the index is made anew", outside=_made_anew), repair


async def _look_at_index(
    directory: Path, place: Path, repair: bool, reactor: Any
) -> Sequence[str]:
    ledger = Ledger(reactor, directory)
    await ledger.open()
    try:
        found = await search_check.problems(reactor, ledger, place)
        if found and repair:
            await search_check.rebuild(place)
        return found
    finally:
        await ledger.close()


def _made_anew(_: object) -> None:
    """By the indexer, once nobody vouches for the index."""


def _report(
    findings: Iterable[tuple[Finding, bool]],
    as_json: bool,
    progress: Progress,
) -> int:
    tally = _Tally()
    for finding, repaired in findings:
        if not finding.problem:
            tally.worth[_as_text(finding, repaired)] += finding.count
            continue
        tally.found += 1
        tally.left += not repaired
        progress.clear()
        if as_json:
            print(_as_json(finding, repaired), flush=True)
        else:
            print(_as_text(finding, repaired), flush=True)
    progress.clear()
    if not as_json:
        for text, count in tally.worth.items():
            print(f"{count} times: {text}")
        print(_summary(tally))
    return 1 if tally.left else 0


def _as_json(finding: Finding, repaired: bool) -> str:
    return json.dumps(
        {
            "what": finding.what,
            "remedy": finding.remedy,
            "repairable": finding.repairable,
            "repaired": repaired,
        },
        ensure_ascii=False,
    )


def _as_text(finding: Finding, repaired: bool) -> str:
    how = "repaired: " if repaired else "--repair: " if finding.repairable else ""
    return f"{finding.what} ({how}{finding.remedy})"


def _summary(tally: _Tally) -> str:
    if not tally.found:
        return "No problems."
    count = f"{tally.found} problem{'' if tally.found == 1 else 's'}"
    return f"{count}, {tally.found - tally.left} repaired, {tally.left} left."
