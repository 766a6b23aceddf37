"""What a server promised, and what its ledger holds after all.

L{Evidence} is what clients were told, noted by them. L{Ledger} is read straight
from a server's directory, with the standard library's SQLite, and knows the
tables but none of the server's code. L{faults} compares the two; it is the judge
of the crash tests, and is itself tested with ledgers that were tampered with.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twisted_mta.mail.ids import from_text, to_text

Places = tuple[str, ...]
"""Sorted: C{alice@example.test/INBOX}, C{queue/eve@elsewhere.test}."""

# How all messages of the load begin.
_FIRST = b"From: Load <"
_TOKEN = re.compile(rb"^X-Token: (\S+)\r\n", re.M)


def inbox(address: str) -> str:
    """The place that mail for an account here goes to."""
    return f"{address}/INBOX"


Said = Callable[[bytes], bool]
"""Whether a server had said these octets, or heard them, by some time."""


@dataclass
class Promise:
    """What is known of one message.

    @ivar digest: SHA-256 of its octets.
    @ivar allowed: where it may be: one of these. More than one only if the
        server died before it said which.
    @ivar steps: the words with which the server said each time where it is,
        and where.
    @ivar found: the words with which the server gave it to who read it, and in
        which place.
    @ivar relayed: for a place in the queue: the words with which another server
        took it from there.
    """

    digest: str
    allowed: tuple[Places, ...] = ((),)
    steps: list[tuple[bytes, Places]] = field(default_factory=list)
    found: list[tuple[bytes, str]] = field(default_factory=list)
    relayed: dict[str, bytes] = field(default_factory=dict)

    def keep(self, places: Places, words: bytes) -> None:
        """The server said that it is in these places, and in no others."""
        self.allowed = (places,)
        self.steps.append((words, places))

    def find(self, words: bytes, place: str) -> None:
        """Somebody read it there."""
        self.allowed = tuple(one for one in self.allowed if place in one)
        self.found.append((words, place))

    def when(self, said: Said) -> Promise:
        """The same at an earlier time: what had been said holds, and what was
        said next may have been done."""
        count = 0
        while count < len(self.steps) and said(self.steps[count][0]):
            count += 1
        states = [(), *(places for _, places in self.steps)]
        allowed = set(states[count : count + 2])
        if count == len(self.steps):
            allowed.update(self.allowed)
        for words, place in self.found:
            if said(words):
                allowed = {one for one in allowed if place in one}
        for place, words in self.relayed.items():
            if said(words):
                allowed |= {tuple(p for p in one if p != place) for one in allowed}
        return Promise(self.digest, tuple(allowed))


@dataclass(frozen=True)
class Uid:
    """A UID that a client has seen, at the end of those seen before.

    @ivar words: with which the server said so.
    """

    place: str
    validity: int
    number: int
    token: str
    words: bytes = b""


@dataclass
class Evidence:
    """All that clients were told. They are threads."""

    promises: dict[str, Promise] = field(default_factory=dict)
    uids: list[Uid] = field(default_factory=list)
    acknowledged: Counter[str] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def offer(self, token: str, octets: bytes) -> Promise:
        """A message is about to be sent; it is nowhere yet."""
        promise = Promise(hashlib.sha256(octets).hexdigest())
        with self.changed:
            self.promises[token] = promise
        return promise

    def acknowledge(self, what: str) -> None:
        """A client was told that something is done, and has noted what."""
        with self.changed:
            self.acknowledged[what] += 1
            self.changed.notify_all()

    def see(self, uid: Uid) -> None:
        """A UID was given, or found by a client that looks for new ones."""
        with self.changed:
            self.uids.append(uid)

    def when(self, said: Said) -> Evidence:
        """What clients had been told at an earlier time."""
        return Evidence(
            {token: one.when(said) for token, one in self.promises.items()},
            [uid for uid in self.uids if said(uid.words)],
        )

    def token(self, octets: bytes) -> str:
        """Whose message this is, if it is whole, trace fields before it aside;
        else empty."""
        content = octets[max(octets.find(_FIRST), 0) :]
        found = _TOKEN.search(content)
        token = found[1].decode() if found else ""
        promise = self.promises.get(token)
        digest = hashlib.sha256(content).hexdigest()
        return token if promise is not None and promise.digest == digest else ""

    def found(self, uid: Uid) -> None:
        """A message was read in a place: it is there for good."""
        with self.changed:
            self.promises[uid.token].find(uid.words, uid.place)


class Ledger:
    """What a server's directory holds.

    @ivar places: where each token is, each place as often as it is there.
    @ivar uids: the token at a place and UID.
    @ivar counters: of each mailbox, by its place.
    @ivar broken: what cannot be read, or is not as it was sent.
    @ivar released: how much content waits for the collector.
    """

    def __init__(self, directory: Path, evidence: Evidence) -> None:
        self.places: dict[str, list[str]] = defaultdict(list)
        self.uids: dict[tuple[str, int], str] = {}
        self.counters: dict[str, Counters] = {}
        self.broken: list[str] = []
        database = sqlite3.connect(directory / "ledger.sqlite3")
        try:
            self._read(database, directory / "content", evidence)
        finally:
            database.close()

    def _read(
        self, database: sqlite3.Connection, directory: Path, evidence: Evidence
    ) -> None:
        tokens = {}
        files = set()
        for id, size, octets in database.execute(
            "SELECT id, size, octets FROM content"
        ):
            if octets is None:
                files.add(id)
                path = directory / f"{id & 255:02x}" / to_text(id)
                octets = path.read_bytes() if path.exists() else b""
            tokens[id] = evidence.token(octets)
            if size != len(octets) or not tokens[id]:
                self.broken.append(f"content {id}: not what anybody sent")
        self.counters = counters(database)
        ((self.released,),) = database.execute("SELECT COUNT(*) FROM released")
        for place, uid, content in database.execute(
            "SELECT a.address || '/' || m.name, p.uid, e.content_id FROM placement p"
            " JOIN account a ON a.id = p.account_id"
            " JOIN mailbox m ON m.account_id = p.account_id AND m.id = p.mailbox_id"
            " JOIN email e ON e.account_id = p.account_id AND e.id = p.email_id"
        ):
            token = tokens.get(content, "")
            self.uids[place, uid] = token
            self.places[token].append(place)
        for recipient, content in database.execute(
            "SELECT r.address, q.content_id FROM recipient r"
            " JOIN hop h ON h.id = r.hop_id JOIN queued q ON q.id = h.queued_id"
        ):
            self.places[tokens.get(content, "")].append(f"queue/{recipient}")
        self.broken += [
            f"{path}: no row names it"
            for path in directory.glob("??/*")
            if from_text(path.name) not in files
        ]


@dataclass(frozen=True)
class Counters:
    """What a mailbox counts.

    @ivar account_modseq: that of its account.
    @ivar modseqs: by UID; the messages that are gone included.
    """

    validity: int
    uidnext: int
    modseq: int
    account_modseq: int
    modseqs: dict[int, int]


def counters(database: sqlite3.Connection) -> dict[str, Counters]:
    """The counters of each mailbox, by its place."""
    found = {}
    mailboxes = database.execute(
        "SELECT a.address || '/' || m.name, a.id, m.id, m.uidvalidity, m.uidnext,"
        " m.modseq, a.modseq FROM mailbox m JOIN account a ON a.id = m.account_id"
    )
    for place, account, mailbox, *numbers in mailboxes.fetchall():
        modseqs = database.execute(
            "SELECT uid, modseq FROM placement WHERE account_id = ?1"
            " AND mailbox_id = ?2 UNION ALL SELECT uid, modseq FROM vanished"
            " WHERE account_id = ?1 AND mailbox_id = ?2",
            (account, mailbox),
        )
        found[place] = Counters(*numbers, dict(modseqs))
    return found


def reused(before: dict[str, Counters], after: dict[str, Counters]) -> list[str]:
    """What went back between two times, or was given a second time.

    @return: a line each.
    """
    wrong = []
    for place, old in before.items():
        new = after.get(place)
        if new is None or new.validity != old.validity:
            wrong.append(f"{place}: another mailbox now")
            continue
        for name in ("uidnext", "modseq", "account_modseq"):
            was, now = getattr(old, name), getattr(new, name)
            if now < was:
                wrong.append(f"{place}: {name} went back from {was} to {now}")
        for uid, modseq in new.modseqs.items():
            was = old.modseqs.get(uid)
            if was is None and uid < old.uidnext:
                wrong.append(f"{place}: UID {uid} was given before")
            if modseq != was and modseq <= old.account_modseq:
                wrong.append(f"{place}: modseq {modseq} was given before")
    return wrong


def faults(evidence: Evidence, ledger: Ledger) -> list[str]:
    """Each promise that was broken, and all else that must not be."""
    return [
        *ledger.broken,
        *_broken_promises(evidence, ledger),
        *_wrong_uids(evidence, ledger),
        *_wrong_counters(ledger),
    ]


def _broken_promises(evidence: Evidence, ledger: Ledger) -> Iterator[str]:
    for token, promise in evidence.promises.items():
        there = tuple(sorted(ledger.places.get(token, ())))
        if there not in promise.allowed:
            yield f"{token}: is in {there}, should be in {promise.allowed}"


def _wrong_uids(evidence: Evidence, ledger: Ledger) -> Iterator[str]:
    highest: dict[str, int] = {}
    for uid in evidence.uids:
        if uid.number <= highest.get(uid.place, 0):
            yield f"{uid}: not above {highest[uid.place]}"
        highest[uid.place] = uid.number
        box = ledger.counters.get(uid.place)
        if box is None or box.validity != uid.validity:
            yield f"{uid}: UIDVALIDITY is another now: {box}"
        elif box.uidnext <= uid.number:
            yield f"{uid}: will be given again: UIDNEXT is {box.uidnext}"
        now = ledger.uids.get((uid.place, uid.number), uid.token)
        if now != uid.token:
            yield f"{uid}: is another message now: {now}"


def _wrong_counters(ledger: Ledger) -> Iterator[str]:
    for place, box in ledger.counters.items():
        uids, modseqs = box.modseqs.keys(), box.modseqs.values()
        if max(uids, default=0) >= box.uidnext:
            yield f"{place}: UIDNEXT is {box.uidnext}, there is {max(uids)}"
        if max((box.modseq, *modseqs)) > box.account_modseq:
            yield f"{place}: its modseqs will be given again"
