"""Lists of addresses in files: who exists in a domain that another server has.

A line is an address, or its local part alone; C{#} begins a comment. What is wrong is
told with file and line. An operator writes the files, so they are trusted to be of
reasonable size, which is bounded all the same.
"""

from collections.abc import Sequence
from pathlib import Path

from twisted_mta.errors import ConfigError
from twisted_mta.mail.address import Address, split

# Octets of one file: some 300,000 addresses, which are read in a second. There is no
# precedent: Postfix's tables are made by another program.
_FILE_MOST = 8 << 20

# Problems that are told of one file.
_PROBLEMS = 20


def read(paths: Sequence[Path], domain: str) -> frozenset[str]:
    """The addresses as keys.

    @param domain: that all of them are in.
    @raise ConfigError: all that is wrong.
    """
    found: set[str] = set()
    problems: list[str] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                octets = file.read(_FILE_MOST + 1)
            text = octets.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8"
            problems.append(f"{path}:1: cannot be read: {reason}")
            continue
        if len(octets) > _FILE_MOST:
            problems.append(f"{path}:1: is larger than {_FILE_MOST >> 20}M; split it")
            continue
        wrong = list(_take(text, domain, found))
        problems += [f"{path}:{number}: {why}" for number, why in wrong[:_PROBLEMS]]
        if len(wrong) > _PROBLEMS:
            problems.append(f"{path}: and {len(wrong) - _PROBLEMS} more problems")
    if problems:
        raise ConfigError(problems)
    return frozenset(found)


def _take(text: str, domain: str, found: set[str]) -> list[tuple[int, str]]:
    """Add the addresses of a file.

    @return: what is wrong, by number of the line.
    """
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        written = line.partition("#")[0].strip()
        if not written:
            continue
        try:
            address = split(written if "@" in written else f"{written}@{domain}")
        except ValueError as error:
            wrong.append((number, f"{error}; write one such as bob@{domain}"))
            continue
        if address.domain != domain:
            wrong.append((number, f"{address} is not in {domain}; remove it"))
        else:
            found.add(address.key)
    return wrong


def has(listed: frozenset[str], recipient: Address) -> bool:
    """Whether a recipient is on a list; C{bob+lists@} is where C{bob@} is."""
    if recipient.key in listed:
        return True
    base, plus, _ = recipient.local.partition("+")
    return bool(plus and base) and Address(base, recipient.domain).key in listed
