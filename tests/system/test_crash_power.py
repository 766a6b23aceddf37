"""The power fails (HOSTILE.md, row 52): kill -9 cannot show what is lost then, for
what a process wrote outlives it.

What the real daemon does to its disk under load is recorded once, call by call.
Then the power fails before each fsync takes effect, and each time the ledger is
opened on what may be on the disk: only what was synchronised, all that was
written, and some of it.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.system.calls import OPTIONS, Call, calls
from tests.system.daemon import Directory, wait_until
from tests.system.disk import Disk
from tests.system.diskcase import DORA, DiskCase, Trace
from tests.system.evidence import Evidence, Ledger, faults
from tests.system.load import ELSEWHERE, Load, imap
from tests.system.sink import Answer, Sink, taken
from twisted_mta.ledger import ledger

FRED = ELSEWHERE[1]

# What is synchronised.
_KINDS = ("log", "database", "content", "directory of content")
_LOG = "ledger.sqlite3-wal"
_DATABASE = "ledger.sqlite3"

# Octets of the log above which the server copies it into the ledger.
_CHECKPOINT_OCTETS = 8 << 20

# Messages of each half of the load, one before the log begins anew.
_SENT = int(os.environ.get("TWISTED_MTA_CRASH_SENT", "20"))

# Images on which the whole daemon is started.
_STARTS = int(os.environ.get("TWISTED_MTA_CRASH_STARTS", "3"))


@dataclass(frozen=True)
class Recording:
    """What a server did.

    @ivar before: the disk when it began.
    @ivar said: the line of the trace on which each of the words that clients
        note was said.
    """

    before: Disk
    calls: list[Call]
    evidence: Evidence
    said: dict[bytes, int]

    def cuts(self, wanted: Callable[[Call], bool]) -> Iterator[tuple[Disk, Call]]:
        """Let the power fail before each fsync takes effect.

        @param wanted: the calls that are made; others only seem to be.
        """
        disk = deepcopy(self.before)
        for call in disk.replay([one for one in self.calls if wanted(one)]):
            if call.name in ("fsync", "fdatasync"):
                yield disk, call

    def evidence_at(self, line: int) -> Evidence:
        """What clients had been told by then."""
        return self.evidence.when(lambda words: self.said[words] <= line)


class _Recorder(DiskCase):
    """A server that works, and is watched."""

    def more(self) -> str:
        """Mail for one domain goes to a sink at once, mail for the other is
        held."""
        self.sink = Sink(self.home.with_name("sink"))
        self.addCleanup(self.sink.kill)
        return (
            f"routes: [{{domain: {FRED.partition('@')[2]},"
            f' next_hop: "127.0.0.1:{self.sink.port}"}},'
            ' {domain: "*", hold: true}]\n'
        )

    def record(self) -> Recording:
        """Mail comes, is filed, relayed and collected; the log is copied
        into the ledger, and begins anew."""
        self.fill_log()
        path = self.home.with_name("trace")
        trace = Trace(self.server, "-o", str(path), *OPTIONS)
        # Now: what is written before it is traced must be in it. The ledger opens
        # its connection when the listeners listen already.
        disk = Disk(self.home)
        load = Load(self.server.ports)
        self.addCleanup(load.end)
        salt = self.log_salt()
        self.work(load, _SENT)
        self.restart_log(salt)
        self.work(load, _SENT)
        wait_until(self.relayed, "all is relayed", self.server)
        self.wait_collected(self.server)
        trace.stop()
        evidence = load.evidence
        self.note_relayed(evidence)
        with path.open() as file:
            made = list(calls(file))
        return Recording(disk, made, evidence, _said(evidence, made))

    def fill_log(self) -> None:
        """Write to the log, by flags of one message, until little is missing
        till it is copied."""
        with imap(self.server.ports["imap"], DORA) as client:
            client.append("Archive", None, None, b"Subject: flags\r\n\r\n")  # type: ignore[arg-type]
            client.select("Archive")
            sign = "+"
            while (self.home / _LOG).stat().st_size < _CHECKPOINT_OCTETS * 0.9:
                client.store("1", f"{sign}FLAGS", r"(\Seen)")
                sign = {"+": "-", "-": "+"}[sign]
            client.store("1", "+FLAGS", r"(\Deleted)")
            client.expunge()

    def work(self, load: Load, sent: int) -> None:
        """Let so much come."""
        load.start()
        load.up.set()
        load.wait_for("sent", sent, self.server)
        load.wait_for("filed", sent // 4, self.server)
        load.end()
        self.assertEqual(load.failures, [])

    def restart_log(self, before: bytes) -> None:
        """Write until the log is another: it begins anew when all of it is copied,
        and nobody reads it."""
        with imap(self.server.ports["imap"], DORA) as client:

            def other() -> bool:
                client.create("Flag")
                client.delete("Flag")
                return self.log_salt() != before

            wait_until(other, "the log begins anew", self.server)

    def log_salt(self) -> bytes:
        """What is another in each log."""
        with (self.home / _LOG).open("rb") as file:
            return file.read(24)[16:]

    def relayed(self) -> bool:
        """Whether nothing is left in the queue for the sink."""
        return all(one["recipient"] != FRED for one in self.queue())

    def note_relayed(self, evidence: Evidence) -> None:
        """Each message for Fred was taken by the sink, once."""
        events = self.sink.events(Answer.ACCEPT)
        tokens = Counter(event["sender"].partition("@")[0] for event in events)
        place = f"queue/{FRED}"
        expected = {
            token
            for token, promise in evidence.promises.items()
            if any(place in places for _, places in promise.steps)
        }
        self.assertEqual(tokens, Counter(dict.fromkeys(expected, 1)))
        for event in events:
            promise = evidence.promises[event["sender"].partition("@")[0]]
            promise.relayed[place] = taken(event).encode()


class _Starter(DiskCase):
    """A server that starts after a power cut."""

    def check(self, evidence: Evidence) -> None:
        """It starts, takes mail, and all is well."""
        self.evidence = evidence
        self.server = self.start()
        self.assertEqual(self.send()[0], 250)
        self.wait_collected(self.server)
        self.assert_kept()


def _said(evidence: Evidence, made: list[Call]) -> dict[bytes, int]:
    """The line on which each of the words was said: clients may have it from
    the beginning of sendto, the server has it at the end of recvfrom."""
    said = [(one.begun, one.octets) for one in made if one.name == "sendto"]
    heard = [(one.ended, one.octets) for one in made if one.name == "recvfrom"]
    lines = {}
    for promise in evidence.promises.values():
        told = [words for words, _ in (*promise.steps, *promise.found)]
        lines.update({words: _line(words, said) for words in told})
        told = list(promise.relayed.values())
        lines.update({words: _line(words, heard) for words in told})
    lines.update({uid.words: _line(uid.words, said) for uid in evidence.uids})
    return lines


def _line(words: bytes, conversation: list[tuple[int, bytes]]) -> int:
    return next(line for line, octets in conversation if words in octets)


@cache
def recording() -> Recording:
    """Of one run, for all tests."""
    recorder = _Recorder()
    recorder.setUp()
    try:
        return recorder.record()
    finally:
        recorder.doCleanups()


def _without(name: str) -> Callable[[Call], bool]:
    """All but the fsync of one kind of file."""

    def wanted(call: Call) -> bool:
        return call.name not in ("fsync", "fdatasync") or _kind(call) != name

    return wanted


def _kind(call: Call) -> str:
    """What is synchronised."""
    names = {_LOG: "log", _DATABASE: "database", "mail": "directory"}
    if call.path.parent.name == "content":
        return "directory of content"
    return names.get(call.path.name, "content")


class PowerTests(TestCase):
    """Of the disk there is what was synchronised, and perhaps more."""

    def setUp(self) -> None:
        self.recording = recording()
        directory = Directory(in_memory=True)
        self.addCleanup(directory.remove)
        self.image = directory.path / "mail"

    async def wrong(self, evidence: Evidence) -> list[str]:
        """What is wrong with the image, when it has been opened as at a start,
        and what was released is collected."""
        image = ledger.Ledger(reactor, self.image)
        try:
            await image.open()
            await image.collect()
            problems = await image.problems()
            await image.close()
            found = Ledger(self.image, evidence)
        except Exception as error:
            # What is destroyed fails anywhere.
            await image.close()
            return [f"cannot be read: {error!r}"]
        if found.released:
            problems.append(f"{found.released} released, not collected")
        return [*problems, *faults(evidence, found)]

    async def test_h52_power_cut(self) -> None:
        """Whatever comes to the disk of what was not synchronised: each message
        of which a client was told is where he was told, once; what nobody was
        told of is done or not; nothing is half there, no file is left over, no
        UID and no modseq is given again."""
        chance = random.Random(52)
        kinds: Counter[str] = Counter()
        for disk, call in self.recording.cuts(lambda call: True):
            kinds[_kind(call)] += 1
            evidence = self.recording.evidence_at(call.ended)
            for save in (
                disk.save_lost,
                disk.save_kept,
                lambda path, disk=disk: disk.save_torn(path, chance),
            ):
                save(self.image)
                self.assertEqual(await self.wrong(evidence), [], call)
        for kind in _KINDS:
            self.assertGreater(kinds[kind], 0, kind)
        # A commit is shared by few.
        self.assertGreater(kinds["log"], _SENT)

    async def test_what_is_needed(self) -> None:
        """If the system only seems to synchronise one kind of file, something is
        lost: so the test above would see it."""
        chance = random.Random(52)
        for kind in _KINDS:
            # At the end of it all; what was not lost by then never was.
            *_, (disk, call) = self.recording.cuts(_without(kind))
            evidence = self.recording.evidence_at(call.ended)
            disk.save_lost(self.image)
            self.assertNotEqual(await self.wrong(evidence), [], kind)
            disk.save_torn(self.image, chance)
            self.assertNotEqual(await self.wrong(evidence), [], kind)

    async def test_said_too_early(self) -> None:
        """If the server said it before the log is synchronised, the test above
        would see it."""
        seen = 0
        before: Disk | None = None
        for disk, call in self.recording.cuts(lambda call: True):
            if _kind(call) != "log":
                continue
            if before is not None:
                # As if what was said after the last one was said before it.
                before.save_lost(self.image)
                seen += bool(await self.wrong(self.recording.evidence_at(call.ended)))
            before = deepcopy(disk)
            if seen > 5:
                return
        self.fail("nothing was lost")

    async def test_h52_power_cut_and_start(self) -> None:
        """The daemon starts on what is on the disk, takes mail, and leaves a
        sound ledger that has all that was promised."""
        lines = [call.ended for _, call in self.recording.cuts(lambda call: True)]
        chance = random.Random(_STARTS)
        chosen = chance.sample(lines, _STARTS)
        for disk, call in self.recording.cuts(lambda call: True):
            if call.ended in chosen:
                starter = _Starter()
                starter.setUp()
                try:
                    starter.server.stop()
                    disk.save_torn(starter.home, chance)
                    starter.check(self.recording.evidence_at(call.ended))
                finally:
                    starter.doCleanups()
