"""What holds of an SMTP session whatever the octets are, and of what our own
client sends to one."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.servers.smtpdrive import Peer, mx
from twisted_mta.mail.address import Address
from twisted_mta.mail.networks import Networks
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.wire.smtp import client
from twisted_mta.wire.smtp.content import DotStuffing, lines
from twisted_mta.wire.smtp.server import SmtpLimits

# Small, so that the octets made here reach them.
LIMITS = SmtpLimits(command=200, sasl=300, content=400)

# What sessions are made of, right and wrong, and what smuggling is made of.
FRAGMENTS = [
    b"EHLO client.example\r\n",
    b"HELO x\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<bob@example.test>\r\n",
    b"RCPT TO:<alice@example.test>\r\n",
    b"RCPT TO:<nobody@example.test>\r\n",
    b"DATA\r\n",
    b"data\r\n",
    b"BDAT 3\r\n",
    b"BDAT 5 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 99999999 LAST\r\n",
    b"BDAT x\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"VRFY bob\r\n",
    b"AUTH PLAIN\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"Subject: x\r\n\r\n",
    b"Received: by mx.example.test;\r\n",
    b".",
    b"..\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n.\n",
    b"\r\n\0.\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"\xff",
    b"x" * 150,
]

# A session that comes to content often enough.
BEGIN = FRAGMENTS[0] + FRAGMENTS[2] + FRAGMENTS[4]

octets = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from([BEGIN, FRAGMENTS[2] + FRAGMENTS[4]]),
        st.binary(max_size=20),
    ),
    max_size=30,
).map(b"".join)
cuts = st.lists(st.integers(1, 60), max_size=60)


def pieces(whole: bytes, sizes: list[int]) -> list[bytes]:
    """The octets cut into pieces; the last one has the rest."""
    cut = []
    for size in sizes:
        cut.append(whole[:size])
        whole = whole[size:]
    return [piece for piece in (*cut, whole) if piece]


def carried(message: bytes) -> re.Pattern[bytes]:
    """What must have been said for this message to be there."""
    stuffed = re.sub(rb"(?m)^\.", b"..", message)
    by_data = rb"DATA\r\n" + re.escape(stuffed) + rb"\.\r\n"
    # Of several chunks only that their octets came, commands between them.
    by_chunks = rb"(?:BDAT \d+[^\r\n]*\r\n)?".join(
        re.escape(message[at : at + 1]) for at in range(len(message))
    )
    by_bdat = rb"BDAT \d+[^\r\n]*\r\n" + by_chunks
    return re.compile(rb"(?is)" + by_data + rb"|" + by_bdat)


# What begins with a space is refused: it would go on in a field of ours.
FIELD = b"X: y\r\n"


class ServerTests(SynchronousTestCase):
    @given(whole=octets, sizes=cuts)
    @settings(max_examples=400, deadline=None)
    @example(whole=BEGIN + b"DATA\r\nx\n.\nMAIL FROM:<>\r\n.\r\n", sizes=[])
    @example(whole=BEGIN + b"BDAT 5 LAST\r\n\r\n.\r\nNOOP\r\n", sizes=[3] * 40)
    def test_whatever_comes(self, whole: bytes, sizes: list[int]) -> None:
        """Whatever octets come in whatever pieces: what is held is bounded, a
        message is accepted only if its octets are those that were sent, one after
        the other, and the session comes to its end."""
        # Nobody waits on purpose: what comes meanwhile is held, too.
        patient = SmtpSettings(
            "mx.example.test", listener="mx", soft_errors=20, junk_commands=1 << 20
        )
        peer = Peer(patient, limits=LIMITS)
        said = b""
        for piece in pieces(whole, sizes):
            if peer.closed:
                break
            peer.stream.dataReceived(piece)
            said += piece
            longest = max(LIMITS.command, LIMITS.sasl) + len(piece)
            self.assertLessEqual(peer.stream.engine.buffered(), longest)
            for content in peer.intake.contents:
                self.assertLessEqual(content.size, LIMITS.content)
        at = 0
        for accepted in peer.intake.accepted:
            found = carried(accepted.octets).search(said, at)
            assert found is not None, f"{accepted.octets!r} was not sent: {said!r}"
            at = found.end()
            self.assertLessEqual(set(accepted.envelope.recipients), {BOB, ALICE})
        for line in peer.heard():
            self.assertRegex(line, r"\A[2-5]\d\d[ -]")
        self.ends(peer)

    def ends(self, peer: Peer) -> None:
        """Whatever state it is in: who says nothing more is sent away."""
        if not peer.closed:
            # The answers to many errors come late, one by one.
            for _ in range(40):
                peer.clock.advance(30)
            self.assertTrue(peer.closed)
        peer.leave()
        self.assertTrue(peer.ended)


BOB = Address("bob", "example.test")
ALICE = Address("alice", "example.test")

_PRINTABLE = "".join(map(chr, range(32, 127)))
addresses = st.builds(
    Address,
    st.text(st.sampled_from(_PRINTABLE + "äß漢"), min_size=1, max_size=20),
    st.sampled_from(["elsewhere.test", "xn--bcher-kva.example", "[192.0.2.1]"]),
)
contents = st.lists(
    st.one_of(
        # Not what shows that the message was here before.
        st.sampled_from([f for f in FRAGMENTS if not f.startswith(b"Received")]),
        st.binary(max_size=30),
    ),
    max_size=20,
).map(b"".join)


def strictly(wire: bytes) -> tuple[list[bytes], list[bytes]]:
    """A reference: what RFC 5321 reads, and nothing that it does not allow.

    @return: the commands, and the messages.
    """
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire), "a bare CR or LF"
    assert wire.endswith(b"\r\n")
    commands, messages = [], []
    read = iter(wire[:-2].split(b"\r\n"))
    for line in read:
        commands.append(line)
        if line.upper() != b"DATA":
            continue
        content = []
        for text in read:
            if text == b".":
                break
            content.append(text[1:] if text.startswith(b".") else text)
        else:
            raise AssertionError("no end of the content")
        messages.append(b"".join(text + b"\r\n" for text in content))
    return commands, messages


class ClientTests(SynchronousTestCase):
    @given(sender=st.none() | addresses, recipient=addresses, content=contents)
    @settings(max_examples=300, deadline=None)
    def test_one_message(
        self, sender: Address | None, recipient: Address, content: bytes
    ) -> None:
        """What our client sends, our server and a strict reader read as the same
        one message with the same envelope, and no command besides."""
        utf8 = not all(a is None or a.ascii for a in (sender, recipient))
        content = FIELD + content
        stuffing = DotStuffing()
        body = stuffing.encode(content) + stuffing.end()
        mail = client.mail(sender, smtputf8=utf8)
        rcpt = client.rcpt(recipient)
        wire = mail + rcpt + client.DATA + body + client.QUIT

        peer = mx(relay_from=Networks(["192.168.0.0/16"]))
        for piece in (mail, rcpt, client.DATA, body, client.QUIT):
            peer.send(piece)
        (accepted,) = peer.intake.accepted

        commands, messages = strictly(wire)
        self.assertEqual(commands, [mail[:-2], rcpt[:-2], b"DATA", b"QUIT"])
        self.assertEqual(messages, [accepted.octets])
        self.assertEqual(accepted.envelope.sender, sender)
        self.assertEqual(accepted.envelope.recipients, (recipient,))
        self.assertTrue(peer.closed)

    @given(content=contents)
    @settings(max_examples=200, deadline=None)
    def test_one_chunk(self, content: bytes) -> None:
        """With BDAT it is the same message as with DATA."""
        content = FIELD + content
        stuffing = DotStuffing()
        data = client.DATA + stuffing.encode(content) + stuffing.end()
        octets = lines(content)
        chunk = client.bdat(len(octets), last=True) + octets
        peer = mx()
        begin = client.mail(None) + client.rcpt(BOB)
        for piece in (begin, client.DATA, data[6:], begin + chunk + client.QUIT):
            peer.send(piece)
        by_data, by_chunk = peer.intake.accepted
        self.assertEqual(by_chunk.octets, by_data.octets)
        self.assertEqual(strictly(data)[1], [by_chunk.octets])
        self.assertTrue(peer.closed)
