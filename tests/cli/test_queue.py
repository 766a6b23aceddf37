"""C{twisted-mta queue}: what it shows, and says of what it did."""

import argparse
import contextlib
import io
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.delivery.fakes import ALICE, BOB, CAROL, DEFERRED, MESSAGE, always
from tests.delivery.test_release import ReleaseCase
from twisted_mta.cli import main, queue, queuechange, queueorder, table
from twisted_mta.errors import NoSuchQueueId
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text


class QueueCase(ReleaseCase):
    """Runs C{twisted-mta queue} on an office in memory."""

    def said(self, *words: str, width: int | None = None) -> str:
        """The lines that a command prints.

        @param width: of the terminal.
        """

        def with_office(options: object, work: Callable[[Any], Awaitable[Any]]) -> Any:
            done: list[Any] = []
            Deferred.fromCoroutine(work(self.office)).addBoth(done.append)  # type: ignore[arg-type]
            if isinstance(done[0], Failure):
                done[0].raiseException()
            return done[0]

        options = main.parser().parse_args(["queue", *words])
        output = io.StringIO()
        with contextlib.ExitStack() as stack:
            for module in (queue, queuechange, queueorder):
                patch = mock.patch.object(module, "with_office", with_office)
                stack.enter_context(patch)
            for name, value in (
                ("terminal", lambda: width),
                ("when", lambda seconds: f"T{seconds - self.start:.0f}"),
            ):
                stack.enter_context(mock.patch.object(table, name, value))
            stack.enter_context(
                mock.patch.object(queue.time, "time", self.clock.seconds)
            )
            stack.enter_context(contextlib.redirect_stdout(output))
            self.assertEqual(main.find(options.run)(options), 0)
        return output.getvalue()

    def send(self, sender: Address | None = ALICE, *recipients: Address) -> str:
        """The id of a message that waits for its first attempt."""
        made = self.office.send(sender, *(recipients or (CAROL,)))
        return to_text(self.now(made).id)

    def waiting(self) -> str:
        """The id of a message that waits for its second attempt."""
        made = self.now(self.office.send(ALICE, CAROL, octets=MESSAGE))
        (job,) = self.due()
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        return to_text(made.id)


class ChangeTests(QueueCase):
    """What it says of what it did."""

    def test_flush(self) -> None:
        """It says how many are tried, of all or of those that are named."""
        id = self.waiting()
        for ids in ((), (id,)):
            self.assertEqual(
                self.said("flush", *ids), "1 message will be tried now\n"
            )
        self.assertEqual(len(self.due()), 1)

    def test_flush_held(self) -> None:
        """What an operator holds is not tried, and it says what helps."""
        id, other = self.waiting(), self.waiting()
        self.assertEqual(self.said("hold", id), "1 message held\n")
        expected = (
            "1 message will be tried now\n"
            f"{id}: 1 of 1 recipients held;"
            f" to let them go: twisted-mta queue release {id}\n"
        )
        self.assertEqual(self.said("flush", id, other), expected)
        self.assertEqual(len(self.due()), 1)

    def test_flush_for_later(self) -> None:
        """What its sender has held is released if it is named, and only then."""
        id = to_text(self.hold(BOB).id)
        self.assertEqual(self.said("flush"), "0 messages will be tried now\n")
        self.assertEqual(self.due(), [])
        self.assertEqual(self.said("flush", id), "1 message will be tried now\n")
        self.assertEqual(len(self.due()), 1)

    def test_release(self) -> None:
        """It says which were held, and what goes on waiting."""
        id, later = self.waiting(), to_text(self.hold(BOB).id)
        none = "0 messages released\n"
        self.assertEqual(self.said("release", id), f"{none}{id} was not held\n")
        time = "T3600"
        waits = (
            f"{later} waits until {time}, as its sender asked;"
            f" to send it now: twisted-mta queue flush {later}\n"
        )
        self.assertEqual(self.said("release", later), none + waits)
        self.said("hold", later, id)
        expected = f"2 messages released\n{waits}"
        self.assertEqual(self.said("release", id, later), expected)

    def test_no_such(self) -> None:
        """One that is not there is an error, and nothing is done to the others."""
        id = self.waiting()
        for command in ("flush", "hold", "release", "remove", "requeue", "bounce"):
            self.assertRaises(NoSuchQueueId, self.said, command, id, "zzzzzzzzzzzzz")
        self.assertEqual(self.said("remove", id), "1 message removed\n")
