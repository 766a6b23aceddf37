"""C{twisted-mta queue}: what it shows, and says of what it did."""

import contextlib
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    ERIN,
    MESSAGE,
    always,
)
from tests.delivery.test_release import ReleaseCase
from twisted_mta.cli import (
    main,
    queue,
    queuechange,
    queueorder,
    queuewatch,
    table,
)
from twisted_mta.errors import BadFilter, NoSuchQueueId
from twisted_mta.mail.address import Address
from twisted_mta.mail.count import Count
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Page


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

    def setUp(self) -> None:
        super().setUp()
        self.office.check_way = lambda agent, next_hop: None  # type: ignore[attr-defined]

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
            self.assertEqual(self.said("flush", *ids), "1 message will be tried now\n")
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

    def test_release_now(self) -> None:
        """What goes on its way at once is not said to wait."""
        id = self.waiting()
        self.said("hold", id)
        self.said("redirect", id, "--to", str(BOB))
        self.assertEqual(self.said("release", id), "1 message released\n")

    def test_no_such(self) -> None:
        """One that is not there is an error, and nothing is done to the others."""
        id = self.waiting()
        for command in ("flush", "hold", "release", "remove", "requeue", "bounce"):
            self.assertRaises(NoSuchQueueId, self.said, command, id, "zzzzzzzzzzzzz")
        self.assertEqual(self.said("remove", id), "1 message removed\n")

    def test_filter(self) -> None:
        """What is meant can be said by a filter; everything must be said."""
        self.send(ALICE, CAROL, ERIN)
        for words in (
            ("hold",),
            ("remove",),
            ("bounce",),
            ("redirect", "--to", "x@y.z"),
        ):
            error = self.assertRaises(BadFilter, self.said, *words)
            self.assertIn("--all", error.text)
        self.assertEqual(
            self.said("hold", "--domain", "third.test", "--reason", "x"),
            "1 message held\n",
        )
        self.assertEqual(
            self.said("remove", "--all"), "1 message (2 recipients) removed\n"
        )

    def test_no_address(self) -> None:
        """What can fit no address is told; patterns and what has no domain are not."""
        for name in ("--sender", "--recipient", "--account"):
            error = self.assertRaises(BadFilter, self.said, "list", name, "a.test")
            self.assertIn(f"{name}: 'a.test' fits nothing", error.text)
        self.assertRaises(BadFilter, self.said, "rules", "add", "--sender", "ann")
        for name, text in (
            ("--sender", "<>"),
            ("--sender", "a*"),
            ("--recipient", "postmaster"),
        ):
            self.said("list", name, text)

    def test_dry_run(self) -> None:
        """What would be done is shown, and not done."""
        for _ in range(12):
            self.send()
        said = self.said("remove", "--all", "--dry-run").splitlines()
        self.assertEqual(len(said), 1 + 10 + 2)
        self.assertEqual(
            said[-1], "12 messages would be meant (removed); nothing was done"
        )
        self.assertEqual(self.ledger.count("queued"), 12)

    def test_dry_run_of_nonsense(self) -> None:
        """What could not be done is told by a dry run, too."""

        def refuse(agent: str, next_hop: str) -> None:
            raise BadFilter("no such agent")

        self.office.check_way = refuse  # type: ignore[attr-defined]
        words = ("requeue", "--all", "--agent", "x", "--dry-run")
        self.assertRaises(BadFilter, self.said, *words)

    def test_busy(self) -> None:
        """What is being tried is left alone, and that is said."""
        id = self.send()
        self.due()
        self.assertEqual(
            self.said("bounce", id),
            "0 messages returned\n1 recipient left alone, being tried or in other hands"
            " now; look again in a while\n",
        )

    def test_requeue(self) -> None:
        """Mail is sent on another way, by an agent that there is."""
        id = self.send()
        said = self.said("requeue", id, "--agent", "lmtp", "--next-hop", "[h]:24")
        self.assertEqual(said, "1 message requeued\n")
        (row,) = json.loads(self.said("list", "--json"))
        self.assertEqual((row["agent"], row["next_hop"]), ("lmtp", "[h]:24"))
        self.assertEqual(
            self.said("requeue", "--from-agent", "lmtp"), "1 message requeued\n"
        )

    def test_redirect(self) -> None:
        """Somebody else gets it, if there is such a one."""
        id = self.send()
        for bad in ("nonsense", "nobody@example.test"):
            error = self.assertRaises(BadFilter, self.said, "redirect", id, "--to", bad)
            self.assertIn(bad, error.text)
        said = self.said("redirect", id, "--to", str(ERIN))
        self.assertEqual(said, f"1 message redirected to <{ERIN}>\n")

    def test_bounce(self) -> None:
        """The sender reads why."""
        id = self.send()
        self.assertEqual(
            self.said("bounce", id, "--text", "No such project"),
            "1 message returned\n",
        )
        self.assertIn(b"No such project", self.store.inbox(1)[0])


class ListTests(QueueCase):
    """What is shown."""

    def test_empty(self) -> None:
        """Nothing is said to be nothing."""
        self.assertEqual(self.said("list"), "The queue is empty.\n")
        self.assertEqual(self.said("list", "--json"), "[]\n")
        said = self.said("list", "--sender", "x@y.z")
        self.assertEqual(said, "Nothing like that waits.\n")
        self.assertEqual(self.said("list", "--frozen"), "No next hop is frozen.\n")
        said = self.said("list", "--finished")
        self.assertEqual(said, "The history is empty.\n")
        self.assertEqual(self.said("count"), "0 messages, 0 recipients, 0\n")

    def test_wide(self) -> None:
        """Where there is room each recipient is a line; where there is none, too."""
        id = self.waiting()
        self.clock.advance(3720)
        expected = (
            "id             age   size  state    tries  sender"
            "                recipient               last reply\n"
            f"{id}  1h2m  137   waiting  1      <{ALICE}>  <{CAROL}>  450 4.2.0 Later\n"
        )
        self.assertEqual(self.said("list"), expected)
        self.assertEqual(self.said("list", width=200), expected)

    def test_narrow(self) -> None:
        """In a narrow terminal the reply has a line of its own, and no line is
        broken."""
        long = Address("a" * 60, "elsewhere.test")
        id = self.send(ALICE, long)
        for job in self.now(self.queue.claim(9)):
            self.now(self.queue.settle(job, always(DEFERRED)(job)))
        lines = self.said("list", width=80).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertTrue(all(len(line) <= 80 for line in lines), lines)
        self.assertTrue(lines[1].startswith(id))
        self.assertTrue(lines[1].endswith("\u2026"))
        self.assertEqual(lines[2], "    1 attempt, next in 5m0s: 450 4.2.0 Later")

    def test_limit(self) -> None:
        """So many lines are shown, and that there are more."""
        for _ in range(3):
            self.send()
        said = self.said("list", "--limit", "2").splitlines()
        self.assertEqual(len(said), 4)
        self.assertIn("--limit 20", said[-1])
        self.assertEqual(len(self.said("list", "--limit", "3").splitlines()), 4)
        self.assertEqual(len(json.loads(self.said("list", "--json"))), 3)
        limited = json.loads(self.said("list", "--json", "--limit", "1"))
        self.assertEqual(len(limited), 1)

    def test_pages(self) -> None:
        """A long listing is made of pages, and is one all the same."""
        self.patch(queue, "_LIMIT", 2)
        for _ in range(5):
            self.send()
        self.assertEqual(len(json.loads(self.said("list", "--json"))), 5)
        said = self.said("list", "--limit", "5").splitlines()
        self.assertEqual(len(said), 6)

    def test_bad_filter(self) -> None:
        """What makes no sense is one clear error."""
        for words, said in (
            (("--older", "yesterday"), "--older"),
            (("--state", "asleep"), "asleep"),
            (("--domain", "a@b.test"), "a@b.test"),
            (("--finished", "--state", "held"), "state"),
            (("--frozen", "--state", "held"), "--state frozen"),
        ):
            error = self.assertRaises(BadFilter, self.said, "list", *words)
            self.assertIn(said, error.text)

    def test_finished(self) -> None:
        """What is done with is listed with what became of it."""
        here = self.send(ALICE, BOB)
        self.send(ALICE, CAROL, ERIN)
        for job in self.due():
            self.now(self.queue.settle(job, always(DELIVERED)(job)))
        lines = self.said("list", "--finished").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertIn(f"<{CAROL}> +1  2 delivered  250 2.0.0 OK", lines[1])
        self.assertRegex(lines[2], f"^{here}  T0  .* mailbox$")
        (row,) = json.loads(
            self.said("list", "--finished", "--recipient", str(BOB), "--json")
        )
        self.assertEqual((row["id"], row["outcomes"]), (here, {"mailbox": 1}))

    def test_count(self) -> None:
        """Much is counted, and by what."""
        self.send(ALICE, CAROL, ERIN)
        self.clock.advance(90000)
        self.send()
        self.assertEqual(
            self.said("count", "--by", "site"),
            "recipients  messages  oldest  site\n"
            "2           2         1d1h    elsewhere.test\n"
            "1           1         1d1h    third.test\n"
            "2 messages, 3 recipients, 274\n",
        )
        counted = json.loads(self.said("count", "--domain", "third.test", "--json"))
        self.assertEqual((counted["messages"], counted["recipients"]), (1, 1))

    def test_no_terminal(self) -> None:
        """What is watched where no terminal is is shown once."""
        self.send()
        self.assertEqual(self.said("list", "--watch"), self.said("list"))

    def test_watched(self) -> None:
        """What is watched fits the window."""
        for _ in range(30):
            self.send()
        page = self.now(self.office.oversight.waiting(Filter()))
        count = self.now(self.office.oversight.count(Filter()))
        now = self.clock.seconds()
        screen = queuewatch.screen(page, count, now, 60, 10)
        self.assertEqual(len(screen), 10)
        self.assertTrue(all(len(line) <= 60 for line in screen))
        self.assertIn("30 messages", screen[0])
        screen = queuewatch.screen(Page([]), Count(0, 0, 0, []), now, 60, 10)
        self.assertEqual(screen[-1], "Nothing waits.")


class ShowTests(QueueCase):
    """All about one message."""

    def test_on_its_way(self) -> None:
        """How it came, for whom it waits, and what happened."""
        origin = Origin(
            "ESMTPSA",
            "192.0.2.7",
            4711,
            "laptop",
            "TLSv1.3 X",
            str(ALICE),
            "submission",
        )
        made = self.office.envelope(ALICE, BOB, CAROL)._replace(origin=origin)
        self.now(self.office.accept(made))
        id = to_text(made.id)
        (job,) = self.due()
        late = replace(DEFERRED, tls="TLSv1.3 Y, verified", uncertain=True)
        self.now(self.queue.settle(job, {CAROL: late}))
        with mock.patch.object(queuechange, "who", lambda: "root"):
            self.said("hold", id, "--reason", "asked for")
        self.assertEqual(
            self.said("show", id).splitlines(),
            [
                f"{id}  137 from <{ALICE}>",
                "  received T0 from laptop [192.0.2.7]:4711 by ESMTPSA at submission",
                "  over TLSv1.3 X",
                f"  login {ALICE}",
                f"  for <{BOB}>, <{CAROL}>",
                f"In the mailbox of <{BOB}> since T0",
                "Waits:",
                f"  <{CAROL}> by smtp to elsewhere.test",
                "    held, 1 attempt",
                "    last: 450 4.2.0 Later",
                "What happened:",
                f"  T0  deferred 4.2.0 <{CAROL}> by mx.elsewhere.test[192.0.2.1]:25,"
                " TLSv1.3 Y, verified",
                "    450 4.2.0 Later",
                "    The next server may have it all the same.",
                f"  T0  held <{CAROL}> by root: asked for",
            ],
        )
        told = json.loads(self.said("show", id, "--json"))
        self.assertEqual(told["passage"]["origin"]["helo"], "laptop")
        self.assertEqual([one["kind"] for one in told["events"]], ["deferred", "held"])
        self.assertEqual(told["waiting"][0]["state"], "held")

    def test_done(self) -> None:
        """What an operator did with it, and that it may be there twice."""
        id = self.send(ALICE, CAROL, DAVE)
        self.now(self.office.another("dead").claim(9))
        self.now(self.ledger.write(lambda t: self.queue.inherit(t, "dead")))
        with mock.patch.object(queuechange, "who", lambda: "root"):
            self.said("redirect", "--recipient", str(DAVE), "--to", str(ERIN))
            self.said("requeue", "--recipient", str(ERIN), "--next-hop", "[h]:25")
            self.said("hold", id)
            self.said("release", id)
            self.said("bounce", "--recipient", str(ERIN), "--text", "No")
            self.said("remove", id)
        shown = self.said("show", id, width=200)
        for line in (
            "the attempt begun at T0 by smtp to elsewhere.test was cut short; the next"
            " server may have it already",
            f"redirected <{DAVE}> by root: to <{ERIN}>",
            f"requeued <{ERIN}> to go by smtp to [h]:25 by root",
            f"held <{CAROL}> by root",
            f"released <{ERIN}> by root",
            f"returned to the sender <{ERIN}> by root: No",
            "the sender was told, by message ",
            f"removed <{CAROL}> by root",
        ):
            self.assertIn(line, shown)
        self.assertNotIn("Waits", shown)

    def test_begun_unknown(self) -> None:
        """When an attempt began of which no time was written down is not made up."""
        id = self.send(ALICE, CAROL)
        self.now(self.office.another("dead").claim(9))
        self.now(self.ledger.write(lambda t: t.execute("UPDATE hop SET leased_at = 0")))
        self.now(self.ledger.write(lambda t: self.queue.inherit(t, "dead")))
        shown = self.said("show", id, width=200)
        self.assertIn("  an attempt by smtp to elsewhere.test was cut short", shown)

    def test_own(self) -> None:
        """A message that this server wrote came from nowhere."""
        id = self.send(None, BOB)
        shown = self.said("show", id)
        self.assertIn("received T0 made here", shown)
        self.assertIn("from <>", shown)

    def test_unknown(self) -> None:
        """What there is nothing of is said."""
        error = self.assertRaises(NoSuchQueueId, self.said, "show", "0000000000001")
        self.assertIn("history", error.text)


class OrderTests(QueueCase):
    """What is ordered for mail that is to come."""

    def test_freeze(self) -> None:
        """A next hop is frozen, listed and thawed."""
        id = self.send()
        with mock.patch.object(queueorder, "who", lambda: "root"):
            said = self.said("freeze", "elsewhere.test", "--reason", "asked")
        self.assertEqual(
            said, "elsewhere.test is frozen; 1 more row for it will wait\n"
        )
        self.assertEqual(
            self.said("list", "--frozen"),
            "next hop        since  by    rows  reason\n"
            "elsewhere.test  T0     root  1     asked\n",
        )
        self.assertIn("frozen", self.said("list", "--state", "frozen"))
        self.assertIn("queue thaw elsewhere.test", self.said("flush", id))
        self.assertEqual(
            self.said("thaw", "elsewhere.test"),
            "elsewhere.test is not frozen; 1 row for it waits no more\n",
        )

    def test_rule_for_all(self) -> None:
        """A rule may be for all mail, and says so."""
        self.now(self.office.standing.open())
        said = self.said("rules", "add", "--all")
        self.assertIn(": all mail for elsewhere is held\n", said)

    def test_rules(self) -> None:
        """A rule is added, listed and removed."""
        said = self.said("rules")
        self.assertEqual(said, "No rules: nothing is held when it is accepted.\n")
        self.now(self.office.standing.open())
        with mock.patch.object(queueorder, "who", lambda: "root"):
            said = self.said("rules", "add", "--sender", "@a.test", "--reason", "spam")
        rule = said.split()[1].rstrip(":")
        self.assertEqual(
            said, f"rule {rule}: mail for elsewhere is held if sender=@a.test\n"
        )
        for words in (("rules",), ("rules", "list")):
            self.assertIn(
                f"{rule}  T0     root  sender=@a.test  spam", self.said(*words)
            )
        (row,) = json.loads(self.said("rules", "--json"))
        self.assertEqual(row["filter"], {"sender": "@a.test", "everything": False})
        self.send(Address("x", "a.test"))
        self.assertIn("held", self.said("list"))
        said = self.said("rules", "remove", rule)
        self.assertEqual(said, f"rule {rule} removed; what it holds stays held\n")

    def test_senseless(self) -> None:
        """A command line that makes no sense is one clear error."""
        for words in (("add",), ("remove",), ("list", "x"), ("list", "--sender", "x")):
            self.assertRaises(BadFilter, self.said, "rules", *words)


class TableTests(QueueCase):
    def test_age(self) -> None:
        """A time span has two units."""
        for seconds, text in (
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3600, "1h0m"),
            (86399, "23h59m"),
            (90000, "1d1h"),
        ):
            self.assertEqual(table.age(seconds), text)

    def test_narrow(self) -> None:
        """The widest columns give way first; where nothing more can, lines are cut."""
        rows = [{"id": "x" * 5, "a": "y" * 40, "b": "z" * 20}]
        for width in (67, 50, 40, 20):
            head, line = table.lines(rows, width, ("a", "b"))
            self.assertLessEqual(len(line), width)
        self.assertEqual(head, "id     a             b"[:20].rstrip())
