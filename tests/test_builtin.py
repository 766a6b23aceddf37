"""The plugins that are built in."""

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from tests.net.test_tls import made
from twisted_mta.builtin import SmtpAgentConfig, SmtpAgentPlugin
from twisted_mta.config import manual
from twisted_mta.config.load import read, structure
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.settings import Settings, Tls, TokenFile
from twisted_mta.delivery.smtp.tlsmemory import Recall
from twisted_mta.errors import ConfigError
from twisted_mta.plugin import Environment
from twisted_mta.wire.sasl import Credentials
from twisted_mta.wire.saslclient import Certified


class SmtpAgentTests(TestCase):
    """The agent of the kind smtp."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def settings(self, text: str) -> Settings:
        """What an agent makes of a config."""
        return self.agent(text)._settings

    def agent(self, text: str) -> SmtpAgent:
        """The agent of a config."""
        config = structure(read("mta.yaml", text), SmtpAgentConfig)
        nothing: Any = None
        environment = Environment(
            "smarthost",
            "mx.example.test",
            nothing,
            nothing,
            nothing,
            nothing,
            Logger(),
        )
        web: Any = object()
        environment = attrs.evolve(
            environment, reactor=Clock(), web=web, share=lambda whole: whole // 3
        )
        return SmtpAgentPlugin(tuple).build(config, environment)

    def refused(self, text: str) -> str:
        """Why its config cannot be read."""
        document = read("mta.yaml", text)
        error = self.assertRaises(ConfigError, structure, document, SmtpAgentConfig)
        return str(error)

    def test_defaults(self) -> None:
        """Without settings it is as its parts have it."""
        self.assertEqual(self.settings("{}"), Settings("mx.example.test"))

    def test_every_setting(self) -> None:
        """Each setting arrives where it is meant."""
        pair = made(self.directory, ["localhost"])
        authority = pair.certificate
        password = self.directory / "password"
        password.write_text("secret\nsecond line\n")
        settings = self.settings(
            f"""
            port: 26
            tls: verify
            implicit_tls: true
            trust: {authority}
            user: us
            password_file: {password}
            sources: ["2001:DB8:0::1", 192.0.2.1]
            own_names: [NAT.example.test]
            connections: 9
            loopback: true
            without: [CHUNKING]
            xforward: true
            certificate: {pair.certificate}
            key: {pair.key}
            connect_timeout: 7s
            reply_timeout: 8s
            """
        )
        self.assertEqual(settings.port, 26)
        self.assertEqual(settings.tls, Tls.VERIFY)
        self.assertTrue(settings.implicit_tls)
        self.assertEqual(settings.trust, authority)
        self.assertEqual(settings.credentials, Credentials("us", "secret"))
        self.assertEqual(settings.sources, ("2001:db8::1", "192.0.2.1"))
        self.assertEqual(settings.own_names, {"nat.example.test"})
        self.assertEqual(settings.connections, 3)
        self.assertTrue(settings.loopback)
        self.assertEqual(settings.without, {"CHUNKING"})
        self.assertTrue(settings.xforward)
        self.assertEqual(settings.pair, pair)
        self.assertEqual(settings.timeouts.connect_s, 7)
        self.assertEqual(settings.timeouts.final_s, 8)
        self.assertEqual(settings.timeouts.message_s, 7200)

    def test_channel(self) -> None:
        """What is asked of the channel arrives where it is meant."""
        usual = self.agent("{}")
        self.assertIs(usual._settings.tls, Tls.DANE)
        self.assertIsNotNone(usual._security._policies)
        self.assertIs(usual._memory._recall, Recall.WARN)  # type: ignore[union-attr]
        other = self.agent(
            "{tls: may, mta_sts: false, tls_memory: defer, tls_memory_wait: 1h}"
        )
        self.assertIs(other._settings.tls, Tls.MAY)
        self.assertIsNone(other._security._policies)
        memory: Any = other._memory
        self.assertEqual((memory._recall, memory._wait_s), (Recall.DEFER, 3600.0))
        for word in ("none", "encrypt", "dane", "dane-only", "verify"):
            self.assertEqual(self.settings(f"tls: {word}").tls.value, word)

    def test_share(self) -> None:
        """A worker has its share of the connections, but one at least."""
        self.assertEqual(self.settings("connections: 2").connections, 1)

    def test_logins(self) -> None:
        """There is a token instead of a password, or a certificate alone."""
        pair = made(self.directory, ["localhost"])
        settings = self.settings("{user: us, token_file: /run/token}")
        self.assertEqual(settings.credentials, TokenFile("us", Path("/run/token")))
        shown = f"certificate: {pair.certificate}, key: {pair.key}"
        self.assertEqual(self.settings(f"{{{shown}}}").credentials, Certified())

    def test_refusals(self) -> None:
        """What cannot work is told before mail waits for it."""
        junk = self.directory / "junk"
        junk.write_text("no certificate")
        empty = self.directory / "empty"
        empty.write_text("")
        for text, told in (
            ("connections: 0", "connections: must be more than 0"),
            (f"trust: {junk}", "trust: .*junk: holds no PEM"),
            ("trust: /no/such", "trust: /no/such: holds no PEM"),
            (
                "sources: [mx.example.test]",
                "sources: .*mx.example.test",
            ),
            ("sources: [192.0.2.1, 192.0.2.2]", "two of one family"),
            ("{user: us, password_file: /no/such}", "cannot be read.*/no/such"),
            ("user: us", "'user' needs 'password_file' or 'token_file'"),
            ("token_file: /run/token", "need 'user'"),
            ("certificate: /no/such", "need each other"),
            (f"{{certificate: {junk}, key: {junk}}}", "certificate: .*junk"),
            ("without: [EVERYTHING]", "without"),
            ("tls: promised", "tls"),
            ("tls: waived", "tls"),
            (f"{{user: us, password_file: {empty}}}", "the first line of .* is empty"),
        ):
            self.assertRegex(self.refused(text), told)

    def test_manual(self) -> None:
        """etc/mta.yaml explains each setting, in the words of its class."""
        words = manual.settings(SmtpAgentConfig, "#   ")
        self.assertEqual(manual.SMTP_AGENT.splitlines(), words)
        self.assertIn(manual.SMTP_AGENT, manual.text())
        for field in attrs.fields(SmtpAgentConfig):
            self.assertIn(f"#   {field.name}: ", manual.SMTP_AGENT)
