"""L{twisted_mta.mail.tlsreport}: who wants reports, and how they read."""

import email
import email.policy
import gzip
import json
from typing import Any
from unittest import TestCase
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.mail import tlsreport
from twisted_mta.mail.tlsreport import (
    Count,
    Failure,
    Kind,
    Policy,
    Submitter,
    compose,
    letter,
    mailbox,
    read_failure,
    read_policy,
    recipients,
    write_failure,
    write_policy,
)

BY = Submitter("Here", "tls@here.test", "mailto:us@here.test", "mx.here.test")
STS = Policy(Kind.STS, "there.test", ("version: STSv1", "mode: testing"), ("*.x.test",))
TLSA = Policy(Kind.TLSA, "mx.there.test", ("3 1 1 00",))
EXPIRED = Failure("certificate-expired", "192.0.2.1", "mx.x.test", "192.0.2.2", "why")
DAY = 19_000  # 2022-01-08


class RecipientsTests(TestCase):
    """The TXT record."""

    def test_addresses(self) -> None:
        """Mail and Web addresses are told, in order, each once."""
        text = b"v=TLSRPTv1; rua=mailto:a@b.test,https://c.test/d?e=f , mailto:a@b.test"
        wanted = ("mailto:a@b.test", "https://c.test/d?e=f")
        self.assertEqual(recipients([b"v=spf1", text]), wanted)
        self.assertEqual(mailbox("mailto:a%2Bb@c.test?subject=x"), "a+b@c.test")

    def test_none(self) -> None:
        """Two records, or none, or addresses of other kinds yield nothing."""
        good = b"v=TLSRPTv1; rua=mailto:a@b.test"
        self.assertEqual(recipients([good, good]), ())
        for value in (
            *(b"", b"ftp://a.test/", b"http://a.test/", b"https:///x", b"mailto:a"),
            *(b"mailto:a@b@c.test", b"mailto:%0d%0aX@b.test", b"https://u:p@a.test/"),
            *(b"https://a.test:25/", b"https://a.test:x/", b"https://[x/", b"\xff"),
            b"mailto:" + b"a" * 1000 + b"@b.test",
            *(b"mailto:a@b.test?x\r\ny", b"mailto:a@b.test?\x1b[2J"),
        ):
            self.assertEqual(recipients([b"v=TLSRPTv1; rua=" + value]), (), value)
        self.assertEqual(recipients([b"v=TLSRPTv2; rua=mailto:a@b.test"]), ())

    def test_many(self) -> None:
        """Some of them are enough."""
        many = b",".join(b"mailto:a%d@b.test" % number for number in range(50))
        self.assertEqual(len(recipients([b"v=TLSRPTv1; rua=" + many])), 5)

    @given(st.binary(max_size=200))
    def test_chance(self, octets: bytes) -> None:
        """Whatever a domain says, an address is one line."""
        for one in recipients([b"v=TLSRPTv1; rua=mailto:a@b.test," + octets]):
            self.assertTrue(one.isprintable())

    @given(st.from_regex(tlsreport._MAILBOX, fullmatch=True))
    def test_any_mailbox(self, to: str) -> None:
        """Whatever address is taken, a mail can be written to it."""
        (address,) = recipients([f"v=TLSRPTv1; rua=mailto:{quote(to)}".encode()])
        octets = letter(DAY, "there.test", b"", mailbox(address), BY, 0.0)
        parsed = email.message_from_bytes(octets)
        self.assertEqual(parsed["To"].replace("\r\n ", "").replace("\n ", ""), to)


class ReportTests(TestCase):
    """The report."""

    def report(self, *counts: Count) -> Any:
        return json.loads(gzip.decompress(compose(DAY, "there.test", counts, BY)))

    def test_report(self) -> None:
        """It says what RFC 8460 4.4 asks for, policy by policy."""
        report = self.report(
            Count(STS, None, 7), Count(STS, EXPIRED, 2), Count(TLSA, None, 1)
        )
        self.assertEqual(
            report,
            {
                "organization-name": "Here",
                "date-range": {
                    "start-datetime": "2022-01-08T00:00:00Z",
                    "end-datetime": "2022-01-08T23:59:59Z",
                },
                "contact-info": "mailto:us@here.test",
                "report-id": "2022-01-08-there.test@mx.here.test",
                "policies": [
                    {
                        "policy": {
                            "policy-type": "sts",
                            "policy-string": list(STS.strings),
                            "policy-domain": "there.test",
                            "mx-host": ["*.x.test"],
                        },
                        "summary": {
                            "total-successful-session-count": 7,
                            "total-failure-session-count": 2,
                        },
                        "failure-details": [
                            {
                                "result-type": "certificate-expired",
                                "sending-mta-ip": "192.0.2.1",
                                "receiving-mx-hostname": "mx.x.test",
                                "receiving-ip": "192.0.2.2",
                                "failure-reason-code": "why",
                                "failed-session-count": 2,
                            }
                        ],
                    },
                    {
                        "policy": {
                            "policy-type": "tlsa",
                            "policy-string": ["3 1 1 00"],
                            "policy-domain": "mx.there.test",
                        },
                        "summary": {
                            "total-successful-session-count": 1,
                            "total-failure-session-count": 0,
                        },
                    },
                ],
            },
        )

    def test_many_failures(self) -> None:
        """Those that happened most are listed, all are summed up."""
        counts = [
            Count(STS, Failure("validation-failure", theirs=str(number)), number)
            for number in range(1, 2001)
        ]
        (told,) = self.report(*counts)["policies"]
        self.assertEqual(len(told["failure-details"]), 1000)
        self.assertEqual(told["failure-details"][0]["failed-session-count"], 2000)
        summed = told["summary"]["total-failure-session-count"]
        self.assertEqual(summed, 2001 * 1000)

    def test_many_policies(self) -> None:
        """Those of most sessions are told; what one says is bounded."""
        counts = [
            Count(Policy(Kind.TLSA, "mx.x.test", (str(number),)), None, number)
            for number in range(1, 1001)
        ]
        told = self.report(*counts)["policies"]
        self.assertEqual(len(told), 100)
        self.assertEqual(told[0]["policy"]["policy-string"], ["1000"])
        whole = ("3 0 0 " + "ab" * 9000,) * 32
        bounded = Policy(Kind.TLSA, "mx.x.test", whole, whole).bounded()
        self.assertLess(len(write_policy(bounded)), 5000)
        self.assertEqual(STS.bounded(), STS)

    def test_letter(self) -> None:
        """The mail is a multipart/report with the fields of RFC 8460 5.3, holds the
        report, and is not held up by what it tells."""
        report = compose(DAY, "there.test", [Count(STS, None, 1)], BY)
        octets = letter(DAY, "there.test", report, "r@there.test", BY, 1_700_000_000.0)
        self.assertNotIn(b"\n", octets.replace(b"\r\n", b""))
        message = email.message_from_bytes(octets, policy=email.policy.default)
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "tlsrpt")
        for name, value in (
            ("From", "tls@here.test"),
            ("To", "r@there.test"),
            ("TLS-Report-Domain", "there.test"),
            ("TLS-Report-Submitter", "mx.here.test"),
            ("TLS-Required", "No"),
            ("Auto-Submitted", "auto-generated"),
            (
                "Subject",
                "Report Domain: there.test Submitter: mx.here.test"
                " Report-ID: <2022-01-08-there.test@mx.here.test>",
            ),
        ):
            self.assertEqual(message.get_all(name), [value])
        text, attached = message.iter_parts()  # type: ignore[attr-defined]
        self.assertEqual(text.get_content_type(), "text/plain")
        self.assertEqual(attached.get_content_type(), "application/tlsrpt+gzip")
        self.assertEqual(
            attached.get_filename(),
            "mx.here.test!there.test!1641600000!1641686399.json.gz",
        )
        self.assertEqual(attached.get_payload(decode=True), report)

    def test_rows(self) -> None:
        """What is counted is a row, and back."""
        for policy in (STS, TLSA, Policy(Kind.NONE, "a.test")):
            self.assertEqual(read_policy(write_policy(policy)), policy)
        for failure in (None, EXPIRED, Failure("x")):
            self.assertEqual(read_failure(write_failure(failure)), failure)
