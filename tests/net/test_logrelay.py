"""L{twisted_mta.net.logrelay}: lines of workers in the supervisor's log."""

import io
import re
import unittest
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import (
    FileLogObserver,
    LogEvent,
    Logger,
    LogPublisher,
    formatEvent,
    formatEventAsClassicLogText,
    globalLogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from twisted_mta.net.logrelay import LogRelay, gather, observer


class RelayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = io.StringIO()
        publisher = LogPublisher(
            FileLogObserver(self.file, formatEventAsClassicLogText)
        )
        self.relay = LogRelay(publisher)

    def test_whole_lines(self) -> None:
        """However they come, lines of several workers are never mixed."""
        one, other = self.relay.stream(), self.relay.stream()
        one("first é\nsec".encode()[:7])
        other(b"other\n")
        one("first é\nsec".encode()[7:])
        other(b"more ")
        one(b"ond\n")
        self.assertEqual("other\nfirst é\nsecond\n", self.file.getvalue())

    def test_end(self) -> None:
        """What came without a line's end is there when the worker has ended."""
        stream = self.relay.stream()
        stream(b"last words")
        self.assertEqual("", self.file.getvalue())
        stream(b"")
        stream(b"")
        self.assertEqual("last words\n", self.file.getvalue())

    def test_no_end(self) -> None:
        """A line without an end takes no memory without an end."""
        stream = self.relay.stream()
        for _ in range(20):
            stream(b"x" * 10_000)
        self.assertGreater(len(self.file.getvalue()), 100_000)

    def test_rotated(self) -> None:
        """twistd's log file is opened anew behind us."""
        file = LogFile.fromFullPath(self.mktemp())
        self.addCleanup(file.close)
        relay = LogRelay(LogPublisher(FileLogObserver(file, lambda event: "")))  # type: ignore[arg-type]
        stream = relay.stream()
        stream(b"before\n")
        file.rotate()
        stream(b"after\n")
        with open(file.path) as new, open(file.path + ".1") as old:
            self.assertEqual(("after\n", "before\n"), (new.read(), old.read()))

    def test_no_file(self) -> None:
        """A log that is no file (syslog) gets an event for each line, with a
        time of its own."""
        heard: list[LogEvent] = []
        relay = LogRelay(LogPublisher())
        globalLogPublisher.addObserver(heard.append)
        self.addCleanup(globalLogPublisher.removeObserver, heard.append)
        relay.stream()(b"2026-01-31T12:00:00+0000 [w1 x#info] one\nTraceback\n")
        texts = [formatEvent(event) for event in heard]
        self.assertIn("[w1 x#info] one", texts[0])
        self.assertNotIn("2026", texts[0])
        self.assertEqual("Traceback", texts[1])


class GatherTests(SynchronousTestCase):
    def test_while_it_runs(self) -> None:
        """Lines of this process are as twistd writes them, in fewer writes; a worker's
        stand among them. At the end Twisted's observer is there again."""
        file = io.StringIO()
        theirs = FileLogObserver(file, formatEventAsClassicLogText)
        publisher = LogPublisher(theirs)
        reactor = MemoryReactorClock()
        log = Logger("mail", observer=publisher)
        log.info("before")
        gather(reactor, publisher)
        log.info("{what}\nof two", what="one")
        self.assertNotIn("one", file.getvalue())
        reactor.advance(0)
        log.warn("at once")
        LogRelay(publisher).stream()(b"a worker's\n")
        log.info("the last")
        for trigger in reactor.triggers["after"]["shutdown"]:
            trigger[0](*trigger[1], **trigger[2])
        log.info("after")
        lines = file.getvalue().splitlines()
        self.assertRegex(
            lines[1], r"^\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d{4} \[mail#info\] one$"
        )
        said = [re.sub(r"^.*#\w+\] ", "", line) for line in lines]
        self.assertEqual(
            said,
            ["before", "one", "\tof two", "at once", "a worker's", "the last", "after"],
        )
        self.assertEqual(publisher._observers, [theirs])

    def test_another_form(self) -> None:
        """A log that is no file, or written in another form, is left alone."""
        for theirs in (
            [].append,
            jsonFileLogObserver(io.StringIO()),
            textFileLogObserver(io.StringIO(), timeFormat="%H"),
        ):
            publisher = LogPublisher(theirs)  # type: ignore[arg-type]
            gather(MemoryReactorClock(), publisher)
            self.assertEqual(publisher._observers, [theirs])

    def test_few_characters(self) -> None:
        """What a terminal has no character for is written otherwise, and nothing
        beside it is lost."""
        octets = io.BytesIO()
        file = io.TextIOWrapper(octets, encoding="ascii")
        relay = LogRelay(LogPublisher(textFileLogObserver(file)))
        relay.stream()("one\njürgen\ntwo\n".encode())
        self.assertEqual(octets.getvalue(), b"one\nj\\xfcrgen\ntwo\n")


class ObserverTests(unittest.TestCase):
    def setUp(self) -> None:
        self.written: list[bytes] = []
        self.log = Logger("mail", observer=self.observer(self.written.append))

    def observer(self, write: Any) -> Any:
        lines = observer(Clock(), "w3", write)
        lines.end()  # each line is written at once
        return lines

    def test_line(self) -> None:
        """A line is as twistd writes it, with the worker's name."""
        self.log.info("{id}: accepted", id="abc")
        (line,) = self.written
        self.assertRegex(
            line.decode(),
            r"^\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d{4} \[w3 mail#info\] abc: accepted\n$",
        )

    def test_one_event(self) -> None:
        """What has several lines looks like one that goes on."""
        try:
            raise ValueError("broken")
        except ValueError:
            self.log.failure("it failed")
        first, *others = self.written[0].decode().splitlines()
        self.assertIn("it failed", first)
        self.assertTrue(all(line.startswith("\t") for line in others))
        self.assertIn("broken", self.written[0].decode())

    def test_reactor_ends(self) -> None:
        """That the reactor of a worker has ended, as it says itself, is no news."""
        self.log.info("Main loop terminated.")
        self.log.info("Something else.")
        (line,) = self.written
        self.assertIn(b"Something else.", line)

    def test_supervisor_gone(self) -> None:
        """Nothing is raised when nobody reads any more."""

        def write(octets: bytes) -> None:
            self.written.append(octets)
            raise BrokenPipeError

        log = Logger("mail", observer=self.observer(write))
        log.info("one")
        log.info("two")
        self.assertEqual(2, len(self.written))
