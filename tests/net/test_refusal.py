"""L{twisted_mta.net.refusal}."""

from itertools import count

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from twisted_mta.net.refusal import Refusals


class RefusalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        numbers = count(1)
        self.refusals = Refusals(
            self.clock,  # type: ignore[arg-type]
            lambda: f"smtp-{next(numbers):x}",
            str.encode,
        )

    def refuse(self, why: str, host: str = "192.0.2.1") -> tuple[str, list[str]]:
        """The name that a client is told, and the lines of the log."""
        with capturedLogs() as captured:
            name = self.refusals.refuse(why, host).decode()
        return name, [str(formatEvent(event)) for event in captured]

    def test_reason(self) -> None:
        """The log has the whole reason under the name that the client reads."""
        name, (line,) = self.refuse("too many connections from 192.0.2.1")
        why = "too many connections from 192.0.2.1, client=192.0.2.1, count=1"
        self.assertEqual(line, f"{name}: refused connection: {why}")
        self.assertEqual(name, "smtp-1")

    def test_h38_flood(self) -> None:
        """Of a flood there is one line in 10 s for each reason, and the next says how
        many there were."""
        self.assertEqual(self.refuse("a")[0], "smtp-1")
        for _ in range(1000):
            self.assertEqual(self.refuse("a"), ("smtp-1", []))
        self.assertIn("client=-, count=1001", self.refuse("b", "")[1][0])
        self.clock.advance(10)
        name, (line,) = self.refuse("a")
        self.assertEqual(name, "smtp-3")
        self.assertIn("count=1", line)

    def test_h38_many_reasons(self) -> None:
        """There are no more names, and lines, than a hundred in that time; clients of
        more networks are told the last one."""
        lines = []
        for number in range(300):
            name, said = self.refuse(str(number))
            lines += said
        self.assertEqual((name, len(lines)), ("smtp-64", 100))
