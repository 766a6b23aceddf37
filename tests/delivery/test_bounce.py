"""Delivery status notifications."""

import email
import unittest
from dataclasses import replace
from email.message import Message

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.delivery.fakes import ALICE, CAROL, DAVE, FAILED, HOST, MESSAGE
from twisted_mta.delivery.bounce import HEADER_MOST, compose, unwanted
from twisted_mta.delivery.record import (
    read_address,
    read_envelope,
    write_envelope,
)
from twisted_mta.delivery.report import Action, Report
from twisted_mta.delivery.text import one_line
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import (
    BOUNCE,
    LOCAL,
    USUAL,
    Body,
    Envelope,
    Handling,
    Origin,
    Return,
)
from twisted_mta.mail.route import Outcome, Result

NOW = 1_700_000_000.75
ENVELOPE = Envelope(1, ALICE, (CAROL,), NOW - 90)
TEXT = st.one_of(st.text(max_size=60), st.text(max_size=60).map(lambda t: t * 30))
ADDRESS = st.builds(Address, TEXT.filter(bool), st.just("x.test"))


def report(**changes: object) -> Report:
    usual = Report(HOST, ENVELOPE, MESSAGE, [(CAROL, FAILED)], NOW)
    return replace(usual, **changes)  # type: ignore[arg-type]


def parts(octets: bytes) -> tuple[Message, Message, Message, Message]:
    """The notification, and its three parts."""
    whole = email.message_from_bytes(octets)
    text, status, header = whole.get_payload()
    return whole, text, status, header


class FormTests(unittest.TestCase):
    def test_private(self) -> None:
        """What was to travel under TLS alone is reported so (RFC 8689 5)."""
        strict = Handling(Return.FULL, "id", require_tls=True)
        envelope, _ = compose(report(envelope=ENVELOPE._replace(handling=strict)))
        self.assertEqual(envelope.handling, Handling(require_tls=True))
        self.assertEqual(compose(report())[0].handling, USUAL)

    def check(self, octets: bytes) -> None:
        """Whatever is in it, it is mail."""
        self.assertNotIn(b"\0", octets)
        self.assertEqual(octets.count(b"\n"), octets.count(b"\r\n"))
        self.assertEqual(octets.count(b"\r"), octets.count(b"\r\n"))
        self.assertLessEqual(max(map(len, octets.split(b"\r\n"))), 998)
        head = octets.partition(b"\r\n\r\n")[0]
        names = [
            line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] != b"\t"
        ]
        known = {
            *(b"From", b"To", b"Subject", b"Date", b"Message-ID", b"In-Reply-To"),
            *(b"References", b"Auto-Submitted", b"MIME-Version", b"Content-Type"),
            b"Content-Transfer-Encoding",
        }
        self.assertLessEqual(set(names), known)
        self.assertEqual(len(names), len(set(names)))

    def test_failure(self) -> None:
        """A bounce has the three parts of RFC 3464 and says who, what and by
        whom; it is from nobody who could be answered."""
        envelope, octets = compose(report())
        self.check(octets)
        self.assertIsNone(envelope.sender)
        self.assertEqual(envelope.recipients, (ALICE,))
        self.assertIs(envelope.body, Body.SEVEN_BIT)
        self.assertFalse(envelope.smtputf8)
        whole, text, status, header = parts(octets)
        self.assertEqual(whole.get_content_type(), "multipart/report")
        self.assertEqual(whole.get_param("report-type"), "delivery-status")
        self.assertIn(f"<MAILER-DAEMON@{HOST}>", whole["From"])
        self.assertEqual(whole["To"], "<alice@example.test>")
        self.assertEqual(whole["Auto-Submitted"], "auto-replied")
        self.assertEqual(whole["Date"], "Tue, 14 Nov 2023 22:13:20 +0000")
        self.assertEqual(whole["References"], "<one@example.test>")
        told = text.get_payload()
        self.assertIn("will not be tried again", " ".join(told.split()))
        self.assertIn(
            "\r\n\r\n  Subject: hello\r\n"
            "  Received here: Tue, 14 Nov 2023 22:11:50 +0000\r\n"
            "  Its number here: 0000000000001\r\n"
            "\r\n<carol@elsewhere.test>\r\n"
            "  Nobody there has this address. Look whether it is spelled right.\r\n"
            "  mx.elsewhere.test[192.0.2.1]:25 said:\r\n    550 5.1.1 Nobody\r\n",
            told,
        )
        message, recipient = status.get_payload()
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        self.assertEqual(message["Reporting-MTA"], f"dns; {HOST}")
        self.assertEqual(message["Arrival-Date"], "Tue, 14 Nov 2023 22:11:50 +0000")
        self.assertEqual(
            recipient.items(),
            [
                ("Final-Recipient", "rfc822; carol@elsewhere.test"),
                ("Action", "failed"),
                ("Status", "5.1.1"),
                ("Remote-MTA", "dns; mx.elsewhere.test"),
                ("Diagnostic-Code", "smtp; 550 5.1.1 Nobody"),
                ("Last-Attempt-Date", "Tue, 14 Nov 2023 22:13:20 +0000"),
            ],
        )
        self.assertEqual(header.get_content_type(), "text/rfc822-headers")
        self.assertIn("Subject: hello", header.get_payload())
        self.assertNotIn(b"Hello, Carol", octets)

    def test_delay(self) -> None:
        """A warning says that nothing need be done, and until when."""
        _, octets = compose(report(action=Action.DELAYED, retry_until=NOW + 86400))
        self.check(octets)
        whole, text, status, _ = parts(octets)
        self.assertIn("delayed", whole["Subject"])
        self.assertIn("need not do anything", text.get_payload())
        recipient = status.get_payload()[1]
        self.assertEqual(recipient["Action"], "delayed")
        self.assertEqual(
            recipient["Will-Retry-Until"], "Wed, 15 Nov 2023 22:13:20 +0000"
        )

    def test_own_words(self) -> None:
        """What no server said is not passed off as an SMTP reply."""
        outcome = Outcome(Result.FAILED, "5.4.4", "The domain has no mail server")
        _, octets = compose(report(recipients=[(CAROL, outcome), (DAVE, FAILED)]))
        recipient, other = parts(octets)[2].get_payload()[1:]
        self.assertEqual(
            recipient["Diagnostic-Code"], "x-twisted-mta; The domain has no mail server"
        )
        self.assertNotIn("Remote-MTA", recipient)
        self.assertEqual(other["Final-Recipient"], "rfc822; dave@elsewhere.test")

    def test_international(self) -> None:
        """Addresses that are not ASCII take the form of RFC 6533, and the
        notification needs SMTPUTF8."""
        who = Address("zoë", "bücher.test")
        said = ENVELOPE._replace(smtputf8=True)
        outcome = replace(FAILED, diagnostic="550 né")
        envelope, octets = compose(report(envelope=said, recipients=[(who, outcome)]))
        self.check(octets)
        self.assertIs(envelope.body, Body.EIGHT_BIT)
        self.assertTrue(envelope.smtputf8)
        whole, _, status, header = parts(octets)
        self.assertEqual(whole["Content-Transfer-Encoding"], "8bit")
        self.assertEqual(status.get_content_type(), "message/global-delivery-status")
        self.assertEqual(header.get_content_type(), "message/global-headers")
        self.assertIn("Final-Recipient: utf-8; zoë@bücher.test\r\n".encode(), octets)

    def test_international_alias(self) -> None:
        """Who did not say SMTPUTF8, and has not such an address himself, need not be
        able to read it: he is told of one, that an alias leads to, in ASCII (RFC 6533
        3)."""
        who = Address("zoë", "bücher.test")
        envelope, octets = compose(report(recipients=[(who, FAILED)]))
        self.check(octets)
        self.assertFalse(envelope.smtputf8)
        _, text, status, header = parts(octets)
        self.assertIn("zoë@bücher.test", text.get_payload(decode=True).decode())
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        self.assertEqual(
            status.get_payload()[1]["Final-Recipient"],
            r"utf-8; zo\x{EB}@b\x{FC}cher.test",
        )
        self.assertEqual(header.get_content_type(), "text/rfc822-headers")
        sender = ENVELOPE._replace(sender=Address("zoë", "x.test"))
        self.assertTrue(compose(report(envelope=sender))[0].smtputf8)

    def test_origin(self) -> None:
        """Of what the server writes a bounce can be told from the rest, and so what is
        not to be returned in its turn."""
        self.assertEqual(compose(report())[0].origin, BOUNCE)
        for other in (report(action=Action.DELAYED), report(instead=ALICE)):
            self.assertEqual(compose(other)[0].origin, LOCAL)

    def test_instead(self) -> None:
        """What the postmaster reads of a bounce that could not be delivered says so,
        and has all of it."""
        bounce, octets = compose(report())
        postmaster = Address("postmaster", "")
        instead = report(
            envelope=bounce,
            header=octets,
            whole=octets,
            recipients=[(ALICE, FAILED)],
            instead=postmaster,
        )
        envelope, octets = compose(instead)
        self.check(octets)
        self.assertEqual((envelope.sender, envelope.recipients), (None, (postmaster,)))
        whole, text, status, returned = parts(octets)
        self.assertEqual(whole["To"], f"<postmaster@{HOST}>")
        self.assertEqual(whole["Subject"], "A notification was not delivered")
        self.assertIn("could not be told", " ".join(text.get_payload().split()))
        self.assertEqual(status.get_payload()[1]["Final-Recipient"], f"rfc822; {ALICE}")
        (inner,) = returned.get_payload()
        self.assertEqual(inner.get_content_type(), "multipart/report")
        self.assertIn(str(CAROL), inner.as_string())

    def test_subject(self) -> None:
        """The message's subject is shown as its author wrote it, on one line, and not
        looked for in its body."""
        for said, shown in (
            ("=?utf-8?q?Gr=C3=BC=C3=9Fe?= from us", "Grüße from us"),
            ("a\r\n folded one", "a folded one"),
            ("=?utf-8?b?YQ0KQmNjOiBi?=", "a Bcc: b"),
            ("x" * 500, "x" * 197 + "..."),
        ):
            header = f"Subject: {said}\r\n\r\nHi\r\n".encode()
            _, octets = compose(report(header=header))
            self.check(octets)
            text = parts(octets)[1].get_payload(decode=True).decode()
            self.assertIn(f" Subject: {shown} Received", " ".join(text.split()))
        _, octets = compose(report(header=b"From: x\r\n\r\nSubject: none\r\n"))
        self.assertNotIn("none", parts(octets)[1].get_payload())

    def test_foreign_reply(self) -> None:
        """A reply that is not ASCII does not make the report international."""
        outcome = replace(FAILED, diagnostic="550 né")
        envelope, octets = compose(report(recipients=[(CAROL, outcome)]))
        self.assertIs(envelope.body, Body.EIGHT_BIT)  # the text for people has it
        self.assertFalse(envelope.smtputf8)
        self.assertIn(b"Diagnostic-Code: smtp; 550 n?\r\n", octets)

    def test_h42_injection(self) -> None:
        """CR, LF, ESC and NUL in addresses, replies, host names and the
        original header add no line to the notification."""
        bad = 'a\r\nBcc: <v@x.test>\n\n--b\0\x1b[2J"'
        outcome = Outcome(Result.FAILED, "5.0.0\r\nX: y", bad, bad, replied=True)
        for sender in (Address(bad, "x.test"), ALICE):
            envelope = ENVELOPE._replace(sender=sender)
            recipients = [(Address(bad, "x.test"), outcome)]
            _, octets = compose(
                report(envelope=envelope, recipients=recipients, header=bad.encode())
            )
            self.check(octets)
            self.assertNotIn(b"\x1b", octets)
            self.assertNotRegex(octets, rb"(?m)^(Bcc|X):")
            self.assertEqual(parts(octets)[2].get_payload()[1]["Status"], "4.0.0")

    def test_header_bounded(self) -> None:
        """Of a header of any size whole fields up to 50 KB come back."""
        field = b"X-Field: " + b"x" * 900 + b"\r\n"
        _, octets = compose(report(header=field * 10_000 + b"\r\n"))
        self.assertLess(len(octets), HEADER_MOST + 4000)
        self.assertEqual(octets.count(field), HEADER_MOST // len(field))

    def test_header_of_long_lines(self) -> None:
        """A line that is too long to send is cut."""
        _, octets = compose(report(header=b"X: " + b"y" * 5000 + b"\r\n\r\n"))
        self.check(octets)
        self.assertIn(b"X: yyy", octets)

    def test_header_cut_short(self) -> None:
        """Of a header that ends nowhere, the last piece of a field is left out."""
        _, octets = compose(report(header=b"A: 1\r\nSubject: hal"))
        self.assertIn(b"A: 1\r\n", octets)
        self.assertNotIn(b"hal", octets)

    def test_long_words(self) -> None:
        """A reply, an address or a host without any space is cut to lines."""
        long = "\U0001f4e7" * 2000
        outcome = replace(FAILED, diagnostic=long, remote=long)
        _, octets = compose(report(recipients=[(Address(long, "x.test"), outcome)]))
        self.check(octets)

    def test_many_recipients(self) -> None:
        """A server that has much to say of each of a thousand recipients makes no
        report of megabytes; each has its beginning."""
        outcome = replace(FAILED, diagnostic="550 5.1.1 Nobody " + "x" * 2000)
        people = [Address(f"p{number}", "x.test") for number in range(1000)]
        _, octets = compose(report(recipients=[(who, outcome) for who in people]))
        self.check(octets)
        self.assertLess(len(octets), 1_000_000)
        self.assertEqual(octets.count(b"smtp; 550 5.1.1 Nobody"), 1000)
        _, octets = compose(report(recipients=[(people[0], outcome)]))
        self.assertIn("x" * 900, "".join(octets.decode().split()))

    def test_boundary(self) -> None:
        """No original header can end its part: each boundary is new."""
        first, second = compose(report())[1], compose(report())[1]
        boundary = email.message_from_bytes(first).get_boundary()
        assert boundary is not None
        self.assertNotIn(boundary.encode(), second)

    def test_impersonal(self) -> None:
        """Lists and machines are not warned of delays."""
        for header in (
            b"Precedence: bulk\r\n\r\n",
            b"A: b\r\nprecedence:list\r\n\r\n",
            b"Auto-Submitted: auto-replied\r\n\r\n",
        ):
            self.assertTrue(unwanted(header))
        self.assertFalse(unwanted(b"Auto-Submitted: no\r\n\r\n"))
        self.assertFalse(unwanted(MESSAGE))

    @settings(max_examples=50, deadline=None)
    @given(ADDRESS, ADDRESS, TEXT, st.text(max_size=1500), st.binary(max_size=300))
    def test_garbage(
        self, sender: Address, to: Address, remote: str, said: str, header: bytes
    ) -> None:
        """Whatever strangers said, the notification is mail of three parts."""
        outcome = Outcome(Result.FAILED, "5.0.0", said, remote, replied=True)
        _, octets = compose(
            report(
                envelope=ENVELOPE._replace(sender=sender),
                recipients=[(to, outcome)],
                header=header,
            )
        )
        self.check(octets)
        self.assertEqual(len(parts(octets)), 4)


class TextTests(unittest.TestCase):
    @given(st.text())
    def test_one_line(self, text: str) -> None:
        """No text breaks a line, moves a cursor, or fails to be encoded."""
        line = one_line(text)
        self.assertEqual(len(line.splitlines()) or 1, 1)
        self.assertNotRegex(line, "[\x00-\x1f\x7f-\x9f\u202e]")
        line.encode()

    def test_bounded(self) -> None:
        """Long text is cut, visibly."""
        self.assertEqual(one_line("x" * 10, 10), "x" * 10)
        self.assertEqual(one_line("x" * 11, 10), "xxxxxxx...")


class RecordTests(unittest.TestCase):
    @given(st.text(min_size=1).map(lambda local: Address(local, "x.test")))
    def test_address(self, address: Address) -> None:
        """Every address is read as it was written."""
        self.assertEqual(read_address(str(address)), address)

    def test_address_literal(self) -> None:
        """So are the bare postmaster, and literals."""
        for address in (
            Address("postmaster", ""),
            Address("a@b", ""),
            Address('a"@b', "[192.0.2.1]"),
            Address("a", "[IPv6:2001:db8::1]"),
        ):
            self.assertEqual(read_address(str(address)), address)

    def test_envelope(self) -> None:
        """An envelope is kept whole."""
        envelope = Envelope(
            id=7,
            sender=Address("zoë", "x.test"),
            recipients=(CAROL, Address('a "b"', "x.test")),
            received_at=1.25,
            origin=Origin("ESMTPSA", "192.0.2.1", 25, "me", "TLSv1.3", "bob@x", "mx"),
            body=Body.EIGHT_BIT,
            smtputf8=True,
        )
        self.assertEqual(read_envelope(write_envelope(envelope)), envelope)
        kept_apart = envelope._replace(quarantined=True)
        self.assertEqual(read_envelope(write_envelope(kept_apart)), kept_apart)
        bounce = Envelope(8, None, (CAROL,), 2.0)
        self.assertEqual(read_envelope(write_envelope(bounce)), bounce)
