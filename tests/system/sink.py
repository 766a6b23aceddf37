"""A mail server that answers as it is told, in a process of its own.

It is written on blocking sockets and threads and shares no code with what it
tests. What it shall do is one word of L{Answer} in a file, read at each MAIL;
what it was told goes as JSON, a line each, into another. Content is not kept in
memory: it is hashed, and written to a file if it is small.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import sys
import threading
from collections.abc import Sequence
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

from tests.system.daemon import Program, wait_until

_ANSWER = "answer"
_EVENTS = "events"

# Content up to here is kept in a file.
_KEPT_OCTETS = 1 << 20


class Answer(Enum):
    """What the sink does with a message."""

    ACCEPT = "accept"
    LATER = "later"  # 450 to RCPT
    REFUSE = "refuse"  # 550 to RCPT
    FULL = "full"  # 452 to the whole content
    SPAM = "spam"  # 554 to the whole content
    HANG = "hang"  # no answer to MAIL
    DROP = "drop"  # hangs up after the whole content, without an answer


class Sink(Program):
    """The sink, started.

    @ivar port: where it listens on 127.0.0.1; any that is free unless it is given.
    """

    def __init__(
        self, directory: Path, answer: Answer = Answer.ACCEPT, port: int = 0
    ) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.answer(answer)
        words = ["-m", "tests.system.sink", str(directory), str(port)]
        super().__init__([sys.executable, *words])
        self.port = int(self.line())

    def answer(self, answer: Answer) -> None:
        """Do this from the next MAIL on."""
        partial = self.directory / "partial"
        partial.write_text(answer.value)
        partial.rename(self.directory / _ANSWER)

    def events(self, of: Answer | None = None) -> list[dict[str, Any]]:
        """Its transactions so far: C{answer}, C{sender}, C{recipients}; and
        C{size}, C{sha256}, C{body_sha256}, C{file} where content came whole."""
        path = self.directory / _EVENTS
        text = path.read_text() if path.exists() else ""
        events = [json.loads(line) for line in text.splitlines()]
        return [one for one in events if of is None or one["answer"] == of.value]

    def wait(self, of: Answer, number: int = 1) -> list[dict[str, Any]]:
        """Wait until it has answered so at least so often."""

        def enough() -> list[dict[str, Any]] | None:
            events = self.events(of)
            return events if len(events) >= number else None

        found: list[dict[str, Any]] = wait_until(
            enough, f"the sink answers {of.value} {number} times", self
        )
        return found

    def message(self, event: dict[str, Any]) -> bytes:
        """The content of a transaction, if it was small."""
        return (self.directory / event["file"]).read_bytes()


def taken(event: dict[str, Any]) -> str:
    """The answer to a message that was accepted, whose event this is."""
    return f"250 2.0.0 Ok: taken {event['sha256']}"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.directory = directory
        self.numbers = count(1)
        self.lock = threading.Lock()

    def tell(self, event: dict[str, Any]) -> None:
        """Append an event."""
        with self.lock, (self.directory / _EVENTS).open("a") as file:
            file.write(json.dumps(event) + "\n")


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.event: dict[str, Any] = {}
        self.say("220 sink.test ESMTP")
        while line := self.rfile.readline(4096):
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            do = getattr(self, f"do_{verb.upper()}", None)
            if do is None:
                self.say("500 5.5.2 What?")
            elif not do(rest):
                return

    def say(self, *lines: str) -> bool:
        """Reply, and go on."""
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
        return True

    def told(self) -> None:
        """The transaction ended."""
        self.server.tell(self.event)
        self.event = {}

    def do_EHLO(self, name: str) -> bool:
        return self.say(
            "250-sink.test",
            "250-PIPELINING",
            "250-SIZE 1000000000",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250 ENHANCEDSTATUSCODES",
        )

    def do_MAIL(self, rest: str) -> bool:
        word = (self.server.directory / _ANSWER).read_text()
        sender = rest.partition("<")[2].partition(">")[0]
        self.event = {"answer": word, "sender": sender, "recipients": []}
        if word == Answer.HANG.value:
            self.told()
            while self.rfile.read(4096):
                pass
            return False
        return self.say("250 2.1.0 Ok")

    def do_RCPT(self, rest: str) -> bool:
        self.event["recipients"].append(rest.partition("<")[2].partition(">")[0])
        word = self.event["answer"]
        if word == Answer.LATER.value:
            return self.say("450 4.2.0 Later")
        if word == Answer.REFUSE.value:
            return self.say("550 5.1.1 Nobody of that name")
        return self.say("250 2.1.5 Ok")

    def do_DATA(self, rest: str) -> bool:
        word = self.event["answer"]
        if word in (Answer.LATER.value, Answer.REFUSE.value):
            self.told()
            return self.say("554 5.5.1 No valid recipients")
        self.say("354 Go on")
        if not self.content():
            return False
        event = self.event
        self.told()
        if word == Answer.DROP.value:
            return False
        replies = {
            Answer.FULL.value: "452 4.3.1 Full",
            Answer.SPAM.value: "554 5.7.1 Spam",
        }
        return self.say(replies.get(word, taken(event)))

    def content(self) -> bool:
        """Read content to its end; C{False} if the client left before it."""
        digest, body, size = hashlib.sha256(), None, 0
        kept: list[bytes] | None = []
        while (line := self.rfile.readline(1 << 20)) != b".\r\n":
            if not line:
                return False
            if line.startswith(b"."):
                line = line[1:]
            digest.update(line)
            if body is not None:
                body.update(line)
            elif line == b"\r\n":
                body = hashlib.sha256()
            size += len(line)
            if kept is not None:
                kept.append(line)
                kept = kept if size <= _KEPT_OCTETS else None
        self.event |= {"size": size, "sha256": digest.hexdigest()}
        if body is not None:
            self.event["body_sha256"] = body.hexdigest()
        if kept is not None:
            name = f"{next(self.server.numbers)}.eml"
            (self.server.directory / name).write_bytes(b"".join(kept))
            self.event["file"] = name
        return True

    def do_RSET(self, rest: str) -> bool:
        self.event = {}
        return self.say("250 2.0.0 Ok")

    do_NOOP = do_RSET

    def do_QUIT(self, rest: str) -> bool:
        self.say("221 2.0.0 Bye")
        return False


def main(words: Sequence[str]) -> None:
    """Serve from a directory; says its port."""
    with _Server(Path(words[0]), int(words[1])) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
