"""Reports of how TLS went (RFC 8460), as values and octets.

A domain that wants them says so in the DNS, and to whom. This module reads that, and
writes the report and the mail that carries it. It knows no counting and no sending, and
trusts no record: it yields a bounded number of addresses of two kinds.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy as rendering
from email.message import EmailMessage
from email.utils import format_datetime
from enum import Enum
from typing import Any
from urllib.parse import unquote, urlsplit

DAY_S = 86400

# Addresses of one domain that get its report; mox sends to all, who has more than this
# has others in mind.
_MOST_ADDRESSES = 5
_LONGEST_ADDRESS = 1000

# Failures that a report lists, those that happened most; their sum is told of all.
_MOST_FAILURES = 1000

# Policies that it lists, those of most sessions. A domain has one, or one for each of
# its hosts; the DNS of strangers may give others each time.
_MOST_POLICIES = 100

# Characters of a policy's strings that are kept, and of its hosts: each count of
# sessions has them. Four digests of keys take 280; a certificate, which may stand there
# whole, thousands.
_POLICY_MOST = 2000

# Dot-atoms of ASCII (RFC 5322 3.2.3): who wants reports elsewhere has an alias.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}"
_LABEL = r"[A-Za-z0-9-]{1,63}"
_MAILBOX = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


class Kind(Enum):
    """What sort of policy a session was held to (RFC 8460 4.4)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a session was held to.

    @ivar domain: whose policy it is: for TLSA the host's, else the recipient's.
    @ivar strings: what the policy says, for who has to find the mistake in it.
    @ivar hosts: for STS: the patterns of hosts.
    """

    kind: Kind
    domain: str
    strings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def bounded(self) -> Policy:
        """The same, as far as it is told."""
        strings, hosts = _begin(self.strings), _begin(self.hosts)
        return Policy(self.kind, self.domain, strings, hosts)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a session.

    @ivar result: RFC 8460 4.3.
    @ivar ours: our address, empty if there was no connection.
    @ivar host: the mail exchanger's name.
    @ivar theirs: its address.
    @ivar reason: more of it.
    """

    result: str
    ours: str = ""
    host: str = ""
    theirs: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """So many sessions went so.

    @ivar failure: C{None}: well.
    """

    policy: Policy
    failure: Failure | None
    sessions: int


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who reports.

    @ivar organization: its name.
    @ivar sender: the mail address that reports come from.
    @ivar contact: whom to ask about them.
    @ivar hostname: the server's name.
    """

    organization: str
    sender: str
    contact: str
    hostname: str


def _begin(strings: Sequence[str]) -> tuple[str, ...]:
    """The first of some strings; the last of them may be cut short."""
    kept: list[str] = []
    left = _POLICY_MOST
    for one in strings:
        kept.append(one if len(one) <= left else one[:left] + "...")
        left -= len(one)
        if left <= 0:
            break
    return tuple(kept)


# --- who wants it -----------------------------------------------------------


def recipients(texts: Iterable[bytes]) -> Sequence[str]:
    """The C{mailto:} and C{https:} addresses that a domain's reports go to (RFC 8460
    3), from the TXT records of C{_smtp._tls.DOMAIN}; none if there is not one such
    record, or it cannot be understood."""
    records = [text for text in texts if _version(text)]
    if len(records) != 1:
        return ()
    found: dict[str, None] = {}
    for field in records[0].decode("ascii", "replace").split(";")[1:]:
        name, _, value = field.partition("=")
        if name.strip() == "rua":
            for one in value.split(","):
                address = one.strip()
                if len(address) <= _LONGEST_ADDRESS and _possible(address):
                    found[address] = None
    return tuple(found)[:_MOST_ADDRESSES]


def _version(text: bytes) -> bool:
    return text.partition(b";")[0].strip() == b"v=TLSRPTv1"


def _possible(address: str) -> bool:
    plain = address.isascii() and address.isprintable() and " " not in address
    if address.lower().startswith("mailto:"):
        return plain and bool(_MAILBOX.fullmatch(mailbox(address)))
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    named = bool(parts.hostname) and parts.username is None
    return plain and named and parts.scheme == "https" and port in (None, 443)


def mailbox(address: str) -> str:
    """The mail address of a C{mailto:} (RFC 6068)."""
    return unquote(address[len("mailto:") :].partition("?")[0])


# --- the report -------------------------------------------------------------


def report_id(day: int, domain: str, hostname: str) -> str:
    """The id of a report; the same however often it is made."""
    return f"{_date(day)}-{domain}@{hostname}"


def compose(day: int, domain: str, counts: Sequence[Count], by: Submitter) -> bytes:
    """A report (RFC 8460 4.4), compressed.

    @param day: days since the epoch, UTC.
    @param domain: for whom.
    """
    policies: dict[Policy, list[Count]] = {}
    for count in counts:
        policies.setdefault(count.policy, []).append(count)
    held = sorted(policies.items(), key=lambda one: -_sessions(one[1]))
    report = {
        "organization-name": by.organization,
        "date-range": {
            "start-datetime": f"{_date(day)}T00:00:00Z",
            "end-datetime": f"{_date(day)}T23:59:59Z",
        },
        "contact-info": by.contact,
        "report-id": report_id(day, domain, by.hostname),
        "policies": [_told(policy, those) for policy, those in held[:_MOST_POLICIES]],
    }
    octets = json.dumps(report, indent=1).encode()
    return gzip.compress(octets, mtime=0)


def _sessions(counts: Iterable[Count]) -> int:
    return sum(one.sessions for one in counts)


def _told(policy: Policy, counts: Sequence[Count]) -> dict[str, Any]:
    failed = [one for one in counts if one.failure is not None]
    failed.sort(key=lambda one: -one.sessions)
    about: dict[str, Any] = {"policy-type": policy.kind.value}
    if policy.strings:
        about["policy-string"] = list(policy.strings)
    about["policy-domain"] = policy.domain
    if policy.hosts:
        about["mx-host"] = list(policy.hosts)
    every, bad = _sessions(counts), _sessions(failed)
    told: dict[str, Any] = {
        "policy": about,
        "summary": {
            "total-successful-session-count": every - bad,
            "total-failure-session-count": bad,
        },
    }
    details = [dict(_detail(one)) for one in failed[:_MOST_FAILURES]]
    return {**told, "failure-details": details} if details else told


def _detail(count: Count) -> Iterator[tuple[str, Any]]:
    failure = count.failure
    assert failure is not None
    yield "result-type", failure.result
    fields = {
        "sending-mta-ip": failure.ours,
        "receiving-mx-hostname": failure.host,
        "receiving-ip": failure.theirs,
        "failure-reason-code": failure.reason,
    }
    yield from ((name, value) for name, value in fields.items() if value)
    yield "failed-session-count", count.sessions


def letter(
    day: int, domain: str, report: bytes, to: str, by: Submitter, now: float
) -> bytes:
    """The mail that carries a report (RFC 8460 5.3). It goes whatever TLS there is:
    what is wrong with that is what it tells."""
    id = report_id(day, domain, by.hostname)
    message = EmailMessage(rendering.SMTP)
    message["From"] = by.sender
    message["To"] = to
    message["Subject"] = (
        f"Report Domain: {domain} Submitter: {by.hostname} Report-ID: <{id}>"
    )
    message["Date"] = format_datetime(datetime.fromtimestamp(int(now), UTC))
    message["Message-ID"] = f"<{id}>"
    message["Auto-Submitted"] = "auto-generated"
    message["TLS-Report-Domain"] = domain
    message["TLS-Report-Submitter"] = by.hostname
    message["TLS-Required"] = "No"
    message.set_content(
        f"This is a report of how TLS went between {by.hostname} and the mail servers\n"
        f"of {domain} on {_date(day)} (RFC 8460). Questions: {by.contact}\n"
    )
    begin = day * DAY_S
    message.add_attachment(
        report,
        maintype="application",
        subtype="tlsrpt+gzip",
        filename=f"{by.hostname}!{domain}!{begin}!{begin + DAY_S - 1}.json.gz",
    )
    message.set_type("multipart/report")
    message.set_param("report-type", "tlsrpt")
    return message.as_bytes()


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")


# --- counts as rows ---------------------------------------------------------


def write_policy(policy: Policy) -> str:
    """A policy as text, the same for the same."""
    fields = [policy.kind.value, policy.domain, policy.strings, policy.hosts]
    return json.dumps(fields, separators=(",", ":"))


def read_policy(text: str) -> Policy:
    """What L{write_policy} wrote."""
    kind, domain, strings, hosts = json.loads(text)
    return Policy(Kind(kind), domain, tuple(strings), tuple(hosts))


def write_failure(failure: Failure | None) -> str:
    """A failure as text; empty for none."""
    if failure is None:
        return ""
    fields = [getattr(failure, name) for name in Failure.__slots__]
    return json.dumps(fields, separators=(",", ":"))


def read_failure(text: str) -> Failure | None:
    """What L{write_failure} wrote."""
    return Failure(*json.loads(text)) if text else None
