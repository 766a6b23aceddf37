"""The promise of the 250 (HOSTILE.md, row 52): the real daemon is killed under
load, again and again, and what it told its clients is compared with what is
there afterwards."""

import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tests.system.crashcase import CrashCase
from tests.system.daemon import Server, wait_until
from tests.system.evidence import (
    Counters,
    Evidence,
    Ledger,
    counters,
    faults,
    reused,
)
from tests.system.load import FILERS, READERS, Load, imap
from tests.system.workercase import children, wait_gone
from twisted_mta.mail.ids import to_text

# Of a server that is one process.
KILLS = int(os.environ.get("TWISTED_MTA_CRASH_KILLS", "30"))

# Of one of two workers, or their supervisor.
WORKER_KILLS = int(os.environ.get("TWISTED_MTA_CRASH_WORKER_KILLS", "20"))

Strike = Callable[[Server, Load, random.Random], Server]
"""Kills something. Returns the server that runs then."""


class KilledCase(CrashCase):
    """What is left after kill -9."""

    def run_load(self, kills: int, most: int, strike: Strike) -> Load:
        """Kill so often under load, each time after up to so many
        acknowledgements of SMTP, or less than that of IMAP; then end the load
        and the server in peace. No number is given twice meanwhile."""
        chance = random.Random(52)
        server = self.start()
        load = Load(server.ports)
        self.addCleanup(load.end)
        load.start()
        load.up.set()
        seen = self.counters()
        for _ in range(kills):
            what, up_to = chance.choice((("sent", most), ("filed", most // 4)))
            load.wait_for(what, chance.randrange(1, up_to), server)
            # Anywhere between two acknowledgements.
            time.sleep(chance.random() * 0.02)
            server = strike(server, load, chance)
            now = self.counters()
            self.assertEqual(reused(seen, now), [])
            seen = now
        load.wait_for("filed", most // 4, server)
        load.end()
        self.assertEqual(load.failures, [])
        self.wait_collected(server)
        self.assertEqual(server.stop(), -signal.SIGINT)  # as twistd ends
        return load

    def counters(self) -> dict[str, Counters]:
        """The numbers that were given so far. Read-only: the last of all who have
        the ledger open would tidy up."""
        name = f"file:{self.home}/ledger.sqlite3?mode=ro"
        with closing(sqlite3.connect(name, uri=True)) as database:
            return counters(database)

    def kill_server(self, server: Server, load: Load, chance: random.Random) -> Server:
        """Kill the whole server, now and then a second time while it starts."""
        load.up.clear()
        server.kill()
        if chance.random() < 0.2:
            # It is about 0.7 s until it listens.
            starting = self.spawn()
            time.sleep(chance.random() * 0.8)
            starting.kill()
        server = self.start()
        load.up.set()
        return server

    def check_kills(self, kills: int, strike: Strike) -> None:
        """See L{test_h52_killed_under_load}."""
        load = self.run_load(kills, 60, strike)
        evidence = load.evidence
        # There was something to lose.
        self.assertGreater(evidence.acknowledged["sent"], kills * 20)
        self.assertGreater(evidence.acknowledged["filed"], kills * 2)
        unsure = [p for p in evidence.promises.values() if len(p.allowed) > 1]
        self.assertGreater(len(unsure), kills // 2)
        server = self.start()
        read = self.read_by_imap(server.ports["imap"], evidence)
        queued = Counter((one["sender"], one["recipient"]) for one in self.queue())
        self.assertEqual(server.stop(), -signal.SIGINT)  # as twistd ends
        ledger = Ledger(self.home, evidence)
        self.assertEqual(faults(evidence, ledger), [])
        self.assertEqual(ledger.released, 0)
        self.assertEqual(read, ledger.uids)
        self.assertEqual(
            queued,
            Counter(
                (f"{token}@load.test", place.removeprefix("queue/"))
                for token, places in ledger.places.items()
                for place in places
                if place.startswith("queue/")
            ),
        )
        self.assertGreater(len(queued), kills)
        self.assert_sound()

    def kill_any(self, server: Server, load: Load, chance: random.Random) -> Server:
        """Kill one of the workers, or, one time in four, their supervisor: they
        end when they see that, or are killed too, as systemd does it."""
        wait_until(lambda: "workers serve" in server.log, "all workers serve", server)
        workers = children(server.process.pid)
        if workers and chance.random() < 0.75:
            os.kill(chance.choice(workers), signal.SIGKILL)
            return server
        load.up.clear()
        server.kill()
        if chance.random() < 0.5:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        for worker in workers:
            wait_gone(worker)
        server = self.start()
        load.up.set()
        return server

    def read_by_imap(self, port: int, evidence: Evidence) -> dict[tuple[str, int], str]:
        """The token at each mailbox and UID, of whole messages."""
        found = {}
        for address in (*READERS, *FILERS):
            with imap(port, address) as client:
                for mailbox in ("INBOX", "Archive", "Trash"):
                    client.select(mailbox, readonly=True)
                    _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
                    for item in data:
                        if isinstance(item, tuple):
                            uid = int(item[0].split()[2])
                            found[f"{address}/{mailbox}", uid] = evidence.token(item[1])
        return found


class KilledTests(KilledCase):
    """kill -9 of a server that is one process."""

    def test_h52_killed_under_load(self) -> None:
        """After 30 kills: each message that got its 250 is in the mailbox of
        each recipient, or in the queue, exactly once; one that got none is
        there once for each or not at all; each is whole. APPEND, COPY, MOVE and
        EXPUNGE are done, or not, never half. UIDs and modseqs grow, UIDs mean
        what they meant, UIDVALIDITY stays. Clients and commands read what the
        ledger holds, which is sound, without a file too many."""
        self.check_kills(KILLS, self.kill_server)

    def test_the_judge(self) -> None:
        """Whoever tampers with what was promised is found out, so that the test
        above can fail."""
        load = self.run_load(2, 100, self.kill_server)
        whole = Ledger(self.home, load.evidence)
        self.assertEqual(faults(load.evidence, whole), [])
        for tamper in _TAMPERINGS:
            copy = self.home.with_name("copy")
            shutil.copytree(self.home, copy)
            database = sqlite3.connect(copy / "ledger.sqlite3")
            tamper(database, copy / "content")
            database.commit()
            database.close()
            ledger = Ledger(copy, load.evidence)
            found = faults(load.evidence, ledger)
            found += reused(whole.counters, ledger.counters)
            self.assertNotEqual(found, [], tamper)
            shutil.rmtree(copy)


class KilledWorkersTests(KilledCase):
    """kill -9 of one of several processes."""

    workers = 2

    def test_h52_killed_workers(self) -> None:
        """The same after 20 kills of a worker of two, or of their
        supervisor."""
        self.check_kills(WORKER_KILLS, self.kill_any)


def _sql(text: str) -> Callable[[sqlite3.Connection, Path], None]:
    """One statement that changes something."""

    def tamper(database: sqlite3.Connection, content: Path) -> None:
        if not database.execute(text).rowcount:
            raise AssertionError(f"nothing to tamper with: {text}")

    return tamper


def _cut(database: sqlite3.Connection, content: Path) -> None:
    """The end of a file is lost."""
    path = next(content.glob("??/*"))
    path.write_bytes(path.read_bytes()[:-1])


def _lose(database: sqlite3.Connection, content: Path) -> None:
    """A file is lost."""
    next(content.glob("??/*")).unlink()


def _orphan(database: sqlite3.Connection, content: Path) -> None:
    """A file is left over."""
    (content / "00" / to_text(0)).touch()


_ONE = (
    "(SELECT account_id, mailbox_id, {uid}(uid) FROM placement GROUP BY 1, 2 LIMIT 1)"
)
_KEY = "(account_id, mailbox_id, uid)"
_LAST = _ONE.format(uid="MAX")

_TAMPERINGS = (
    _cut,
    _lose,
    _orphan,
    # A message is lost, there twice, in another mailbox, not whole.
    _sql(f"DELETE FROM placement WHERE {_KEY} = {_LAST}"),
    _sql(
        "INSERT INTO placement SELECT account_id, mailbox_id, uid + 1000000, email_id,"
        " modseq, flags, keywords, size, saved_at FROM placement LIMIT 1"
    ),
    _sql(
        "UPDATE placement SET uid = uid + 1000000, mailbox_id = (SELECT id FROM mailbox"
        " WHERE account_id = placement.account_id AND name = 'Junk')"
        f" WHERE {_KEY} = {_ONE.format(uid='MIN')}"
    ),
    _sql(
        "UPDATE content SET size = size - 1, octets = SUBSTR(octets, 1, size - 1)"
        " WHERE id = (SELECT MAX(id) FROM content WHERE octets IS NOT NULL)"
    ),
    # A UID means another message; UIDVALIDITY changes.
    _sql(
        "UPDATE placement SET email_id = (SELECT MAX(email_id) + MIN(email_id)"
        " FROM placement p WHERE p.mailbox_id = placement.mailbox_id)"
        " - email_id WHERE (mailbox_id, email_id) IN ("
        "SELECT mailbox_id, MAX(email_id) FROM placement GROUP BY 1"
        " UNION SELECT mailbox_id, MIN(email_id) FROM placement GROUP BY 1)"
    ),
    _sql("UPDATE mailbox SET uidvalidity = uidvalidity + 1 WHERE name = 'INBOX'"),
    # Numbers will be given again, or have been.
    _sql("UPDATE mailbox SET uidnext = uidnext - 1 WHERE name = 'INBOX'"),
    _sql("UPDATE mailbox SET modseq = modseq - 1 WHERE name = 'INBOX'"),
    _sql("UPDATE account SET modseq = modseq - 1"),
    _sql(f"UPDATE placement SET modseq = modseq - 1 WHERE {_KEY} = {_LAST}"),
    # A recipient is lost from the queue, or in it twice.
    _sql("DELETE FROM recipient WHERE hop_id = (SELECT MAX(hop_id) FROM recipient)"),
    _sql(
        "INSERT INTO recipient SELECT (SELECT MIN(h.id) FROM hop h WHERE NOT EXISTS"
        " (SELECT 1 FROM recipient o WHERE o.hop_id = h.id AND o.address = r.address)"
        "), address, '', '', '', 0, '' FROM recipient r"
        " WHERE hop_id = (SELECT MAX(hop_id) FROM recipient)"
    ),
)
