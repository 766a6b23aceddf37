"""How long mail for elsewhere waits, and what the sender reads meanwhile, by the
real daemon with a queue of seconds instead of days; and the queue in an
operator's hands."""

import unittest
from typing import Any

from tests.system.daemon import Directory, Server, free_port_base, wait_until
from tests.system.relaycase import (
    PASSWORD,
    config,
    inbox,
    queue,
    report,
    submit,
    wait_for,
)
from tests.system.sink import Answer, Sink

SUBJECT = "Subject: secret plan\r\n"


class QueueCase(unittest.TestCase):
    """A server whose mail goes to a sink that puts it off, at first.

    @cvar times: of the queue.
    """

    times = ""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.sink = Sink(directory.path / "sink", Answer.LATER)
        self.addCleanup(self.sink.kill)
        base = free_port_base()
        route = f'routes: [{{domain: "*", next_hop: "127.0.0.1:{self.sink.port}"}}]\n'
        queue_times = f"queue: {{{self.times}}}\n" if self.times else ""
        path = config(directory.path, base, "a.test", route + queue_times)
        self.server = Server(path, base)
        self.addCleanup(self.server.kill)
        self.server.command("account", "add", "alice@a.test", text=PASSWORD)
        submit(self.server, "alice@a.test", ["bob@b.test"], SUBJECT + "\r\nHello\r\n")

    def row(self, **state: Any) -> dict[str, Any]:
        """The only row of the queue, once it is so."""

        def so() -> dict[str, Any] | None:
            (row,) = queue(self.server)
            return row if state.items() <= row.items() else None

        found: dict[str, Any] = wait_until(so, f"the row is {state}", self.server)
        return found

    def emptied(self) -> None:
        """Wait until nothing is in the queue."""
        wait_until(lambda: not queue(self.server), "the queue is empty", self.server)


class GivenUpTests(QueueCase):
    """Nobody takes it."""

    times = (
        "first_retry: 1s, growth_percent: 100, longest_retry: 1s, warn_after: 2s,"
        " give_up_after: 5s"
    )

    def test_warned_then_returned(self) -> None:
        """The sender is told once that the message is late, and once that it
        failed, with the last answer; then nothing is left."""
        warning, failure = map(report, wait_for(self.server, "alice@a.test", 2))
        self.assertEqual(warning.delayed, {"bob@b.test": "4.2.0"})
        self.assertEqual(warning.failed, {})
        self.assertEqual(failure.failed, {"bob@b.test": "4.4.7"})
        for told in (warning, failure):
            self.assertIn("450 4.2.0 Later", told.status)
            self.assertIn(SUBJECT.strip(), told.header)
            self.assertNotIn("Hello", told.header)
        self.emptied()
        self.assertEqual(len(inbox(self.server, "alice@a.test")), 2)
        self.assertGreaterEqual(len(self.sink.events(Answer.LATER)), 4)


class OperatorTests(QueueCase):
    """An operator's commands reach the running server."""

    def test_listed_and_flushed(self) -> None:
        """The listing says what the last attempt met; a flush does not wait
        for the next one, which is 5 minutes away."""
        row = self.row(attempts=1)
        self.assertEqual(row["sender"], "alice@a.test")
        self.assertEqual(row["recipient"], "bob@b.test")
        self.assertEqual(row["state"], "waiting")
        self.assertIn("450 4.2.0 Later", row["diagnostic"])
        self.assertGreater(row["due"] - row["queued_at"], 299)
        self.assertIn("450 4.2.0", self.server.command("queue", "show", row["id"]))
        self.sink.answer(Answer.ACCEPT)
        self.server.command("queue", "flush", row["id"])
        self.sink.wait(Answer.ACCEPT)
        self.emptied()

    def test_held_and_released(self) -> None:
        """What is held is not tried, whatever is flushed, until it is
        released."""
        id = self.row(attempts=1)["id"]
        self.sink.answer(Answer.ACCEPT)
        self.server.command("queue", "hold", id)
        self.server.command("queue", "flush")
        self.assertEqual(self.row()["state"], "held")
        self.assertEqual(self.sink.events(Answer.ACCEPT), [])
        self.server.command("queue", "release", id)
        self.sink.wait(Answer.ACCEPT)
        self.emptied()

    def test_removed(self) -> None:
        """What is removed is gone, and nobody is told."""
        self.server.command("queue", "remove", self.row(attempts=1)["id"])
        self.assertEqual(queue(self.server), [])
        self.assertEqual(inbox(self.server, "alice@a.test"), [])
