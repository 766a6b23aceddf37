"""L{twisted_mta.servers.channel}."""

from __future__ import annotations

from tests.servers.smtpdrive import HOST, Peer, SmtpCase
from twisted_mta.mail.channel import NOT_CERTIFIED
from twisted_mta.servers.channel import channel
from twisted_mta.servers.smtp.settings import SmtpSettings


class ChannelTests(SmtpCase):
    def test_gone(self) -> None:
        """A connection that has ended, while commands of it are still answered, has no
        TLS to bind to."""
        peer = Peer(SmtpSettings(HOST), implicit_tls=True)
        peer.handshake()
        self.assertTrue(channel(peer.stream, "smtp", True).private)
        peer.transport.getHandle = lambda: None  # type: ignore[method-assign,assignment,return-value]
        found = channel(peer.stream, "smtp", True)
        self.assertEqual(found.certified, NOT_CERTIFIED)
        self.assertIsNone(found.binding("tls-exporter"))
