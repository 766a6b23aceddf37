"""L{twisted_mta.net.logline}."""

import threading
import unittest
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel
from twisted.python import threadable
from twisted.python.failure import Failure

from twisted_mta.net.logline import Lines, text_of, time_of


class Reactor(Clock):
    """A clock that takes calls from threads."""

    def callFromThread(self, call: Any) -> None:
        self.callLater(0, call)


class TextTests(unittest.TestCase):
    def test_formats(self) -> None:
        """Simple formats, those with calls, failures and broken ones come out as
        Twisted has them."""
        try:
            raise ZeroDivisionError("one")
        except ZeroDivisionError:
            failure = Failure()  # type: ignore[no-untyped-call]
        for form, fields, text in [
            ("{a}: {b!r}", {"a": 1, "b": "x"}, "1: 'x'"),
            ("{a()}", {"a": lambda: "called"}, "called"),
            ("{missing}", {}, "Unable to format event"),
            ("bad", {"log_failure": failure}, "ZeroDivisionError: one"),
            (None, {}, ""),
        ]:
            with self.subTest(form):
                self.assertIn(text, text_of({"log_format": form, **fields}))

    def test_time(self) -> None:
        """A time is the local one."""
        self.assertRegex(time_of(1_700_000_000, "%H:%M:%S"), r"^\d\d:\d\d:20$")


class LinesTests(unittest.TestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.written: list[str] = []
        self.lines = Lines(
            self.reactor, lambda event: event.get("text", ""), self.written.append
        )
        before = threadable.ioThread
        threadable.registerAsIOThread()  # type: ignore[no-untyped-call]
        self.addCleanup(setattr, threadable, "ioThread", before)

    def say(self, text: str, level: object = LogLevel.info) -> None:
        self.lines({"text": text, "log_level": level})

    def test_together(self) -> None:
        """What is said in one turn leaves in one write, in order."""
        for text in "abc":
            self.say(text)
        self.assertEqual(self.written, [])
        self.reactor.advance(0)
        self.say("d")
        self.reactor.advance(0)
        self.assertEqual(self.written, ["abc", "d"])

    def test_warnings_leave_at_once(self) -> None:
        """A warning leaves at once, with what was said before it."""
        self.say("a")
        self.say("b", LogLevel.warn)
        self.assertEqual(self.written, ["ab"])
        self.reactor.advance(0)
        self.assertEqual(self.written, ["ab"])

    def test_left_out(self) -> None:
        """What has no line is left out."""
        self.say("")
        self.reactor.advance(0)
        self.assertEqual(self.written, [])

    def test_threads(self) -> None:
        """Lines of all threads leave, each whole and once."""
        threads = [
            threading.Thread(target=lambda name=name: self.say(name * 3))
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.reactor.advance(0)
        self.assertEqual(
            sorted("".join(self.written)), sorted("aaabbbcccddd"), self.written
        )

    def test_said_within(self) -> None:
        """What a signal's handler says in the middle of a write, or of a line, waits
        for nobody: it is written later."""

        def write(text: str) -> None:
            self.written.append(text)
            if text == "one":
                self.say("two")
                self.say("three", LogLevel.warn)

        def line(event: LogEvent) -> str:
            if event["text"] == "four":
                self.say("five")
            return str(event["text"])

        self.lines = Lines(self.reactor, line, write)
        self.say("one")
        self.reactor.advance(0)
        # Not within, but by who was writing.
        self.assertEqual(self.written, ["one", "twothree"])
        self.reactor.advance(0)
        self.say("four")
        self.reactor.advance(0)
        self.assertEqual(self.written[2:], ["fivefour"])

    def test_end(self) -> None:
        """After the reactor nothing waits for it."""
        self.say("a")
        self.lines.end()
        self.say("b")
        self.assertEqual(self.written, ["a", "b"])
