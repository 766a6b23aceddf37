"""Mail that its sender has held until a time (FUTURERELEASE), by the real daemon."""

from __future__ import annotations

import time

from tests.system.clients import ALICE, BOB, Served, message
from tests.system.daemon import wait_until


class Held(Served):
    """Alice writes to bob, for later."""

    def send(self, about: str, held_s: int) -> None:
        with self.submission() as session:
            session.ehlo()
            self.assertTrue(session.has_extn("futurerelease"))
            mail = message(ALICE, (BOB,), about)
            session.send_message(mail, ALICE, (BOB,), [f"HOLDFOR={held_s}"])

    def test_released(self) -> None:
        """It is in bob's mailbox once, and not before its time."""
        begun = time.time()
        self.send("later", 2)
        wait_until(lambda: self.subjects(BOB), "it is released", self.daemon)
        self.assertGreaterEqual(time.time(), begun + 2)
        self.assertEqual(self.subjects(BOB), ["later"])
        self.assertEqual(self.daemon.command("queue", "list").count(BOB), 0)
        wait_until(lambda: ": released as " in self.daemon.log, "the log says it")

    def test_early(self) -> None:
        """An operator can release it before its time, by naming it."""
        self.send("much later", 86400)
        listed = self.daemon.command("queue", "list").splitlines()
        (line,) = (one for one in listed if BOB in one)
        said = self.daemon.command("queue", "flush", line.split()[0])
        self.assertIn("1 message will be tried now", said)
        wait_until(lambda: self.subjects(BOB), "it is released", self.daemon)
        self.assertEqual(self.daemon.command("queue", "list").count(BOB), 0)

    def test_taken_back(self) -> None:
        """It can be seen in the queue, and is not hurried but removed there."""
        self.send("much later", 86400)
        self.daemon.command("queue", "flush")
        listed = self.daemon.command("queue", "list").splitlines()
        (line,) = (one for one in listed if BOB in one)
        self.daemon.command("queue", "remove", line.split()[0])
        self.assertEqual(self.daemon.command("queue", "list").count(BOB), 0)
        self.assertEqual(self.subjects(BOB), [])
