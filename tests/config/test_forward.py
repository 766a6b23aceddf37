"""Settings of mail that is sent on, relayed, or not wanted."""

import unittest
from pathlib import Path

from tests.config.test_load import problems
from twisted_mta.config import check

BASE = """
hostname: mail.example.test
directory: /tmp
domains: {example.test: }
postmaster: pm@example.test
listeners: []
"""


class ForwardSettings(unittest.TestCase):
    def told(self, more: str, *parts: str) -> None:
        """Exactly one thing is wrong, and is told so."""
        found = problems(BASE + more)
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_good(self) -> None:
        """What can be said of recipients: a word, or files."""
        _, config = check.parse(
            "mta.yaml",
            BASE
            + "relay_domains: {a.test: , b.test: {recipients: any},"
            + " c.test: {recipients: [/etc/c], next_hop: '[192.0.2.1]:25'}}\n"
            + "forwarding: {srs: false, domain: example.test}\n"
            + "smtp: {verp: [{sender: x@example.test, delimiters: '-+'}]}\n"
            + "suppression: {hard_bounces: 2, within: 7d, keep: 14d, forwarded: true,"
            + " complaints: [fbl@example.test], complaints_from: [192.0.2.0/24]}\n",
        )
        who = [each.recipients for each in config.relay_domains.values()]
        self.assertEqual(who, ["callout", "any", (Path("/etc/c"),)])
        self.assertEqual(config.suppression.keep, 14 * 86400)

    def test_forwarding(self) -> None:
        """Bounces to return addresses have to come back."""
        self.told(
            "forwarding: {domain: other.test}", ":7:14: forwarding.domain", "none"
        )

    def test_verp(self) -> None:
        """It is for somebody, and with two delimiters."""
        self.told("smtp: {verp: [{}]}", "smtp.verp[0]", "needs")
        self.told("smtp: {verp: [{sender: x}]}", "smtp.verp[0].sender")
        self.told("smtp: {verp: [{account: x@y, delimiters: '+'}]}", "delimiters")

    def test_relay_domains(self) -> None:
        """A domain is another's, has an agent, and recipients."""
        self.told("relay_domains: {example.test: }", "one of 'domains'")
        self.told("relay_domains: {B.test: }", "lower case")
        self.told("relay_domains: {'b..': }", "not a domain name")
        self.told("relay_domains: {b.test: {agent: x}}", "no agent 'x'")
        self.told(
            "agents: {x: {kind: smtp}}\nrelay_domains: {b.test: {agent: x}}",
            "relay_domains.b.test.agent",
            "needs 'next_hop'",
        )
        self.told("relay_domains: {b.test: {recipients: []}}", "is empty")
        self.told(
            "relay_domains: {b.test: {recipients: all}}", "any, callout, or a list"
        )
        self.told("relay_domains: {b.test: {recipients: [1]}}", "recipients", "text")

    def test_suppression(self) -> None:
        """Counts are counts, and reports are believed from somebody."""
        self.told("suppression: {hard_bounces: 0}", "more than 0")
        self.told("suppression: {keep: 0s}", "suppression.keep")
        here = "complaints: [fbl@example.test]"
        self.told(f"suppression: {{{here}}}", "complaints_from", "no report")
        self.told(f"suppression: {{{here}, complaints_from: [x]}}", "no network")
        self.told(
            "suppression: {complaints: [a@b.test], complaints_from: [192.0.2.1]}",
            "none of 'domains'",
        )

    def test_reserved(self) -> None:
        """The names of the server's own agents are its own."""
        for name in ("release", "loop", "complaint"):
            self.told(f"agents: {{{name}: {{kind: smtp}}}}", "the server's own")
