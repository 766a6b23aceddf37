"""What an operator relies on: a disk that fills up, a look at the mail while it
flows, a backup and its restoration. With the real server and its commands."""

from __future__ import annotations

import imaplib
import json
import os
import shutil
import signal
import smtplib
import subprocess
import unittest
from pathlib import Path

from tests.system.crashcase import CrashCase
from tests.system.daemon import (
    Daemon,
    Directory,
    free_port_base,
    mta,
    run,
    wait_until,
)
from tests.system.evidence import Ledger, faults
from tests.system.load import READERS, Load, imap, smtp
from tests.system.sink import Answer, Sink

ALICE = READERS[0]
SENDER = "load@load.test"
MB = 1 << 20

# Of the disk, and of what new mail leaves free of it.
DISK = 96 * MB
RESERVE = 32 * MB


class SmallDiskCase(CrashCase):
    """The server's directory has a small disk of its own."""

    def setUp(self) -> None:
        super().setUp()
        _mount(self.home)
        self.addCleanup(subprocess.run, ["umount", str(self.home)], check=True)
        self.config.write_text(
            self.config.read_text() + f"storage: {{reserve: {RESERVE // MB}M}}\n"
        )
        self.filler = self.home / "filler"
        self.server = self.start()

    def leave(self, octets: int) -> None:
        """Fill the disk with something else, so that so much is left."""
        found = os.statvfs(self.home)
        there = self.filler.stat().st_size if self.filler.exists() else 0
        there += found.f_bavail * found.f_frsize - octets
        with self.filler.open("ab") as file:
            os.truncate(file.fileno(), min(there, self.filler.stat().st_size))
            os.posix_fallocate(file.fileno(), 0, there)

    def mail(self, parameters: str = "") -> str:
        """What MAIL is answered, as code and status."""
        with smtp(self.server.ports["smtp"]) as client:
            code, text = client.docmd(f"MAIL FROM:<{SENDER}> {parameters}".strip())
            return f"{code} {text.decode().split()[0]}"

    def send(self, octets: bytes) -> str:
        """What a message to Alice is answered."""
        with smtp(self.server.ports["smtp"]) as client:
            client.docmd(f"MAIL FROM:<{SENDER}>")  # its size is not announced
            client.docmd(f"RCPT TO:<{ALICE}>")
            code, text = client.data(octets)
            return f"{code} {text.decode().split()[0]}"

    def files(self) -> list[Path]:
        """Of large content."""
        return [one for one in (self.home / "content").glob("*/*") if one.is_file()]


class NearlyFullTests(SmallDiskCase):
    """New mail is refused early, and nothing else is."""

    def test_h52_nearly_full(self) -> None:
        """Below the reserve SMTP answers 452 4.3.1 and APPEND is NO; mail can be
        read, flagged, copied, moved and deleted, and operators' commands work.
        Once there is room mail is taken again. The log says each change once."""
        for number in range(4):
            self.assertEqual(self.send(_message(number, 1_000)), "250 2.0.0")
        self.assertEqual(self.send(_message(4, 200_000)), "250 2.0.0")
        self.assertEqual(self.mail(f"SIZE={40 * MB}"), "250 2.1.0")
        self.leave(RESERVE + 20 * MB)
        # A size that would not fit is refused before others are.
        wait_until(lambda: self.mail(f"SIZE={40 * MB}") == "452 4.3.1", "it sees that")
        self.assertEqual(self.mail(), "250 2.1.0")
        self.leave(RESERVE - 8 * MB)
        wait_until(lambda: self.mail() == "452 4.3.1", "it sees that, too")
        with imap(self.server.ports["imap"], ALICE) as client:
            self.read_and_delete(client)
        listed = run(mta("account", "list", "--config", str(self.config))).stdout
        self.assertIn(ALICE, listed)
        self.filler.unlink()
        wait_until(lambda: self.mail() == "250 2.1.0", "there is room again")
        self.assertEqual(self.send(_message(5, 200_000)), "250 2.0.0")
        with imap(self.server.ports["imap"], ALICE) as client:
            _, (count,) = client.select("INBOX")
            self.assertEqual(count, b"3")
            self.assertEqual(client.append("INBOX", "", "", b"Subject: x")[0], "OK")
        self.assertEqual(self.server.log.count("new mail is refused"), 1)
        self.assertEqual(self.server.log.count("new mail is taken"), 1)
        self.server.stop()
        self.assert_sound()

    def read_and_delete(self, client: imaplib.IMAP4) -> None:
        """Everything that is done with mail that is there."""
        client.select("INBOX")
        self.assertIn(b"number 2", client.fetch("3", "(BODY[])")[1][0][1])  # type: ignore[index,operator]
        self.assertEqual(len(client.fetch("5", "(BODY[])")[1][0][1]) > 200_000, True)  # type: ignore[index,arg-type]
        said, (text, *_) = client.append("INBOX", "", "", b"Subject: x\r\n\r\n")
        self.assertEqual((said, text[:13]), ("NO", b"[UNAVAILABLE]"))
        for change in (
            lambda: client.store("1", "+FLAGS", r"(\Flagged)"),
            lambda: client.copy("1", "Archive"),
            lambda: client.uid("MOVE", "2", "Archive"),
            lambda: client.create("Made"),
            lambda: client.store("1:2", "+FLAGS", r"(\Deleted)"),
            client.expunge,
        ):
            said, data = change()
            self.assertEqual(said, "OK", data)
        self.assertEqual(client.select("INBOX")[1], [b"2"])

    def test_h52_what_is_under_way(self) -> None:
        """A message whose size was not said and which does not fit stops within
        the reserve, is refused, and leaves nothing; one that fits is stored, also
        when the disk filled up after it began."""
        self.leave(RESERVE + 2 * MB)
        self.assertEqual(self.send(_message(0, 30 * MB)), "452 4.3.1")
        self.assertEqual(self.files(), [])
        wait_until(lambda: self.mail() == "250 2.1.0", "there is room for others")
        with smtp(self.server.ports["smtp"]) as client:
            client.docmd(f"MAIL FROM:<{SENDER}>")
            client.docmd(f"RCPT TO:<{ALICE}>")
            client.docmd("DATA")
            self.leave(RESERVE - 4 * MB)
            wait_until(lambda: self.mail() == "452 4.3.1", "it is short")
            client.send(_message(1, 2 * MB) + b".\r\n")
            self.assertEqual(client.getreply()[0], 250)
        self.assertEqual(len(self.files()), 1)


def _message(number: int, size: int) -> bytes:
    """A message of at least this size."""
    line = f"number {number}".ljust(70).encode() + b"\r\n"
    return b"Subject: test\r\n\r\n" + line * (size // len(line) + 1)


def _mount(directory: Path) -> None:
    """Put what is in a directory on a small disk; skip where that is forbidden."""
    held = directory.with_name("held")
    directory.rename(held)
    directory.mkdir(mode=0o700)
    done = subprocess.run(
        [
            *("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700"),
            *("twisted-mta-test", str(directory)),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = f"cannot mount a tmpfs here: {done.stderr.strip()}"
        if os.environ.get("CI") == "true":
            raise AssertionError(why)
        raise unittest.SkipTest(why)
    shutil.copytree(held, directory, dirs_exist_ok=True)


class FlowTests(CrashCase):
    """While mail flows as it does in the crash tests."""

    def test_check_and_backup(self) -> None:
        """A look through the ledger finds nothing; backups are sound, and hold all
        that was acknowledged before they began. Nobody is kept from working, and
        no promise is broken."""
        server = self.start()
        load = Load(server.ports)
        self.addCleanup(load.end)
        load.start()
        load.up.set()
        evidence = load.evidence
        backups = []
        for number in range(2):
            load.wait_for("sent", 40, server)
            self.assertEqual(self.check(self.config), (0, "No problems.\n"))
            load.wait_for("filed", 10, server)
            before = evidence.acknowledged["sent"]
            backups.append((self.home.with_name(f"backup{number}"), before))
            verify = ("--verify",) if number else ()
            words = ("backup", *verify, str(backups[-1][0]))
            said = run(mta(*words, "--config", str(self.config))).stdout
            self.assertRegex(said, r"of rows, \d+ large messages linked, 0 copied\.\n$")
        load.wait_for("sent", 40, server)
        load.end()
        self.assertEqual(load.failures, [])
        self.assertEqual(server.stop(), -signal.SIGINT)
        self.assertEqual(faults(evidence, Ledger(self.home, evidence)), [])
        for directory, before in backups:
            self.assertEqual(self.check(None, directory), (0, "No problems.\n"))
            found = Ledger(directory, evidence)
            self.assertEqual(found.broken, [])
            senders = [token for token in found.places if not token.startswith("filed")]
            self.assertGreaterEqual(len(senders), before)

    def check(
        self, config: Path | None, directory: Path | None = None
    ) -> tuple[int, str]:
        """Status and words of C{check --data}."""
        which = ("--config", str(config)) if config else ("--directory", str(directory))
        done = run(mta("check", "--data", *which), check=False)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout


class RestoreTests(unittest.TestCase):
    """A disaster, and what the documentation says to do about it."""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.path = directory.path
        self.base = free_port_base()
        self.sink = Sink(self.path / "sink", Answer.LATER)
        self.addCleanup(self.sink.kill)

    def start(self) -> Daemon:
        relay = f"127.0.0.1:{self.sink.port}"
        daemon = Daemon(self.path / "mail", "--relay", relay, base=self.base)
        self.addCleanup(daemon.kill)
        return daemon

    def send(self, daemon: Daemon, recipient: str, number: int) -> None:
        with smtplib.SMTP("127.0.0.1", daemon.ports["submission"]) as client:
            client.starttls()
            client.login("alice@example.test", daemon.passwords["alice@example.test"])
            text = b"From: alice@example.test\r\n" + _message(number, number * 50_000)
            client.sendmail("alice@example.test", recipient, text)

    def inbox(self, daemon: Daemon) -> tuple[int, dict[int, bytes]]:
        """Bob's UIDVALIDITY, and his messages by UID."""
        with imaplib.IMAP4("127.0.0.1", daemon.ports["imap"]) as client:
            client.starttls()
            client.login("bob@example.test", daemon.passwords["bob@example.test"])
            client.select("INBOX", readonly=True)
            _, (validity,) = client.response("UIDVALIDITY")
            _, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
            found = {
                int(one[0].split()[2]): one[1] for one in data if isinstance(one, tuple)
            }
            return int(validity or 0), found

    def test_disaster(self) -> None:
        """All mail that was there at the backup is there again, exactly; a client
        that knows UIDs of later mail takes no other message for it; what waited in
        the queue then is sent on."""
        daemon = self.start()
        for number in (0, 1, 2):
            self.send(daemon, "bob@example.test", number)
        self.send(daemon, "eve@elsewhere.test", 2)
        self.sink.wait(Answer.LATER)
        backup = self.path / "backup"
        daemon.command("backup", "--verify", str(backup))
        validity, before = self.inbox(daemon)
        self.send(daemon, "bob@example.test", 3)
        _, later = self.inbox(daemon)
        daemon.kill()
        shutil.rmtree(daemon.directory)  # the disaster
        shutil.copytree(backup, daemon.directory)
        words = mta("check", "--data", "--directory", str(daemon.directory))
        self.assertEqual(run(words).stdout, "No problems.\n")
        passwords = daemon.passwords
        daemon = self.start()
        daemon.passwords.update(passwords)
        renewed, after = self.inbox(daemon)
        self.assertEqual(after, before)
        self.assertGreater(renewed, validity)
        self.send(daemon, "bob@example.test", 4)
        _, again = self.inbox(daemon)
        self.assertEqual(again.keys(), later.keys())  # the same UIDs: see above
        self.assertNotEqual(again[max(again)], later[max(later)])
        self.sink.answer(Answer.ACCEPT)
        daemon.command("queue", "flush")
        (sent,) = self.sink.wait(Answer.ACCEPT)
        self.assertEqual(sent["recipients"], ["eve@elsewhere.test"])
        wait_until(
            lambda: json.loads(daemon.command("queue", "list", "--json")) == [],
            "the queue is empty",
            daemon,
        )
        daemon.stop()
        self.assertEqual(run(words).stdout, "No problems.\n")
