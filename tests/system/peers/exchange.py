"""What holds for every mail server that we exchange mail with, in both directions, and
how it is seen. Who tests one adds what that one knows beside."""

from __future__ import annotations

import re
from typing import ClassVar

from tests.system.clients import ALICE, BOB
from tests.system.daemon import wait_until
from tests.system.peers.base import DOMAIN, LATER, NAME, POSTMAN, SIZE
from tests.system.peers.interop import Interop, letter, status_of

# The largest message that we take, which is less than the other takes.
OUR_SIZE = 200_000

NOBODY = "nobody@example.test"

_LINE = b"0123456789 abcdefghij\r\n"


def lines(octets: int) -> bytes:
    """A text of about this size."""
    return _LINE * (octets // len(_LINE))


class FromThem(Interop):
    """The other sends to us."""

    more = f"smtp: {{message_size: {OUR_SIZE}, xforward_from: [127.0.0.1]}}\n"

    def test_whole(self) -> None:
        """Under TLS, with our certificate verified; for two, in one transaction, and
        the text is what it was."""
        content = letter("whole", POSTMAN, ALICE)
        self.peer.send(content, POSTMAN, [ALICE, BOB], ["BODY=8BITMIME"])
        for address in (ALICE, BOB):
            got = self.arrived("Subject: whole", address)
            self.assertIn(f"from {NAME} ([127.0.0.1])", self.whole(got, content))
            self.assertIn("with ESMTPS (TLSv1.3", got.decode())
            self.assertIn(f"Return-Path: <{POSTMAN}>", got.decode())

    def test_long(self) -> None:
        """A long one, with lines that begin with dots."""
        content = letter("long", POSTMAN, ALICE, b".\r\n" + lines(150_000) + b"..\r\n")
        self.peer.send(content, POSTMAN, [ALICE])
        self.whole(self.arrived("Subject: long"), content)

    def test_reports(self) -> None:
        """Who asks for a report at the other has it from us: with the envelope's id
        and the recipient as they were given there."""
        self.peer.send(
            letter("reports", POSTMAN, ALICE),
            POSTMAN,
            [ALICE],
            ["RET=HDRS", "ENVID=id+2Bnumber"],
            ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first@peer.test"],
        )
        self.arrived("Subject: reports")
        told = status_of(self.peer.wait_for("Reporting-MTA: dns; mail.example.test"))
        self.assertIn("Original-Envelope-Id: id+number", told)
        self.assertRegex(told, "Original-Recipient: rfc822; ?first@peer.test")
        self.assertIn(f"Final-Recipient: rfc822; {ALICE}", told)
        self.assertIn("Action: delivered", told)

    def test_refused(self) -> None:
        """Whom we do not know, its sender is told of, with our words; who is with him
        gets his mail."""
        content = letter("refused", POSTMAN, ALICE)
        self.peer.send(content, POSTMAN, [NOBODY, ALICE])
        self.whole(self.arrived("Subject: refused"), content)
        report = self.peer.wait_for(NOBODY)
        told = status_of(report)
        self.assertIn(NOBODY, told)
        self.assertNotIn(ALICE, told)
        self.assertRegex(told, r"Status: 5\.(1\.1|0\.0)")
        self.assertIn("550 5.1.1", report.decode())

    def test_too_large(self) -> None:
        """What is too large for us, its sender is told of; we said so with SIZE."""
        content = letter("large", POSTMAN, ALICE, lines(OUR_SIZE + 20_000))
        self.peer.send(content, POSTMAN, [ALICE])
        told = status_of(self.peer.wait_for("Subject: large"))
        self.assertIn("Action: failed", told)
        self.assertRegex(told, "Status: 5.(3.4|2.3|0.0)")

    def test_lmtp(self) -> None:
        """By LMTP, which answers for each recipient."""
        content = letter("lmtp", POSTMAN, "alice@lmtp.test")
        people = ["alice@lmtp.test", "nobody@lmtp.test"]
        self.peer.send(content, POSTMAN, people)
        added = self.whole(self.arrived("Subject: lmtp"), content)
        self.assertIn("with LMTP\r\n", added)
        told = status_of(self.peer.wait_for("nobody@lmtp.test"))
        self.assertIn("Action: failed", told)
        self.assertNotIn("alice@lmtp.test", told)


class FromThemLater(Interop):
    """The other sends to us, who ask it to come again."""

    more = "policies: [{kind: greylist, delay: 1s, trusted_after: 0}]\n"

    def test_greylisted(self) -> None:
        """It is put off once and comes again; the message is there once."""
        content = letter("again", POSTMAN, ALICE)
        self.peer.send(content, POSTMAN, [ALICE])
        self.log_line(": refused Rcpt: 45", ALICE)

        def again() -> bool:
            self.peer.hurry()
            return bool(self.subjects())

        wait_until(again, "it comes again", self.daemon, self.peer)
        self.whole(self.arrived("Subject: again"), content)
        self.assertEqual(len(self.messages()), 1)


class FromUs(Interop):
    """We send to the other.

    @cvar protocol: in its Received, a pattern.
    @cvar reports_id: how it writes C{id+2Bnumber} in reports (RFC 3461 4: xtext);
        empty: it has neither that in them nor the original recipient.
    """

    protocol: ClassVar[str] = "with ESMTPS"
    reports_id: ClassVar[str] = "id+number"

    def test_whole(self) -> None:
        """Under TLS, with its certificate verified, found by the DNS; the text is what
        it was."""
        content = letter("whole", ALICE, POSTMAN)
        self.submit(content, [POSTMAN], ["BODY=8BITMIME"])
        added = self.whole(self.peer.wait_for("Subject: whole"), content)
        self.assertRegex(added, self.protocol)
        line = self.log_line(f"to=<{POSTMAN}>", "status=delivered")
        self.assertIn(f"relay={NAME}[127.0.0.1]:{self.peer.port}", line)
        self.emptied()

    def test_long(self) -> None:
        """A long one, which goes with DATA."""
        content = letter("long", ALICE, POSTMAN, b".\r\n" + lines(150_000) + b"..\r\n")
        self.submit(content, [POSTMAN])
        self.whole(self.peer.wait_for("Subject: long"), content)

    def test_reports(self) -> None:
        """Who asks for a report here has it from the other, with the envelope's id
        and the recipient as they were given here."""
        self.submit(
            letter("reports", ALICE, POSTMAN),
            [POSTMAN],
            ["RET=HDRS", "ENVID=id+2Bnumber"],
            ["NOTIFY=SUCCESS", "ORCPT=rfc822;first@example.test"],
        )
        self.peer.wait_for("Subject: reports")
        told = status_of(self.arrived("delivery-status"))
        self.assertRegex(told, f"(?i)reporting-mta: dns; ?{NAME}")
        self.assertIn("Action: delivered", told)
        if self.reports_id:
            (found,) = re.findall("(?i)Original-Envelope-Id: (.*)", told)
            self.assertEqual(found, self.reports_id)
            self.assertRegex(told, "Original-Recipient: rfc822; ?first@example.test")

    def test_refused(self) -> None:
        """Whom it does not know, our sender is told of, with its words; who is with
        him gets his mail."""
        nobody = f"nobody@{DOMAIN}"
        content = letter("refused", ALICE, POSTMAN)
        self.submit(content, [nobody, POSTMAN])
        self.whole(self.peer.wait_for("Subject: refused"), content)
        told = status_of(self.arrived("delivery-status"))
        self.assertIn(f"Final-Recipient: rfc822; {nobody}", told)
        self.assertNotIn(POSTMAN, told)
        self.assertRegex(told, r"Diagnostic-Code: smtp; 5[0-9]{2}[ -]")
        self.assertIn(f"Remote-MTA: dns; {NAME}", told)

    def test_too_large(self) -> None:
        """What is larger than the other says that it takes is returned at once."""
        self.submit(letter("large", ALICE, POSTMAN, lines(SIZE + 20_000)), [POSTMAN])
        told = status_of(self.arrived("delivery-status"))
        self.assertIn("Status: 5.3.4", told)
        self.assertIn(f"the server takes {SIZE}", told)

    def test_later(self) -> None:
        """Who is put off is tried again, until he has it; nobody is told of it."""
        content = letter("later", ALICE, f"{LATER}@{DOMAIN}")
        self.submit(content, [f"{LATER}@{DOMAIN}"])
        row = self.deferred()
        self.assertRegex(row["diagnostic"], "45[01] .*Not yet")
        self.peer.open_gate()
        self.whole(self.peer.wait_for("Subject: later"), content)
        self.emptied()
        self.assertEqual(self.messages(), [])
