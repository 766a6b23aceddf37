"""Python's smtplib, imaplib and poplib against the real daemon."""

from __future__ import annotations

import base64
import imaplib
import poplib
import smtplib
import time
from email import message_from_string

from tests.system.clients import (
    ALICE,
    BOB,
    HOST,
    STRANGER,
    Served,
    good,
    message,
)
from tests.system.daemon import PATIENCE_S


def octets(session: imaplib.IMAP4, section: str) -> bytes:
    """A section of the first message."""
    _, parts = session.fetch("1", f"(BODY{section})")
    (part,) = [one[1] for one in parts if isinstance(one, tuple)]
    return part


class SmtpLibrary(Served):
    """smtplib."""

    def _plain(self, listener: str) -> smtplib.SMTP:
        session = smtplib.SMTP(HOST, self.port(listener), timeout=PATIENCE_S)
        self.addCleanup(session.close)
        session.ehlo("client.example")
        return session

    def test_submission_by_starttls(self) -> None:
        """After STARTTLS and a login, a message reaches another account; what
        it lacked was added, and the trace says how it came."""
        session = self._plain("submission")
        self.assertTrue(session.has_extn("starttls"))
        self.assertFalse(session.has_extn("auth"))
        session.starttls(context=self.trust())
        session.ehlo("client.example")
        self.assertFalse(session.has_extn("starttls"))
        session.login(ALICE, self.password(ALICE))
        session.send_message(message(ALICE, [BOB], "by starttls"))
        session.quit()
        mail = message_from_string(self.only(BOB))
        self.assertEqual("by starttls", mail["Subject"])
        self.assertEqual(f"<{ALICE}>", mail["Return-Path"])
        self.assertIn("with ESMTPSA (TLSv1.3", mail["Received"])
        self.assertIn(f"for <{BOB}>", mail["Received"])
        self.assertTrue(mail["Date"] and mail["Message-ID"])

    def test_submission_by_tls(self) -> None:
        """The same over implicit TLS, to several accounts at once."""
        with self.submission() as session:
            refused = session.send_message(message(ALICE, [ALICE, BOB], "by tls"))
        self.assertEqual({}, refused)
        self.assertEqual(["by tls"], self.subjects(ALICE))
        self.assertEqual(["by tls"], self.subjects(BOB))

    def test_no_login_without_tls(self) -> None:
        """A password that comes in the clear is refused unread."""
        session = self._plain("submission")
        token = base64.b64encode(f"\0{ALICE}\0{self.password(ALICE)}".encode())
        code, _ = session.docmd("AUTH PLAIN", token.decode())
        self.assertEqual(538, code)
        code, _ = session.mail(ALICE)
        self.assertEqual(530, code)

    def test_wrong_password(self) -> None:
        """A wrong password is refused, and the right one is good afterwards."""
        session = smtplib.SMTP_SSL(
            self.other_host(),
            self.port("submissions"),
            timeout=PATIENCE_S,
            context=self.trust(),
        )
        self.addCleanup(session.close)
        session.ehlo()
        session.user, session.password = ALICE, "wrong"
        with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
            session.auth("PLAIN", session.auth_plain)
        self.assertEqual(535, caught.exception.smtp_code)
        with self.submission() as other:
            self.assertEqual(250, other.noop()[0])

    def test_sender_of_another(self) -> None:
        """Nobody sends as somebody else, neither in the envelope nor in From."""
        with self.submission(ALICE) as session:
            with self.assertRaises(smtplib.SMTPSenderRefused) as caught:
                session.sendmail(BOB, [ALICE], b"Subject: forged\r\n\r\n.\r\n")
            self.assertEqual(553, caught.exception.smtp_code)
            with self.assertRaises(smtplib.SMTPDataError):
                session.sendmail(
                    ALICE, [ALICE], f"From: {BOB}\r\nSubject: forged\r\n\r\n.\r\n"
                )
        self.assertEqual([], self.subjects(ALICE))

    def test_mx(self) -> None:
        """Another server brings mail for our accounts without a login."""
        self.deliver("from elsewhere", ALICE, BOB)
        for address in (ALICE, BOB):
            self.assertEqual(["from elsewhere"], self.subjects(address))
        self.assertIn(f"Return-Path: <{STRANGER}>", self.only(BOB))
        self.assertNotIn("for <", self.only(BOB))

    def test_mx_by_starttls(self) -> None:
        """The same after STARTTLS, which offers no login here."""
        session = self._plain("smtp")
        session.starttls(context=self.trust())
        session.ehlo("client.example")
        self.assertFalse(session.has_extn("auth"))
        session.sendmail(STRANGER, [BOB], b"Subject: secret\r\n\r\n.\r\n")
        self.assertIn("with ESMTPS (TLSv1.3", self.only(BOB))

    def test_refused_recipients(self) -> None:
        """Who does not exist, and who is elsewhere, is refused at RCPT; the
        others get the message."""
        nobody = "nobody@example.test"
        session = self._plain("smtp")
        mail = message(STRANGER, [BOB], "for one")
        refused = session.send_message(mail, to_addrs=[nobody, BOB, STRANGER])
        self.assertEqual({nobody, STRANGER}, set(refused))
        self.assertEqual(550, refused[nobody][0])
        self.assertIn(b"5.1.1", refused[nobody][1])
        self.assertIn(b"5.7.1", refused[STRANGER][1])
        self.assertEqual(["for one"], self.subjects(BOB))

    def test_octets_arrive_unchanged(self) -> None:
        """Dots at line starts, long lines and octets above 127 stay what they
        were, behind the trace."""
        body = b".\r\n..\r\n.x\r\n" + b"y" * 900 + b"\r\n\xc3\xa4 \xff\r\n\r\n"
        sent = b"Subject: odd\r\n\r\n" + body
        session = self._plain("smtp")
        session.sendmail(STRANGER, [BOB], sent, mail_options=["BODY=8BITMIME"])
        (got,) = self.messages(BOB)
        self.assertTrue(got.endswith(sent), got)

    def test_internationalised(self) -> None:
        """SMTPUTF8: a sender and a header in UTF-8."""
        session = self._plain("smtp")
        mail = message("jürgen@elsewhere.test", [BOB], "Grüße")
        session.send_message(mail)
        self.assertIn("with UTF8SMTP", self.only(BOB))
        self.assertIn("\nSubject: Grüße\n", self.only(BOB))


class ImapLibrary(Served):
    """imaplib."""

    def test_starttls(self) -> None:
        """LOGIN waits for TLS; after STARTTLS it is good, and so is what it
        shows."""
        self.deliver("one")
        with imaplib.IMAP4(HOST, self.port("imap"), timeout=PATIENCE_S) as session:
            self.assertIn("LOGINDISABLED", session.capabilities)
            with self.assertRaises(imaplib.IMAP4.error):
                session.login(ALICE, self.password(ALICE))
            good(session.starttls(self.trust()))
            self.assertNotIn("LOGINDISABLED", session.capabilities)
            self.assertNotIn("STARTTLS", session.capabilities)
            good(session.login(ALICE, self.password(ALICE)))
            self.assertEqual([b"1"], good(session.select()))

    def test_authenticate(self) -> None:
        """AUTHENTICATE PLAIN over implicit TLS."""
        with imaplib.IMAP4_SSL(
            HOST, self.port("imaps"), ssl_context=self.trust(), timeout=PATIENCE_S
        ) as session:
            response = f"\0{BOB}\0{self.password(BOB)}".encode()
            good(session.authenticate("PLAIN", lambda challenge: response))
            self.assertEqual([b"0"], good(session.select()))

    def test_wrong_password(self) -> None:
        """A wrong password is refused."""
        with imaplib.IMAP4_SSL(
            self.other_host(),
            self.port("imaps"),
            ssl_context=self.trust(),
            timeout=PATIENCE_S,
        ) as session:
            with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
                session.login(ALICE, "wrong")
            self.assertEqual("NONAUTH", session.state)

    def test_flags(self) -> None:
        """Flags and keywords are set, removed and seen by another session; a
        look leaves a message unseen, a reading does not."""
        self.deliver("flagged")
        with self.imap() as session, self.imap() as other:
            good(session.select())
            good(session.fetch("1", "(BODY.PEEK[])"))
            self.assertEqual([b""], good(session.search(None, "SEEN")))
            good(session.fetch("1", "(RFC822)"))
            self.assertEqual([b"1"], good(session.search(None, "SEEN")))
            good(session.store("1", "+FLAGS", r"(\Flagged $Important)"))
            good(session.store("1", "-FLAGS", r"(\Seen)"))
            good(other.select())
            (line,) = good(other.fetch("1", "(FLAGS)"))
            flags = set(imaplib.ParseFlags(line)) - {b"\\Recent"}
            self.assertEqual({b"\\Flagged", b"$Important"}, flags)

    def test_folders(self) -> None:
        """Folders are made, listed, subscribed, renamed with those below, and
        deleted."""
        with self.imap() as session:
            for name in ("Projects", "Projects/MTA", "B&APw-cher"):
                good(session.create(name))
            good(session.subscribe("Projects/MTA"))
            good(session.rename("Projects", "Done"))
            names = b"\n".join(good(session.list()))
            for made in (b"Done", b"Done/MTA", b"B&APw-cher", b"INBOX"):
                self.assertIn(made, names)
            self.assertNotIn(b"Projects", names)
            self.assertIn(b"HasChildren", b"".join(good(session.list('""', "Done"))))
            good(session.delete("Done/MTA"))
            status, _ = session.select("Done/MTA")
            self.assertEqual("NO", status)
            status, why = session.create("inbox")
            self.assertEqual("NO", status, why)

    def test_special_folders(self) -> None:
        """An account has the folders that clients look for, marked as such."""
        with self.imap() as session:
            lines = b"\n".join(good(session.list()))
        for use in (b"\\Sent", b"\\Drafts", b"\\Trash", b"\\Junk"):
            self.assertIn(use, lines)

    def test_copy_move_expunge(self) -> None:
        """COPY leaves the original, MOVE does not, and EXPUNGE removes only
        what is marked. The answers name the UIDs."""
        for subject in ("first", "second", "third"):
            self.deliver(subject)
        with self.imap() as session:
            good(session.select())
            good(session.create("Kept"))
            good(session.copy("1", "Kept"))
            self.assertRegex(str(session.response("COPYUID")[1]), r"\d+ \d+ \d+")
            good(session._simple_command("MOVE", "2", "Kept"))
            good(session.store("1", "+FLAGS", r"(\Deleted)"))
            good(session.expunge())
            good(session.uid("STORE", "1:*", "+FLAGS", r"(\Seen)"))
        self.assertEqual(["third"], self.subjects())
        self.assertEqual(["first", "second"], self.subjects(mailbox="Kept"))

    def test_append_and_search(self) -> None:
        """APPEND keeps octets, flags and date; SEARCH finds by all of them."""
        octets = b"Subject: kept\r\nFrom: carol@example.org\r\n\r\nneedle \xc3\xa4\r\n"
        date = '"01-Feb-2020 10:00:00 +0100"'
        with self.imap() as session:
            good(session.append("Archive", r"(\Seen $Done)", date, octets))
            self.assertRegex(str(session.response("APPENDUID")[1]), r"\d+ \d+")
            self.assertEqual([b"1"], good(session.select("Archive")))
            for words in (
                "SEEN",
                "KEYWORD $Done",
                "SUBJECT kept",
                "FROM carol@example.org",
                "TEXT needle",
                "ON 01-Feb-2020",
                "NOT FLAGGED BEFORE 02-Feb-2020",
                f"LARGER {len(octets) - 1} SMALLER {len(octets) + 1}",
                "OR UNSEEN UID 1:*",
            ):
                self.assertEqual([b"1"], good(session.search(None, words)), words)
            session.literal = "ä".encode()  # type: ignore[assignment]
            self.assertEqual([b"1"], good(session.search("UTF-8", "BODY")))
            self.assertEqual([b""], good(session.search(None, "BODY hay")))
        self.assertEqual([octets], self.messages(mailbox="Archive"))

    def test_fetch(self) -> None:
        """Headers, structure, parts and ranges of a multipart message."""
        mail = message(ALICE, [ALICE], "with a part", "text\n")
        mail.add_attachment(b"\0\1\2", "application", "octet-stream", filename="x.bin")
        with self.submission() as sender:
            sender.send_message(mail)
        with self.imap() as session:
            good(session.select())
            _, data = session.fetch("1", "(ENVELOPE BODYSTRUCTURE)")
            text = str(data)
            for expected in ("with a part", "alice", "OCTET-STREAM", "x.bin"):
                self.assertIn(expected.lower(), text.lower())
            self.assertEqual(b"\0\1\2", base64.b64decode(octets(session, "[2]")))
            self.assertEqual(b"ex", octets(session, "[1]<1.2>"))
            self.assertEqual(
                b"Subject: with a part\r\n\r\n",
                octets(session, "[HEADER.FIELDS (SUBJECT)]"),
            )

    def test_idle(self) -> None:
        """Who idles is told of new mail, and of what other sessions do, at
        once."""
        with self.imap() as session, self.imap() as other:
            good(session.select())
            session.send(b"idle IDLE\r\n")
            self.assertTrue(session.readline().startswith(b"+ "))
            self.deliver("news")
            self.assertEqual(b"* 1 EXISTS\r\n", self._until(session, b"EXISTS"))
            good(other.select())
            good(other.store("1", "+FLAGS", r"(\Flagged \Deleted)"))
            self.assertIn(b"* 1 FETCH", self._until(session, b"Flagged"))
            good(other.expunge())
            self.assertEqual(b"* 1 EXPUNGE\r\n", self._until(session, b"EXPUNGE"))
            session.send(b"DONE\r\n")
            self.assertIn(b"idle OK", self._until(session, b"idle"))

    @staticmethod
    def _until(session: imaplib.IMAP4, word: bytes) -> bytes:
        while line := session.readline():
            if word in line:
                return line
        raise AssertionError(f"the server left before it said {word!r}")

    def test_new_mail_without_idle(self) -> None:
        """NOOP brings what has come meanwhile."""
        with self.imap() as session:
            good(session.select())
            self.deliver("meanwhile")
            good(session.noop())
            self.assertEqual([b"0", b"1"], session.response("EXISTS")[1])

    def test_read_only(self) -> None:
        """EXAMINE changes nothing."""
        self.deliver("looked at")
        with self.imap() as session:
            good(session.select(readonly=True))
            status, _ = session.store("1", "+FLAGS", r"(\Seen)")
            self.assertEqual("NO", status)
            good(session.fetch("1", "(RFC822)"))
            self.assertEqual([b""], good(session.search(None, "SEEN")))

    def test_internal_date(self) -> None:
        """A delivered message's date is when it came."""
        before = int(time.time())
        self.deliver("dated")
        with self.imap() as session:
            good(session.select())
            (line,) = good(session.fetch("1", "(INTERNALDATE)"))
        moment = imaplib.Internaldate2tuple(line)
        self.assertIsNotNone(moment)
        assert moment is not None
        self.assertTrue(before <= time.mktime(moment) <= time.time())


class Pop3Library(Served):
    """poplib."""

    def test_stls(self) -> None:
        """The password waits for TLS; after STLS it is good."""
        self.deliver("one")
        session = poplib.POP3(HOST, self.port("pop3"), timeout=PATIENCE_S)
        self.addCleanup(session.close)
        self.assertIn("STLS", session.capa())
        self.assertNotIn("USER", session.capa())
        with self.assertRaises(poplib.error_proto):
            session.user(ALICE)
        session.stls(self.trust())
        self.assertIn("USER", session.capa())
        session.user(ALICE)
        session.pass_(self.password(ALICE))
        self.assertEqual(1, session.stat()[0])
        session.quit()

    def test_reading(self) -> None:
        """STAT, LIST, UIDL, TOP and RETR agree with each other and with IMAP."""
        mails = [self.deliver(name, body="a\n.b\n..\n") for name in ("one", "two")]
        octets = self.messages()
        with self.pop3() as session:
            self.assertEqual((2, sum(map(len, octets))), session.stat())
            sizes = [f"{at + 1} {len(one)}".encode() for at, one in enumerate(octets)]
            self.assertEqual(sizes, session.list()[1])
            uids = {line.split()[1] for line in session.uidl()[1]}
            self.assertEqual(2, len(uids))
            for number, one in enumerate(octets, 1):
                _, lines, _ = session.retr(number)
                self.assertEqual(one, b"\r\n".join(lines) + b"\r\n")
            _, lines, _ = session.top(2, 1)
            self.assertEqual(b"a", lines[-1])
            self.assertIn(f"Subject: {mails[1]['Subject']}".encode(), lines)
            session.quit()
        with self.pop3() as session:
            self.assertEqual(uids, {line.split()[1] for line in session.uidl()[1]})

    def test_deletes_at_quit(self) -> None:
        """DELE takes effect at QUIT, and only then: a connection that breaks,
        or RSET, leaves everything."""
        self.deliver("one")
        self.deliver("two")
        with self.pop3() as session:
            session.dele(1)
            self.assertEqual(1, session.stat()[0])
        self.assertEqual(["one", "two"], self.subjects())
        with self.pop3() as session:
            session.dele(1)
            session.rset()
            session.dele(2)
            session.quit()
        self.assertEqual(["one"], self.subjects())

    def test_wrong_password(self) -> None:
        """A wrong password is refused with the code that clients know."""
        session = poplib.POP3_SSL(
            self.other_host(),
            self.port("pop3s"),
            timeout=PATIENCE_S,
            context=self.trust(),
        )
        self.addCleanup(session.close)
        session.user(ALICE)
        with self.assertRaisesRegex(poplib.error_proto, r"\[AUTH\]"):
            session.pass_("wrong")

    def test_snapshot(self) -> None:
        """What comes during a session is shown in the next."""
        self.deliver("before")
        with self.pop3() as session:
            self.deliver("during")
            self.assertEqual(1, session.stat()[0])
            session.dele(1)
            session.quit()
        self.assertEqual(["during"], self.subjects())
