"""Rows of HOSTILE.md about those who take their time, or take all there is:
many connections, against the real server."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from tests.system.daemon import wait_until
from tests.system.hostilecase import MIB, HostileCase, Wire

_ADDRESSES = 10

# How a TLS client begins: a handshake record of 512 octets, of which few come.
_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

# What is said at a listener, and never finished.
_HALF = {
    "smtp": b"EHLO else",
    "submission": b"EHLO here.test\r\nSTARTTLS\r\n",
    "submissions": _HANDSHAKE,
    "imap": b"a LOGIN bob@exam",
    "imaps": _HANDSHAKE,
    "pop3": b"USER bo",
    "pop3s": _HANDSHAKE,
}
_CONTENT = (
    b"EHLO elsewhere.test\r\n",
    b"MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n",
    b"Subject: never finished\r\n\r\nx",
)


def raw(case: HostileCase, name: str, source: str) -> Wire:
    """A connection that has neither read a greeting nor begun TLS."""
    return Wire(case.port(name), source)


def slow(case: HostileCase, name: str, source: str) -> Wire:
    """One that has said half of something."""
    wire = raw(case, name, source)
    if name in ("submissions", "imaps", "pop3s"):
        wire.send(_HALF[name])
        return wire
    wire.line()
    for part in _HALF[name].splitlines(keepends=True):
        wire.send(part)
        if part.endswith(b"\n"):
            wire.until(b"250 " if part.startswith(b"EHLO") else b"220")
    return wire


def content(case: HostileCase, source: str) -> Wire:
    """One that is in the middle of a message."""
    wire = raw(case, "smtp", source)
    wire.line()
    wire.send(_CONTENT[0])
    wire.until(b"250 ")
    wire.send(_CONTENT[1])
    wire.until(b"354")
    wire.send(_CONTENT[2])
    return wire


@contextlib.contextmanager
def crowd(case: HostileCase, each: int) -> Iterator[list[Wire]]:
    """So many connections of each kind from each of the addresses."""
    with contextlib.ExitStack() as stack:
        wires = []
        for number in range(_ADDRESSES):
            source = f"127.0.1.{number + 1}"
            for _ in range(each):
                for name in _HALF:
                    wires.append(stack.enter_context(slow(case, name, source)))
                wires.append(stack.enter_context(content(case, source)))
        yield wires


class PatientTests(HostileCase):
    """A server with the deadlines that it has by default."""

    def test_h36_slow_clients(self) -> None:
        """Four hundred clients that say an octet now and then, of a command, a
        message, a login or a handshake: the others do not notice."""
        with self.under_attack(40 * MIB), crowd(self, 5) as wires:
            self.assertEqual(len(wires), 400)
            for _ in range(3):
                for wire in wires:
                    self.assertTrue(wire.send(b"x"))
                self.honest()

    def test_h36_from_one_address(self) -> None:
        """An address has fifty connections, whatever they are for; the next one
        is told so in the words of its protocol. Another address has its own."""
        goodbyes = {"smtp": b"421 ", "imap": b"* BYE ", "pop3": b"-ERR [SYS/TEMP]"}
        with contextlib.ExitStack() as stack:
            for number in range(50):
                name = list(_HALF)[number % len(_HALF)]
                stack.enter_context(slow(self, name, "127.0.2.1"))
            for name, goodbye in goodbyes.items():
                with raw(self, name, "127.0.2.1") as wire:
                    self.assertTrue(wire.rest().startswith(goodbye), name)
            with raw(self, "imaps", "127.0.2.1") as wire:
                wire.rest()  # ends, whatever it says
            self.honest()
        self.logged(r"refused .*127\.0\.2\.1")
        wait_until(
            lambda: self.admitted("127.0.2.1"),
            "the address may come again",
            self.server,
        )

    def test_h38_idle_clients(self) -> None:
        """A hundred and fifty that are logged in and idle cost little."""
        with contextlib.ExitStack() as stack, self.under_attack(24 * MIB):
            for number in range(150):
                source = f"127.0.3.{number // 40 + 1}"
                client = stack.enter_context(self.reader(source))
                client.say("c IDLE", b"+")
            self.honest()

    def admitted(self, source: str) -> bool:
        """Whether a client of the address is greeted."""
        with raw(self, "smtp", source) as wire:
            return wire.line().startswith(b"220 ")


class FullTests(HostileCase):
    """A server with few places."""

    SETTINGS = "connections: {most: 60}\n"

    def test_h36_all_places(self) -> None:
        """Half-open sessions from four addresses take all places, and take them
        again; the others have theirs, and those that are logged in stay."""
        with contextlib.ExitStack() as stack, self.under_attack(24 * MIB):
            reader = stack.enter_context(self.reader("127.0.5.1"))
            for _ in range(3):
                for number in range(80):
                    source = f"127.0.4.{number // 20 + 1}"
                    stack.enter_context(raw(self, "smtp", source)).send(b"EHLO e")
                self.honest()
            reader.say("c NOOP", b"c OK")
        self.logged("neither logged in nor sent mail made room")


class ImpatientTests(HostileCase):
    """A server that waits for nobody."""

    SETTINGS = "smtp: {idle: 2s, total: 4s}\nimap: {login_idle: 2s, idle: 2s}\n"

    def test_h36_deadlines(self) -> None:
        """Each of the slow clients is sent away, though it says something now
        and then, and its half of a message is nowhere."""
        with self.under_attack(24 * MIB), contextlib.ExitStack() as stack:
            wires = [
                stack.enter_context(wire)
                for _ in range(5)
                for wire in (
                    slow(self, "smtp", "127.0.1.1"),
                    slow(self, "submission", "127.0.1.2"),
                    slow(self, "imap", "127.0.1.3"),
                    content(self, "127.0.1.4"),
                )
            ]
            wait_until(
                lambda: not [wire for wire in wires if wire.send(b"x")],
                "all are sent away",
                self.server,
            )


class DrippingTests(HostileCase):
    """A server that waits for nobody, and lets connections last."""

    SETTINGS = "smtp: {idle: 2s}\n"

    def test_h36_content_that_drips(self) -> None:
        """Who sends an octet of content now and then is sent away, with the reason,
        and its half of a message is nowhere."""
        with self.under_attack(24 * MIB), contextlib.ExitStack() as stack:
            wires = [stack.enter_context(content(self, "127.0.1.4")) for _ in range(20)]
            wait_until(
                lambda: not [wire for wire in wires if wire.send(b"x")],
                "all are sent away",
                self.server,
            )
        self.logged("refused: content came slower than 500 octets/s")


class FewDescriptorsTests(HostileCase):
    """A server that may open 256 files."""

    def setUp(self) -> None:
        super().setUp()
        limits = (256, 256)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, limits)

    def opened(self) -> int:
        """How many files the server has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def test_h38_no_descriptors(self) -> None:
        """When it cannot open one more file, it goes on with the clients that it
        has; those who knock are let in or hung up on, so that nobody is left
        in the queue to be asked about again and again; and when there is room,
        it is as before."""
        with self.wire("smtp") as early, self.under_attack(24 * MIB):
            early.say("EHLO elsewhere.test", b"250 ")
            room = self.opened() + 20
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (room, 256))
            with contextlib.ExitStack() as stack:
                wires = []
                for number in range(200):
                    source = f"127.0.4.{number // 20 + 1}"
                    wires.append(stack.enter_context(raw(self, "smtp", source)))
                greeted = [wire.line().startswith(b"220 ") for wire in wires]
                self.assertIn(True, greeted)
                self.assertIn(False, greeted)
                self.assertEqual(early.say("NOOP")[:3], b"250")
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (256, 256))
            wait_until(lambda: self.opened() < room, "the others are gone", self.server)
            self.honest()
