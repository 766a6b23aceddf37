"""Two clients on one mailbox, doing anything in turn: what they were told adds up
to what the store has."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from tests.servers.imapdrive import PLAIN, Server, now
from twisted_mta.mail.flag import RECENT

_SILENT = re.compile(r"(UID |)STORE (\d+) ([+-]?)FLAGS\.SILENT \((.*)\)")


class Believer:
    """A client that knows its mailbox only by what it is told.

    @ivar messages: UID, if it was told, and flags, of each number.
    """

    def __init__(self, server: Server) -> None:
        self.messages: list[list] = []
        self.conversation = server.login()
        self.idling = False
        self.say("SELECT INBOX")
        self.say("UID FETCH 1:* FLAGS")

    def say(self, command: str) -> None:
        """Give a command, or end IDLE, and believe the answer."""
        if self.idling:
            self.idling = False
            self.conversation.send(b"DONE\r\n")
            self.hear()
            return
        self.idling = command == "IDLE"
        self.conversation.send(f"a {command}\r\n".encode())
        names_numbers = re.match(r"(FETCH|STORE|SEARCH)", command) is not None
        self.hear(may_expunge=not names_numbers)
        if found := _SILENT.fullmatch(command):
            self.assume(*found.groups())

    def assume(self, uid: str, number: str, sign: str, flags: str) -> None:
        """What STORE.SILENT has done is not told."""
        given = frozenset(flags.split())
        for at, message in enumerate(self.messages, 1):
            if int(number) == (message[0] if uid else at) and message[1] is not None:
                message[1] = {
                    "": given,
                    "+": message[1] | given,
                    "-": message[1] - given,
                }[sign]

    def hear(self, may_expunge: bool = True) -> None:
        """Believe what has come."""
        for line in self.conversation.received().decode().split("\r\n"):
            words = line.split()
            if len(words) < 3 or not words[1].isdigit():
                continue
            number, what = int(words[1]), words[2]
            if what == "EXISTS":
                if number < len(self.messages):
                    raise AssertionError("EXISTS shrinks")
                while len(self.messages) < number:
                    self.messages.append([None, None])
            elif what == "EXPUNGE":
                if not may_expunge:
                    raise AssertionError("EXPUNGE while numbers are in use")
                del self.messages[number - 1]
            elif what == "FETCH":
                self.learn(number, line)

    def learn(self, number: int, line: str) -> None:
        """A FETCH response."""
        message = self.messages[number - 1]
        if found := re.search(r"UID (\d+)", line):
            if message[0] not in (None, int(found[1])):
                raise AssertionError(f"number {number} was {message[0]}: {line}")
            message[0] = int(found[1])
        if found := re.search(r"FLAGS \(([^)]*)\)", line):
            message[1] = frozenset(found[1].split()) - {RECENT}


_NUMBER = st.integers(1, 5)
_COMMANDS = st.one_of(
    st.sampled_from(
        [
            "NOOP",
            "EXPUNGE",
            "IDLE",
            "CHECK",
            "SEARCH ALL",
            "FETCH 1 (UID FLAGS BODY[TEXT])",
            "UID FETCH 1:* (FLAGS)",
            "FETCH 1 ENVELOPE",
        ]
    ),
    st.builds(
        "{}STORE {} {}FLAGS{} ({})".format,
        st.sampled_from(["", "UID "]),
        _NUMBER,
        st.sampled_from(["", "+", "-"]),
        st.sampled_from(["", ".SILENT"]),
        st.sampled_from(["\\Seen", "\\Deleted", "\\Deleted \\Flagged", "word"]),
    ),
    st.builds("{} {} INBOX".format, st.sampled_from(["COPY", "MOVE"]), _NUMBER),
    st.builds("UID MOVE {}:{} INBOX".format, _NUMBER, _NUMBER),
    st.builds("UID EXPUNGE {}:*".format, _NUMBER),
)


class TwoClientTests(TestCase):
    """RFC 3501 5.5 and 7.4.1, RFC 2180."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 2), _COMMANDS), max_size=25))
    def test_any_two_clients(self, turns: list[tuple[int, str]]) -> None:
        """Whatever two clients do in turn while mail comes in, numbers name
        the same message to a client until it is told otherwise, and in the end
        both know the mailbox as it is."""
        server = Server()
        server.put(PLAIN, PLAIN, PLAIN)
        clients = [Believer(server), Believer(server)]
        for who, command in turns:
            if who == 2:
                server.put(PLAIN)
            else:
                clients[who].say(command)
        mailbox = now(server.account().open("INBOX"))
        rows = now(mailbox.changes()).rows
        for client in clients:
            if client.idling:
                client.say("DONE")
            client.say("NOOP")
            known = [flags for _, flags in client.messages]
            self.assertEqual(len(known), len(rows))
            for flags, row in zip(known, rows, strict=True):
                self.assertIn(flags, (None, row.flags))  # None: it came lately
            client.say("UID FETCH 1:* FLAGS")
            expected = [[row.uid, row.flags] for row in rows]
            self.assertEqual(client.messages, expected)
