"""Settings of mail that is relayed, or not wanted, as a whole server has them."""

import shutil
import signal
import smtplib
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.mail.test_feedback import RECEIVED, report
from tests.test_desk import CONFIG
from twisted_mta.app import Mta
from twisted_mta.config.check import parse
from twisted_mta.errors import ConfigError
from twisted_mta.mail.address import split
from twisted_mta.mail.ids import new_id, to_text

EXAMPLES = Path(__file__).resolve().parent.parent / "plugins/twisted_mta/plugins"


class ForwardTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))

    async def serve(self, settings: str) -> Mta:
        """Start a server."""
        text = CONFIG.format(self.directory / "state") + settings
        server = Mta(reactor, *parse("mta.yaml", text))
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    async def talk(self, server: Mta, talk: Callable[[smtplib.SMTP], object]) -> object:
        """Speak with it as another server does."""
        port = next(port for name, _, port in server.listening() if name == "smtp")

        def work() -> object:
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.ehlo("client.example")
                return talk(client)

        return await deferToThread(work)

    async def test_lists(self) -> None:
        """Lists of recipients are read at the start, and again when the server is told
        to reload; one that is wrong is told, and changes nothing."""
        path = self.directory / "recipients"
        path.write_text("bob@relayed.test\n")
        server = await self.serve(
            f"relay_domains: {{relayed.test: {{recipients: ['{path}']}}}}\n"
        )

        def codes(client: smtplib.SMTP) -> list[int]:
            client.mail("erin@third.test")
            return [client.rcpt(f"{who}@relayed.test")[0] for who in ("bob", "carol")]

        self.assertEqual(await self.talk(server, codes), [250, 550])
        path.write_text("carol\n")
        await server.reload()
        self.assertEqual(await self.talk(server, codes), [550, 250])
        path.write_text("b ob\n")
        await server.reload()
        self.assertEqual(await self.talk(server, codes), [550, 250])
        with self.assertRaises(ConfigError) as caught:
            await self.serve(
                f"relay_domains: {{relayed.test: {{recipients: ['{path}']}}}}\n"
            )
        self.assertIn(f"{path}:1: not an address", str(caught.exception))

    def test_cannot(self) -> None:
        """A next hop that is none, and an agent that cannot ask, are told with their
        places."""
        for settings, told in (
            ("{next_hop: '[a]:99999'}", r"\.next_hop: must be \[HOST\]:PORT"),
            ("{agent: lists, next_hop: x}", r"\.recipients: agent 'lists' cannot be"),
        ):
            text = (
                f"plugin_path: ['{EXAMPLES}']\n"
                f"agents: {{lists: {{kind: archive, directory: '{self.directory}'}}}}\n"
                f"relay_domains: {{r.test: {settings}}}\n"
            )
            text = CONFIG.format(self.directory) + text
            with self.assertRaises(ConfigError) as caught:
                Mta(reactor, *parse("mta.yaml", text))
            (problem,) = caught.exception.problems
            self.assertRegex(
                problem, rf"^mta.yaml:\d+:\d+: relay_domains\.r\.test{told}"
            )

    async def test_complaint(self) -> None:
        """A provider's report puts who complained on the list."""
        server = await self.serve(
            "suppression: {complaints: [fbl@example.test],"
            " complaints_from: [127.0.0.0/8]}\n"
        )
        told = Deferred[None]()
        server.office.ledger.watch(
            "suppressed", lambda: None if told.called else told.callback(None)
        )
        old = RECEIVED.partition(b"id ")[2][:13]
        octets = report().replace(old, to_text(new_id()).encode())
        octets = octets.replace(b"mx.example.test", b"mail.example.test")

        def send(client: smtplib.SMTP) -> None:
            client.sendmail("fbl@provider.test", ["fbl@example.test"], octets)

        await self.talk(server, send)
        await told
        found = await server.office.suppression.find(split("carol@elsewhere.test"))
        assert found is not None
        self.assertEqual(found.reason, "complaint")
