"""Reports of complaints."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.mail.address import split
from twisted_mta.mail.feedback import passed, read
from twisted_mta.mail.ids import new_id, to_text

ID = new_id()
RECEIVED = (
    b"Received: from x ([192.0.2.1])\r\n\tby mx.example.test (twisted-mta) with ESMTPSA"
    b"\r\n\tid %b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n" % to_text(ID).encode()
)


def report(
    fields: bytes = b"Feedback-Type: abuse\r\nUser-Agent: Some/1\r\nVersion: 1\r\n"
    b"Original-Mail-From: <alice@example.test>\r\n"
    b"Original-Rcpt-To: <carol@elsewhere.test>\r\n",
    message: bytes = RECEIVED + b"Subject: buy\r\n\r\nBuy!\r\n",
    kind: bytes = b"message/rfc822",
    type: bytes = b"multipart/report; report-type=feedback-report",
) -> bytes:
    """A report as RFC 5965 has it in its appendix B."""
    return b"\r\n".join(
        (
            b"From: <fbl@provider.test>",
            b"MIME-Version: 1.0",
            b'Content-Type: %b;\r\n boundary="part"' % type,
            b"",
            b"--part",
            b"",
            b"This is a report.",
            b"--part",
            b"Content-Type: message/feedback-report",
            b"",
            fields,
            b"--part",
            b"Content-Type: %b" % kind,
            b"",
            message,
            b"--part--",
            b"",
        )
    )


class FeedbackTests(unittest.TestCase):
    def test_report(self) -> None:
        """A report says who complained of what."""
        found = read(report())
        assert found is not None
        self.assertEqual(found.kind, "abuse")
        self.assertEqual(found.agent, "Some/1")
        self.assertEqual(found.recipients, (split("carol@elsewhere.test"),))
        self.assertEqual(found.sender, split("alice@example.test"))
        self.assertEqual(passed(found.message, "mx.example.test"), ID)

    def test_headers(self) -> None:
        """The message may be its header alone, and the recipient left out."""
        found = read(
            report(
                b"Feedback-Type: Fraud\r\nVersion: 1\r\n",
                RECEIVED + b"Subject: buy\r\n",
                b"text/rfc822-headers",
            )
        )
        assert found is not None
        self.assertEqual((found.recipients, found.sender), ((), None))
        self.assertEqual(passed(found.message, "mx.example.test"), ID)

    def test_no_complaint(self) -> None:
        """What says that a message was no spam, or says nothing, or says it twice, is
        no complaint; nor is what has another form."""
        for odd in (
            report(b"Feedback-Type: not-spam\r\nOriginal-Rcpt-To: c@x.test\r\n"),
            report(b"Feedback-Type: virus\r\nOriginal-Rcpt-To: c@x.test\r\n"),
            report(b"Original-Rcpt-To: c@x.test\r\n"),
            report(b"Feedback-Type: abuse\r\nFeedback-Type: not-spam\r\n"),
            report(b"Feedback-Type: abuse\r\nOriginal-Rcpt-To: nonsense\r\n"),
            report(
                b"Feedback-Type: abuse\r\n" + b"Original-Rcpt-To: c@x.test\r\n" * 11
            ),
            report(type=b"multipart/mixed"),
            report(type=b"multipart/report; report-type=delivery-status"),
            report().replace(b"message/feedback-report", b"text/plain"),
            report().replace(b"--part\r\n\r\nThis is a report.\r\n", b""),
            b"",
            b"Subject: hello\r\n\r\nhello\r\n",
        ):
            self.assertIsNone(read(odd), odd)

    def test_trace(self) -> None:
        """A message went through here if a trace of ours says so."""
        for block in (
            b"",
            RECEIVED.replace(b"mx.example.test", b"mx.elsewhere.test"),
            RECEIVED.replace(b"mx.example.test", b"xmx.example.test"),
            RECEIVED.replace(b"(twisted-mta) ", b""),
            RECEIVED.replace(to_text(ID).encode(), b"short"),
            RECEIVED.replace(to_text(ID).encode(), b"u" * 13),
        ):
            self.assertIsNone(passed(block, "mx.example.test"), block)

    @given(st.binary(max_size=400), st.integers(0, 900), st.integers(0, 40))
    def test_anything(self, noise: bytes, at: int, cut: int) -> None:
        """Whatever comes, it is a report or none."""
        whole = report()
        read(noise)
        found = read(whole[:at] + noise + whole[at + cut :])
        if found is not None:
            passed(found.message, "mx.example.test")
