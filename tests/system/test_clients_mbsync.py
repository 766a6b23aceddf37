"""mbsync against the real daemon: two ways, with everything that both sides can
do meanwhile."""

from __future__ import annotations

from pathlib import Path

from tests.system.clients import ALICE, Served, good
from tests.system.daemon import need, run

# Enough that it asks for many at once and has many under way.
MANY = 150


class Mbsync(Served):
    """mbsync, with a Maildir for each mailbox."""

    def setUp(self) -> None:
        need("mbsync")
        super().setUp()
        self.local = self.home / "Mail"
        self.local.mkdir()

    def _sync(self, listener: str = "imaps") -> None:
        tls = "IMAPS" if listener == "imaps" else "STARTTLS"
        config = self.file(
            "mbsyncrc",
            "IMAPStore remote",
            "Host localhost",
            f"Port {self.port(listener)}",
            f"User {ALICE}",
            f'Pass "{self.password(ALICE)}"',
            f"SSLType {tls}",
            f"CertificateFile {self.certificate}",
            "",
            "MaildirStore local",
            f"Path {self.local}/",
            f"Inbox {self.local}/INBOX",
            "SubFolders Verbatim",
            "",
            "Channel all",
            "Far :remote:",
            "Near :local:",
            "Patterns *",
            "Create Both",
            "Remove Both",
            "Expunge Both",
            "SyncState *",
        )
        words = ("mbsync", "--config", str(config), "--all")
        run(words, HOME=str(self.home))

    def _files(self, mailbox: str = "INBOX") -> list[Path]:
        folder = self.local / mailbox
        files = [*folder.glob("cur/*"), *folder.glob("new/*")]
        return sorted(files, key=lambda path: path.read_bytes())

    def _local_subjects(self, mailbox: str = "INBOX") -> list[str]:
        texts = [path.read_text() for path in self._files(mailbox)]
        return sorted(text.split("Subject: ")[1].split("\n")[0] for text in texts)

    def _flags(self, flags: str) -> list[bytes]:
        with self.imap() as session:
            good(session.select())
            return good(session.search(None, flags))[0].split()

    def test_down(self) -> None:
        """What is on the server comes down, unchanged, in every mailbox; over
        STARTTLS too."""
        self.deliver("one", body=".\n..\nGrüße\n")
        with self.imap() as session:
            good(session.create("Lists/MTA"))
            octets = b"Subject: kept\r\n\r\nFrom here\r\n"
            good(session.append("Lists/MTA", r"(\Seen \Flagged)", "", octets))
        self._sync("imap")
        (got,), (there,) = self._files(), self.messages()
        mine = [
            line
            for line in got.read_bytes().split(b"\n")
            if not line.startswith(b"X-TUID: ")  # its own mark
        ]
        self.assertEqual(there.replace(b"\r\n", b"\n"), b"\n".join(mine))
        (kept,) = self._files("Lists/MTA")
        self.assertTrue(kept.name.endswith(":2,FS"), kept.name)

    def test_up(self) -> None:
        """What was flagged, deleted, added and made on this side goes up."""
        for subject in ("flag", "delete", "stay"):
            self.deliver(subject)
        self._sync()
        for path in self._files():
            if "Subject: flag\n" in path.read_text():
                path.rename(self.local / "INBOX" / "cur" / f"{path.name[:-2]}2,FRS")
            elif "Subject: delete\n" in path.read_text():
                path.unlink()
        for name in ("new", "cur", "tmp"):
            (self.local / "Projects" / name).mkdir(parents=True)
        text = "Subject: {}\nFrom: alice@example.test\n\nText\n"
        (self.local / "Projects" / "new" / "1.a.b").write_text(text.format("mine"))
        (self.local / "INBOX" / "cur" / "2.a.b:2,S").write_text(text.format("added"))
        self._sync()
        self.assertEqual(["added", "flag", "stay"], sorted(self.subjects()))
        self.assertEqual(["mine"], self.subjects(mailbox="Projects"))
        self.assertEqual(1, len(self._flags("FLAGGED ANSWERED SEEN")))
        self.assertEqual(2, len(self._flags("SEEN")))

    def test_both_ways(self) -> None:
        """Both sides change between two runs, again and again, and agree."""
        self.deliver("one")
        self.deliver("two")
        self._sync()
        self.deliver("three")
        with self.imap() as session:
            good(session.select())
            good(session.store("1", "+FLAGS", r"(\Seen)"))
            good(session.store("2", "+FLAGS", r"(\Deleted)"))
            good(session.expunge())
        self._sync()
        self.assertEqual(["one", "three"], self._local_subjects())
        seen = [path.name for path in self._files() if path.name.endswith("S")]
        self.assertEqual(1, len(seen))
        for path in self._files():
            path.unlink()
        self.deliver("four")
        self._sync()
        self.assertEqual(["four"], self.subjects())
        self.assertEqual(["four"], self._local_subjects())
        before = self._files()
        self._sync()
        self.assertEqual(before, self._files())
        self.assertEqual(["four"], self.subjects())

    def test_many(self) -> None:
        """Many at once, in both directions."""
        folder = self.local / "INBOX"
        for name in ("new", "cur", "tmp"):
            (folder / name).mkdir(parents=True)
        for number in range(MANY):
            text = f"Subject: {number:04}\nFrom: a@example.test\n\n{'x' * number}\n"
            (folder / "cur" / f"{number}.a.b:2,S").write_text(text)
        self._sync()
        wanted = [f"{number:04}" for number in range(MANY)]
        self.assertEqual(wanted, sorted(self.subjects()))
        with self.imap() as session:
            good(session.select())
            good(session.store(f"1:{MANY - 1}", "+FLAGS", r"(\Answered)"))
            good(session.copy("1:*", "Archive"))
        self._sync()
        self.assertEqual(wanted, self._local_subjects("Archive"))
        answered = [path for path in self._files() if path.name.endswith(":2,RS")]
        self.assertEqual(MANY - 1, len(answered))
        for path in self._files():
            path.unlink()
        self._sync()
        self.assertEqual([], self.subjects())

    def test_removed_mailbox(self) -> None:
        """A mailbox that was removed on the server is removed here."""
        with self.imap() as session:
            good(session.create("Passing"))
        self._sync()
        self.assertTrue((self.local / "Passing" / "cur").is_dir())
        with self.imap() as session:
            good(session.delete("Passing"))
        self._sync()
        self.assertFalse((self.local / "Passing" / "cur").exists())
