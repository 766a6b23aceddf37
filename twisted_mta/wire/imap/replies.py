"""What an IMAP server says, as octets ready for the wire (RFC 3501 7, 9).

It knows neither sessions nor mailboxes. Texts for people may hold anything and
are made safe here; numbers, flags and response codes come from our own code and
are trusted. The functions that a FETCH of a large mailbox calls for every
message do nothing but join octets.

Cost: 0.4 microseconds for a FETCH line of UID, flags and size; 0.1 for flags.
"""

import re
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from twisted_mta.mail import mutf7
from twisted_mta.mail.flag import RECENT, SYSTEM
from twisted_mta.mail.uidset import render_numbers
from twisted_mta.wire.imap.model import BadCommand

CRLF = b"\r\n"
#: Invites the literal that a client waits with.
GO_AHEAD = b"+ OK\r\n"
IDLING = b"+ idling\r\n"

_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_PLAIN = re.compile(rb"[^\x00-\x1f\x7f-\xff\"\\]*")
_QUOTABLE = re.compile(rb"[^\x00-\x1f\x7f-\xff]*")
_ESCAPE = re.compile(rb"[\"\\]")
_UNSAFE = re.compile(rb"[^ -~]+")

# Numbers of a SEARCH in one piece: a millisecond.
_NUMBERS = 10_000

# A longer string is sent as a literal: clients bound their lines (RFC 2683
# 3.2.1.5 asks them to take 1000 octets, RFC 7162 4 raises it to 8192).
_QUOTED_OCTETS = 1000


# Strings.


def string(octets: bytes) -> bytes:
    """string: quoted where possible, else a literal. NUL has no spelling, so
    it becomes 0x80 as Dovecot has it (RFC 3501 9, CHAR8)."""
    if len(octets) <= _QUOTED_OCTETS:
        if _PLAIN.fullmatch(octets):
            return b'"' + octets + b'"'
        if _QUOTABLE.fullmatch(octets):
            return b'"' + _ESCAPE.sub(rb"\\\g<0>", octets) + b'"'
    if b"\0" in octets:
        octets = octets.replace(b"\0", b"\x80")
    return b"{%d}\r\n%b" % (len(octets), octets)


def astring(octets: bytes) -> bytes:
    """astring: an atom where possible."""
    if _ATOM.fullmatch(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox(name: str) -> bytes:
    """A mailbox name, encoded; always quoted, as most servers do."""
    return string(mutf7.encode(name))


def _safe(text: str) -> bytes:
    """resp-text: printable ASCII, never empty."""
    return _UNSAFE.sub(b"?", text.encode("ascii", "replace")) or b"?"


# Status responses.


def status(tag: bytes, condition: bytes, text: str, code: bytes = b"") -> bytes:
    """A line of C{tag OK [code] text}.

    @param tag: the command's, or C{b"*"}.
    @param condition: OK, NO, BAD, BYE or PREAUTH.
    @param code: without brackets, or empty.
    """
    if code:
        return b"%b %b [%b] %b\r\n" % (tag, condition, code, _safe(text))
    return b"%b %b %b\r\n" % (tag, condition, _safe(text))


def ok(tag: bytes, text: str, code: bytes = b"") -> bytes:
    """Tagged OK, or untagged with C{b"*"}."""
    return status(tag, b"OK", text, code)


def bye(text: str, code: bytes = b"") -> bytes:
    """Untagged BYE: the connection is about to close."""
    return status(b"*", b"BYE", text, code)


def refusal(event: BadCommand) -> bytes:
    """The answer to a command that the engine could not read."""
    return status(event.tag, event.status, event.text, event.code)


def challenge(octets: bytes) -> bytes:
    """A SASL challenge, C{+} and base64."""
    return b"+ " + b64encode(octets) + CRLF


# Response codes, without brackets.


def capability_code(names: Iterable[str]) -> bytes:
    """CAPABILITY, as a code or (see L{capability}) as a response."""
    return b"CAPABILITY " + " ".join(names).encode("ascii")


def permanentflags_code(flags: Iterable[str], keywords: bool) -> bytes:
    """PERMANENTFLAGS; C{keywords} adds C{\\*}: new ones may be made."""
    listed = [*flags, "\\*"] if keywords else flags
    return b"PERMANENTFLAGS " + flag_list(listed)


def appenduid_code(uidvalidity: int, uids: Sequence[int]) -> bytes:
    """APPENDUID (RFC 4315 3)."""
    return b"APPENDUID %d %b" % (uidvalidity, render_numbers(uids))


def copyuid_code(uidvalidity: int, pairs: Sequence[tuple[int, int]]) -> bytes:
    """COPYUID (RFC 4315 3).

    @param pairs: (UID here, UID there) of at least one message.
    """
    here = render_numbers(pair[0] for pair in pairs)
    there = render_numbers(pair[1] for pair in pairs)
    return b"COPYUID %d %b %b" % (uidvalidity, here, there)


# Untagged responses.


def capability(names: Iterable[str]) -> bytes:
    """CAPABILITY."""
    return b"* " + capability_code(names) + CRLF


def enabled(names: Iterable[str]) -> bytes:
    """ENABLED (RFC 5161 3.2)."""
    return b" ".join([b"* ENABLED", *(name.encode("ascii") for name in names)]) + CRLF


def exists(count: int) -> bytes:
    """EXISTS."""
    return b"* %d EXISTS\r\n" % count


def recent(count: int) -> bytes:
    """RECENT."""
    return b"* %d RECENT\r\n" % count


def expunge(number: int) -> bytes:
    """EXPUNGE of a sequence number."""
    return b"* %d EXPUNGE\r\n" % number


def flags(names: Iterable[str]) -> bytes:
    """FLAGS: what the mailbox knows."""
    return b"* FLAGS " + flag_list(names) + CRLF


def mailbox_list(
    response: bytes, attributes: Iterable[str], separator: str, name: str
) -> bytes:
    """LIST or LSUB.

    @param response: C{b"LIST"} or C{b"LSUB"}.
    @param attributes: such as C{"\\\\HasNoChildren"}, in the order sent.
    @param separator: between levels; empty: a flat name (NIL).
    """
    return b"* %b (%b) %b %b\r\n" % (
        response,
        " ".join(attributes).encode("ascii"),
        string(separator.encode("ascii")) if separator else b"NIL",
        mailbox(name),
    )


def mailbox_status(name: str, items: Mapping[str, int]) -> bytes:
    """STATUS."""
    pairs = " ".join([f"{item} {number}" for item, number in items.items()])
    return b"* STATUS %b (%b)\r\n" % (mailbox(name), pairs.encode("ascii"))


def search(numbers: Sequence[int]) -> Iterator[bytes]:
    """SEARCH; all on one line, as RFC 3501 7.2.5 has it, in pieces of a
    millisecond or two."""
    start = b"* SEARCH"
    rest = max(len(numbers) - 1, 0) // _NUMBERS * _NUMBERS
    for at in range(0, rest, _NUMBERS):
        some = numbers[at : at + _NUMBERS]
        yield start + b"".join(map(b" %d".__mod__, some))
        start = b""
    yield start + b"".join(map(b" %d".__mod__, numbers[rest:])) + CRLF


def namespace(separator: str) -> bytes:
    """NAMESPACE: one personal namespace without prefix, no others."""
    return b'* NAMESPACE (("" %b)) NIL NIL\r\n' % string(separator.encode("ascii"))


def server_id(parameters: Mapping[str, str] | None) -> bytes:
    """ID (RFC 2971)."""
    if not parameters:
        return b"* ID NIL\r\n"
    words = [string(text.encode()) for pair in parameters.items() for text in pair]
    return b"* ID (" + b" ".join(words) + b")\r\n"


# FETCH.


def fetch(number: int, items: Iterable[bytes]) -> bytes:
    """A whole FETCH response.

    @param number: the sequence number.
    @param items: label, space and value, each ready for the wire.
    """
    return b"* %d FETCH (%b)\r\n" % (number, b" ".join(items))


def fetch_start(number: int) -> bytes:
    """How a FETCH response begins whose content is streamed: items joined by
    spaces follow, then L{FETCH_END}."""
    return b"* %d FETCH (" % number


FETCH_END = b")\r\n"


def literal_start(label: bytes, octets: int) -> bytes:
    """An item's label and the head of a literal of C{octets} that follows."""
    return b"%b {%d}\r\n" % (label, octets)


def item(label: bytes, octets: bytes | None) -> bytes:
    """A content item: always a literal, as clients expect of BODY[], or NIL."""
    if octets is None:
        return label + b" NIL"
    return b"%b {%d}\r\n%b" % (label, len(octets), octets)


def uid_item(uid: int) -> bytes:
    """UID."""
    return b"UID %d" % uid


def size_item(octets: int) -> bytes:
    """RFC822.SIZE."""
    return b"RFC822.SIZE %d" % octets


_ORDER = {flag: place for place, flag in enumerate((*SYSTEM, RECENT))}


def flag_list(names: Iterable[str]) -> bytes:
    """Flags in parentheses, in the order given."""
    return b"(" + " ".join(names).encode("ascii") + b")"


def flags_item(names: frozenset[str]) -> bytes:
    """FLAGS of a message; system flags first, then keywords by name."""
    # Few combinations are in use, so they are remembered; but not what a client
    # makes up to fill our memory.
    return _few_flags(names) if len(names) <= _FEW else _flags_item(names)


_FEW = 8


def _flags_item(names: frozenset[str]) -> bytes:
    ordered = sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    return b"FLAGS " + flag_list(ordered)


_few_flags = lru_cache(maxsize=1024)(_flags_item)


def internaldate_item(received_at: float) -> bytes:
    """INTERNALDATE, always in UTC.

    @param received_at: seconds since the epoch.
    """
    day, second = divmod(int(received_at // 1), 86_400)
    return b'%b%02d:%02d:%02d +0000"' % (
        _internal_day(day),
        second // 3600,
        second // 60 % 60,
        second % 60,
    )


@lru_cache(maxsize=4096)
def _internal_day(number: int) -> bytes:
    """An INTERNALDATE up to its time of day; days since the epoch."""
    year, month, day, *_ = time.gmtime(number * 86_400)
    return b'INTERNALDATE "%02d-%b-%04d ' % (day, _MONTHS[month - 1], year)
