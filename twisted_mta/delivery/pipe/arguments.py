"""A program's arguments, with what is of the mail put into them.

Never a shell: what the operator wrote as one argument stays one, whatever an address
holds. It trusts no address: one that a program could take for an option is refused, as
is one with characters that no argument should have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job

# Control characters, and what cannot be encoded.
_UNSAFE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_PART = re.compile(r"\{\{|\}\}|\{([a-z_]*)\}|([{}])")


class Unfit(Exception):
    """An address of this mail cannot be given to a program.

    @ivar status: RFC 3463.
    """

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Spelling:
    """How addresses are put.

    @ivar separator: between a local part and its detail; empty: there are none.
    @ivar null_sender: what stands for the null sender.
    """

    separator: str = "+"
    null_sender: str = "MAILER-DAEMON"


_Value = Callable[[Job, Address, Spelling], str]


def _base(recipient: Address, spelling: Spelling) -> tuple[str, str]:
    if not spelling.separator:
        return recipient.local, ""
    base, _, detail = recipient.local.partition(spelling.separator)
    return (base, detail) if base else (recipient.local, "")


# Postfix, pipe(8): recipient, sender, user, domain, extension, queue_id, nexthop, size
# and client_address.
_OF_MESSAGE: Mapping[str, _Value] = {
    "sender": lambda job, _, spelling: (
        str(job.sender) if job.sender is not None else spelling.null_sender
    ),
    "id": lambda job, *_: to_text(job.envelope.id),
    "next_hop": lambda job, *_: job.next_hop,
    "size": lambda job, *_: str(job.size),
    "client": lambda job, *_: job.envelope.origin.host,
    "login": lambda job, *_: job.envelope.origin.login,
}
_OF_RECIPIENT: Mapping[str, _Value] = {
    "recipient": lambda _, recipient, __: str(recipient),
    "local": lambda _, recipient, spelling: _base(recipient, spelling)[0],
    "detail": lambda _, recipient, spelling: _base(recipient, spelling)[1],
    "domain": lambda _, recipient, __: recipient.domain,
}


class Arguments:
    """A program and its arguments, as the config has them.

    @ivar program: its path.
    @raise ValueError: what is wrong with them.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        if not argv or not argv[0].startswith("/"):
            raise ValueError("must begin with the whole path of a program")
        if "{" in argv[0]:
            raise ValueError("the program's path must not be of the mail")
        self.program = argv[0]
        self._templates = [_template(text) for text in argv[1:]]

    def put(
        self, job: Job, recipients: Sequence[Address], spelling: Spelling
    ) -> list[str]:
        """The arguments for a run. One that has something of a recipient is there once
        for each of them, as in Postfix.

        @raise Unfit: an address is not for a program.
        """
        made = [self.program]
        for template in self._templates:
            each = recipients if template.of_recipient else recipients[:1]
            made += [template.put(job, recipient, spelling) for recipient in each]
        return made


@dataclass(frozen=True, slots=True)
class _Template:
    """One argument.

    @ivar parts: text, and names of placeholders, in turn; it begins with a text.
    """

    parts: tuple[str, ...]
    of_recipient: bool

    def put(self, job: Job, recipient: Address, spelling: Spelling) -> str:
        made = self.parts[0]
        for name, text in zip(self.parts[1::2], self.parts[2::2], strict=True):
            of = _OF_RECIPIENT if name in _OF_RECIPIENT else _OF_MESSAGE
            value = of[name](job, recipient, spelling)
            status = "5.1.3" if of is _OF_RECIPIENT else "5.1.7"
            if _UNSAFE.search(value):
                raise Unfit(status, "An address has characters that no program gets")
            if not made and value.startswith("-"):
                raise Unfit(status, "An address begins with '-', as options do")
            made += value + text
        return made


def _template(text: str) -> _Template:
    """@raise ValueError: it is none."""
    parts = [""]
    at = 0
    for match in _PART.finditer(text):
        parts[-1] += text[at : match.start()]
        at = match.end()
        if match[2]:
            raise ValueError(f"a lone '{match[2]}' in '{text}'; write it twice")
        if match[1] is None:
            parts[-1] += match[0][0]
            continue
        if match[1] not in _OF_MESSAGE and match[1] not in _OF_RECIPIENT:
            known = ", ".join((*_OF_RECIPIENT, *_OF_MESSAGE))
            raise ValueError(f"nothing is called {match[0]}; known are {known}")
        parts += [match[1], ""]
    parts[-1] += text[at:]
    if "\0" in text:
        raise ValueError("an argument holds a zero octet")
    return _Template(tuple(parts), any(one in _OF_RECIPIENT for one in parts[1::2]))


def fit(address: Address | None) -> bool:
    """Whether an address can stand in a line of its own."""
    return address is None or not _UNSAFE.search(str(address))
