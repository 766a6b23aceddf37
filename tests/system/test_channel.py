"""The channel to the next server, as the DNS and policies ask for it, by real daemons
and a resolver that validates."""

import gzip
import json
import signal
import time

import apsw

from tests.system.channelcase import ChannelCase
from tests.system.daemon import wait_until
from tests.system.relaycase import wait_for
from twisted_mta.delivery.tlsreports import WORTH_S, due_at
from twisted_mta.mail.tlsreport import DAY_S, Kind, Policy, write_policy

_RUA = '_smtp._tls TXT "v=TLSRPTv1; rua=https://web.test/r,mailto:blice@d0.test"\n'
_WRONG = "TLSA 3 1 1 " + "00" * 32


def policy(mode, *hosts):
    """A policy's text."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts)]
    return "\r\n".join([*lines, "max_age: 86400", ""])


class DaneTests(ChannelCase):
    """RFC 7672."""

    zones = {
        "good.test": ("signed", "_PORT._tcp.mx TLSA!\n"),
        "wrong.test": ("signed", f"_PORT._tcp.mx {_WRONG}\n"),
        "bogus.test": ("bogus", "_PORT._tcp.mx TLSA!\n"),
        "none.test": ("signed", ""),
        "plain.test": ("plain", f"_PORT._tcp.mx {_WRONG}\n"),
    }

    def test_dane(self):
        """Mail goes to the host whose certificate the DNS says, waits where it is
        another one or the DNS is forged, without ever going in the clear or at all; and
        goes as it can where the DNS says nothing that is authentic."""
        self.send(*self.zones)
        self.assertEqual(self.verified("good.test"), "dane")
        self.assertEqual(self.verified("none.test"), "none")
        self.assertEqual(self.verified("plain.test"), "none")
        self.assertIn("TLSA", self.waits("wrong.test"))
        self.assertIn("No DNS server", self.waits("bogus.test"))
        delivered = {"good.test", "none.test", "plain.test"}
        self.assertEqual(self.subjects(3), delivered)
        self.assertNotIn("wrong.test", self.b.log)


class StsTests(ChannelCase):
    """RFC 8461, and RFC 8460 of it."""

    zones = {
        "right.test": ("plain", '_mta-sts TXT "v=STSv1; id=1"\n'),
        "other.test": ("plain", '_mta-sts TXT "v=STSv1; id=1"\n'),
        "testing.test": ("plain", '_mta-sts TXT "v=STSv1; id=1"\n'),
        "nopolicy.test": ("plain", '_mta-sts TXT "v=STSv1; id=1"\n'),
    }
    more = "tls_reports: {sender: reports@a.test}\n"

    def counted(self):
        """Domains and what went wrong, in the ledger."""
        with apsw.Connection(str(self.a_home / "ledger.sqlite3")) as connection:
            return {
                (domain, json.loads(policy)[0], json.loads(failure or "[0]")[0])
                for domain, policy, failure in connection.execute(
                    "SELECT domain, policy, failure FROM tls_result"
                )
            }

    def test_policies(self):
        """Mail goes to a host of the policy, and waits for one that is not; so it does
        after a restart when the Web is gone. What went wrong is counted."""
        pages = self.web.pages
        well_known = "/.well-known/mta-sts.txt"
        pages[f"mta-sts.right.test{well_known}"] = policy("enforce", "*.right.test")
        pages[f"mta-sts.other.test{well_known}"] = policy("enforce", "mx.else.test")
        pages[f"mta-sts.testing.test{well_known}"] = policy("testing", "mx.else.test")
        self.send(*self.zones)
        self.assertEqual(self.verified("right.test"), "sts")
        self.assertEqual(self.verified("testing.test"), "none")
        self.assertEqual(self.verified("nopolicy.test"), "none")
        wanted = "mx.other.test is not in the MTA-STS policy of other.test"
        self.assertIn(wanted, self.waits("other.test"))
        self.assertEqual(self.a.stop(), -signal.SIGINT)
        self.assertEqual(
            self.counted(),
            {
                ("right.test", "sts", 0),
                ("testing.test", "sts", "validation-failure"),
                ("other.test", "sts", "validation-failure"),
                ("nopolicy.test", "sts", "sts-policy-fetch-error"),
            },
        )
        self.web.pages.clear()
        self.a = self.start()
        self.send("other.test")
        wait_until(lambda: self.a.log.count(wanted) == 1, "it waits too", self.a)
        delivered = {"right.test", "testing.test", "nopolicy.test"}
        self.assertEqual(self.subjects(3), delivered)


class ReportTests(ChannelCase):
    """RFC 8460."""

    zones = {f"d{number}.test": ("plain", _RUA) for number in range(8)}
    more = "tls_reports: {sender: reports@a.test}\n"

    def test_reports(self):
        """What was counted is told the day after, by HTTPS and by mail, once; though
        the server was down meanwhile."""
        self.assertEqual(self.a.stop(), -signal.SIGINT)
        now = time.time()
        today = int(now // DAY_S)
        # Times differ by domain and day: one of them is told now.
        day, domain = next(
            (day, domain)
            for domain in self.zones
            for day in (today - 1, today - 2)
            if 60 < now - due_at(day, domain, "mail.a.test") < WORTH_S - 3600
        )
        row = day, domain, write_policy(Policy(Kind.NONE, domain)), "", 7
        with apsw.Connection(str(self.a_home / "ledger.sqlite3")) as connection:
            connection.execute("INSERT INTO tls_result VALUES (?, ?, ?, ?, ?)", row)
        self.a = self.start()
        (message,) = wait_for(self.b, "blice@b.test", 1)
        wait_until(lambda: self.web.brought, "it is brought", self.a)
        _, attached = message.get_payload()
        octets = attached.get_payload(decode=True)
        self.assertEqual(self.web.brought, [("web.test/r", octets)])
        report = json.loads(gzip.decompress(octets))
        (told,) = report["policies"]
        self.assertEqual(told["policy"]["policy-domain"], domain)
        self.assertEqual(told["summary"]["total-successful-session-count"], 7)
        self.assertEqual(message["TLS-Report-Domain"], domain)
        self.assertEqual(message["TLS-Report-Submitter"], "mail.a.test")
        wait_until(lambda: "to https://web.test/r: sent" in self.a.log, "told", self.a)
        self.assertEqual(self.a.stop(), -signal.SIGINT)
        with apsw.Connection(str(self.a_home / "ledger.sqlite3")) as connection:
            for table in ("tls_result", "tls_report"):
                rows = list(connection.execute(f"SELECT * FROM {table}"))
                self.assertEqual(rows, [], table)
