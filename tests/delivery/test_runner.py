"""The queue run."""

from collections.abc import Collection, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    ALICE,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    ERIN,
    FAILED,
    MESSAGE,
    Agent,
    Office,
    OfficeCase,
    TestCase,
    always,
)
from twisted_mta.config import schema
from twisted_mta.delivery.alarm import Alarm
from twisted_mta.delivery.queue import LEASE_S, Hop
from twisted_mta.delivery.runner import Runner
from twisted_mta.interfaces import IContent, IDeliveryAgent
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

HOUR = 3600.0
DAY = 24 * HOUR


class RunnerCase(OfficeCase):
    def setUp(self) -> None:
        super().setUp()
        self.agent = Agent(self.clock, always(DELIVERED))
        self.log: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)
        self.runners: list[Runner] = []

    def tearDown(self) -> None:
        # No runner leaves a timer behind.
        for runner in list(self.runners):
            self.stop(runner)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def hear(self, event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("twisted_mta."):
            self.log.append(formatEvent(event))

    def runner(self, **settings: int) -> Runner:
        return self.runner_of(self.queue, {"smtp": self.agent}, **settings)

    def runner_of(
        self, queue: object, agents: Mapping[str, object], **settings: int
    ) -> Runner:
        runner = Runner(self.clock, self.ledger, queue, agents, **settings)  # type: ignore[arg-type]
        self.runners.append(runner)
        self.now(runner.start())
        return runner

    def stop(self, runner: Runner) -> Deferred[None]:
        if runner in self.runners:
            self.runners.remove(runner)
        stopped = Deferred.fromCoroutine(runner.stop())
        while not stopped.called and self.clock.getDelayedCalls():
            self.clock.advance(1)
        return stopped

    def pass_time(self, seconds: float) -> None:
        """Let time go by, from one timer to the next."""
        end = self.clock.seconds() + seconds
        while calls := self.clock.getDelayedCalls():
            due = min(call.getTime() for call in calls)
            if due > end:
                break
            self.clock.advance(max(due - self.clock.seconds(), 0))
        self.clock.advance(end - self.clock.seconds())

    def send(self, *recipients: Address) -> str:
        return to_text(self.now(self.office.send(ALICE, *recipients)).id)

    def ages(self) -> list[float]:
        return [seen.at - self.start for seen in self.agent.seen]


class RunTests(RunnerCase):
    def test_seam(self) -> None:
        """The agent that the runner is tested on keeps to the interface."""
        verifyObject(IDeliveryAgent, self.agent)

    def test_at_once(self) -> None:
        """What is accepted while the server runs is tried in the same moment:
        the prefix, then the content."""
        self.runner()
        self.send(CAROL, DAVE)
        (seen,) = self.agent.seen
        self.assertEqual(seen.octets, b"Received: here\r\n" + MESSAGE)
        self.assertEqual(seen.recipients, (CAROL, DAVE))
        self.assertEqual(self.ages(), [0])
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_left_from_before(self) -> None:
        """What was in the queue at the start is tried at the start."""
        self.send(CAROL)
        self.runner()
        self.assertEqual(len(self.agent.seen), 1)

    def test_five_days(self) -> None:
        """A message that is always deferred: 65 attempts by the schedule, a
        warning after 4 hours, a bounce after 5 days, and then rest."""
        self.agent.script = always(DEFERRED)
        self.runner()
        self.send(CAROL)
        self.pass_time(4 * HOUR - 1)
        self.assertEqual(self.ages(), [0, 300, 900, 2100, 4500, 9300])
        self.assertEqual(len(self.store.inbox(1)), 0)
        self.pass_time(1)
        self.assertEqual(len(self.store.inbox(1)), 1)
        self.pass_time(5 * DAY - 4 * HOUR - 1)
        self.assertEqual(len(self.store.inbox(1)), 1)
        self.pass_time(1)
        self.assertEqual(len(self.store.inbox(1)), 2)
        self.pass_time(5 * DAY)
        self.assertEqual(len(self.agent.seen), 65)
        self.assertEqual(len(self.store.inbox(1)), 2)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_accepted_at_last(self) -> None:
        """Deferred, then accepted: nobody is told of anything."""
        script = iter([DEFERRED, DEFERRED, DELIVERED])
        self.agent.script = lambda job: always(next(script))(job)
        self.runner()
        self.send(CAROL)
        self.pass_time(DAY)
        self.assertEqual(self.ages(), [0, 300, 900])
        self.assertEqual(self.store.inbox(1), [])

    def test_log(self) -> None:
        """One line says everything of a recipient."""
        self.agent.script = lambda job: {CAROL: DELIVERED, DAVE: FAILED}
        self.clock.advance(0)
        id = self.send(CAROL, DAVE)
        self.clock.advance(0.84)
        self.runner()
        relay = "relay=mx.elsewhere.test[192.0.2.1]:25, tls=none, delay=0.8"
        self.assertIn(
            f"{id}: to=<carol@elsewhere.test>, agent=smtp, {relay}, dsn=2.0.0, "
            "status=delivered (250 2.0.0 OK)",
            self.log,
        )
        self.assertIn(
            f"{id}: to=<dave@elsewhere.test>, agent=smtp, {relay}, dsn=5.1.1, "
            "status=failed (550 5.1.1 Nobody)",
            self.log,
        )
        (accepted,) = [line for line in self.log if "from=<alice" in line]
        self.assertEqual(
            accepted,
            f"{id}: from=<alice@example.test>, via=local, "
            f"size={16 + len(MESSAGE)}, mailboxes=-, "
            "queued=<carol@elsewhere.test>,<dave@elsewhere.test>, status=accepted",
        )

    def test_h42_log(self) -> None:
        """What strangers said is one line of the log, whatever is in it."""
        bad = "550 no\r\nroot: all is well\x1b[2J"
        outcome = Outcome(Result.FAILED, "5.0.0", bad, bad, True)
        self.agent.script = always(outcome)
        self.runner()
        self.send(Address("a\r\nb", "elsewhere.test"))
        self.assertTrue(self.log)
        for line in self.log:
            self.assertNotRegex(line, "[\x00-\x1f]")

    def test_unknown_agent(self) -> None:
        """A route that names no agent of the config: deferred, with a text that
        says so, and not lost."""
        self.office = Office(routes=[schema.Route(domain="*", agent="pigeon")])
        self.clock, self.ledger = self.office.clock, self.office.ledger
        self.queue = self.office.queue
        self.runner()
        self.send(CAROL)
        (waiting,) = self.now(self.queue.waiting())
        self.assertEqual((waiting.state, waiting.attempts), ("waiting", 1))
        self.assertIn("no delivery agent 'pigeon'", waiting.diagnostic)
        self.assertTrue(any("no delivery agent" in line for line in self.log))

    def test_broken_agent(self) -> None:
        """An agent that raises costs its rows an attempt, and nobody else
        anything."""

        def broken(job: Job) -> dict[Address, Outcome]:
            if job.next_hop == "third.test":
                raise RuntimeError("oops")
            return always(DELIVERED)(job)  # type: ignore[return-value]

        self.agent.script = broken
        self.runner()
        self.send(ERIN, CAROL)
        (waiting,) = self.now(self.queue.waiting())
        self.assertEqual((waiting.recipient, waiting.attempts), (str(ERIN), 1))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_agent_without_outcomes(self) -> None:
        """An agent that answers nonsense is a broken one."""
        for count, nonsense in enumerate((7, None, {CAROL: None}, {CAROL: "250"}), 1):
            self.agent.script = lambda job, answer=nonsense: answer  # type: ignore[misc]
            if count == 1:
                self.runner()
                self.send(CAROL)
            else:
                self.now(self.queue.flush())
            (waiting,) = self.now(self.queue.waiting())
            self.assertEqual(waiting.attempts, count)
            self.assertEqual(len(self.flushLoggedErrors(TypeError, AttributeError)), 1)

    def test_no_hint(self) -> None:
        """Rows of which no hint came are found all the same."""
        self.runner()
        self.ledger._watches.clear()
        self.send(CAROL)
        self.assertEqual(self.ages(), [])
        self.pass_time(300)
        self.assertEqual(self.ages(), [300])

    def test_operator(self) -> None:
        """A flush from elsewhere is an attempt at once."""
        self.agent.script = always(DEFERRED)
        self.runner()
        self.send(CAROL)
        self.pass_time(10)
        self.now(self.queue.flush())
        self.assertEqual(self.ages(), [0, 10])


class PlaceTests(RunnerCase):
    """How many at once."""

    def setUp(self) -> None:
        super().setUp()
        self.agent.hanging = True

    def hops(self) -> list[str]:
        return [job.next_hop for job, _ in self.agent.hung]

    def test_per_hop(self) -> None:
        """One next hop gets its share, and no more of the queue is leased for
        it than that again; others go past it."""
        for _ in range(10):
            self.send(CAROL)
        self.send(ERIN)
        self.runner(concurrency=8, per_hop=2)
        self.assertEqual(sorted(self.hops()), ["elsewhere.test"] * 2 + ["third.test"])
        states = [waiting.state for waiting in self.now(self.queue.waiting())]
        self.assertEqual(states.count("active"), 5)
        while self.agent.hung:
            self.agent.let_go()
            self.assertLessEqual(self.hops().count("elsewhere.test"), 2)
        self.assertEqual(len(self.agent.seen), 11)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_all_places_taken(self) -> None:
        """When all places are taken, rows of a hop that has enough of them waiting
        are left alone, however many there are: they are not claimed and given back
        again and again."""
        for number in range(4):
            self.send(Address("x", f"d{number}.test"))
            self.send(Address("x", f"d{number}.test"))
        self.runner(concurrency=8, per_hop=2)
        self.assertEqual(len(self.agent.hung), 8)
        claim, claims = self.queue.claim, 0

        async def counted(
            most: int, room: Mapping[Hop, int], per_hop: int, flows: Collection[str]
        ) -> Sequence[Job]:
            nonlocal claims
            claims += 1
            return await claim(most, room, per_hop, flows) if claims < 1000 else []

        self.patch(self.queue, "claim", counted)
        for _ in range(50):
            self.send(CAROL)
        self.pass_time(10)
        self.assertLess(claims, 100)
        while self.agent.hung:
            self.agent.let_go()
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_in_all(self) -> None:
        """No more attempts than the setting at the same time; each row is tried
        once."""
        recipients = [Address("x", f"d{number}.test") for number in range(30)]
        self.send(*recipients)
        self.runner(concurrency=4, per_hop=2)
        while self.agent.hung:
            self.assertLessEqual(len(self.agent.hung), 4)
            self.agent.let_go()
        tried = [seen.recipients[0] for seen in self.agent.seen]
        self.assertEqual(sorted(map(str, tried)), sorted(map(str, recipients)))
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_many_at_once(self) -> None:
        """A thousand rows that are done in a moment go through, each once."""
        self.agent.hanging = False
        self.send(*(Address("x", f"d{number}.test") for number in range(1000)))
        self.runner(concurrency=100, per_hop=20)
        self.assertEqual(len(self.agent.seen), 1000)
        self.assertEqual(len({seen.next_hop for seen in self.agent.seen}), 1000)

    def test_oldest_first(self) -> None:
        """Rows of one hop are tried in the order in which they came."""
        ids = []
        for _ in range(6):
            ids.append(self.send(CAROL))
            self.clock.advance(1)
        self.runner(concurrency=2, per_hop=1)
        tried = []
        while self.agent.hung:
            tried += [to_text(job.envelope.id) for job, _ in self.agent.hung]
            self.agent.let_go()
        self.assertEqual(tried, ids)

    def test_long_attempt(self) -> None:
        """The lease of an attempt that takes hours is renewed: nobody else gets
        the row, and it is delivered once."""
        self.send(CAROL)
        self.runner()
        other = self.office.another("two")
        for _ in range(100):
            self.pass_time(LEASE_S / 2)
            self.assertEqual(self.now(other.claim(10)), [])
        self.agent.let_go()
        self.assertEqual(len(self.agent.seen), 1)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_renewal_fails(self) -> None:
        """A renewal that fails is repeated; the row is not tried twice by the
        same process, even when its lease ended."""
        self.send(CAROL)
        self.runner()
        self.ledger.down = True
        self.pass_time(LEASE_S * 2)
        self.ledger.down = False
        self.pass_time(60)
        self.assertEqual(len(self.agent.seen), 1)
        self.agent.let_go()
        self.assertEqual(self.ledger.count("queued"), 0)


class CrashTests(RunnerCase):
    def test_killed(self) -> None:
        """What a killed process was delivering is tried by another when the
        lease ends, once."""
        self.agent.hanging = True
        self.send(CAROL)
        killed = self.runner()
        killed._stopping = True  # it does nothing any more
        self.runners.clear()
        survivor = Agent(self.clock, always(DELIVERED))
        self.runner_of(self.office.another("two"), {"smtp": survivor})
        self.pass_time(LEASE_S - 1)
        self.assertEqual(survivor.seen, [])
        self.pass_time(1)
        self.assertEqual(len(survivor.seen), 1)
        self.pass_time(DAY)
        self.assertEqual(len(survivor.seen), 1)
        self.assertEqual(self.ledger.count("queued"), 0)
        killed._alarm.wake()

    def test_two_processes(self) -> None:
        """Two processes at one queue try each row once."""
        other = Agent(self.clock, always(DELIVERED))
        self.agent.hanging = other.hanging = True
        self.runner(concurrency=2)
        self.runner_of(self.office.another("two"), {"smtp": other}, concurrency=2)
        recipients = [Address("x", f"d{number}.test") for number in range(20)]
        self.send(*recipients)
        self.assertTrue(self.agent.hung and other.hung)
        while self.agent.hung or other.hung:
            self.agent.let_go()
            other.let_go()
        tried = [seen.next_hop for seen in [*self.agent.seen, *other.seen]]
        self.assertEqual(sorted(tried), sorted(r.domain for r in recipients))
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_shared(self) -> None:
        """What one process has no place for is tried by another that has. A ninth of
        the places of each is left to other senders."""
        other = Agent(self.clock, always(DELIVERED))
        self.agent.hanging = other.hanging = True
        self.send(*(Address("x", f"d{number}.test") for number in range(100)))
        self.runner(concurrency=50)
        self.runner_of(self.office.another("two"), {"smtp": other}, concurrency=50)
        self.assertEqual(len(self.agent.hung), 45)
        self.assertEqual(len(other.hung), 44)
        while self.agent.hung or other.hung:
            self.agent.let_go()
            other.let_go()
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_not_settled_at_once(self) -> None:
        """When the ledger is away as an attempt ends, what came of it is kept
        until it is back: nothing is delivered twice, however long that takes."""
        self.agent.hanging = True
        self.send(CAROL)
        self.runner()
        self.ledger.down = True
        self.agent.let_go()
        self.pass_time(HOUR)
        self.ledger.down = False
        self.pass_time(60)
        self.assertEqual(len(self.agent.seen), 1)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_ledger_away(self) -> None:
        """While the ledger cannot be read the run goes on trying."""
        self.ledger.down = True
        self.runner()
        self.pass_time(60)
        self.assertTrue(any("cannot be read" in line for line in self.log))
        self.ledger.down = False
        self.send(CAROL)
        self.pass_time(60)
        self.assertEqual(len(self.agent.seen), 1)

    def test_bug_in_settling(self) -> None:
        """A settlement that breaks must not deliver the message again and
        again: it is held for the operator."""

        def broken(job: object, outcomes: object) -> object:
            raise RuntimeError("oops")

        self.patch(self.queue, "settle", broken)
        self.runner()
        id = self.send(CAROL)
        self.pass_time(DAY)
        self.assertEqual(len(self.agent.seen), 1)
        (waiting,) = self.now(self.queue.waiting(id))
        self.assertEqual(waiting.state, "held")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_bug_in_the_run(self) -> None:
        """The run survives a bug."""
        claim = self.queue.claim
        broken: list[Exception] = [RuntimeError("oops")]

        def sometimes(*arguments: object) -> object:
            if broken:
                raise broken.pop()
            return claim(*arguments)  # type: ignore[arg-type]

        self.patch(self.queue, "claim", sometimes)
        self.runner()
        self.send(CAROL)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.pass_time(60)
        self.assertEqual(len(self.agent.seen), 1)


class StopTests(RunnerCase):
    def test_idle(self) -> None:
        """A runner with nothing to do stops at once, and closes its agents."""
        self.now(self.runner().stop())
        self.runners.clear()
        self.assertEqual(self.agent.closed, 1)
        self.send(CAROL)
        self.assertEqual(self.agent.seen, [])

    def test_never_started(self) -> None:
        """One that was never started can be stopped."""
        runner = Runner(self.clock, self.ledger, self.queue, {"smtp": self.agent})
        self.now(runner.stop())
        self.assertEqual(self.agent.closed, 1)

    def test_grace(self) -> None:
        """An attempt that is running may end; agents are closed after it."""
        self.agent.hanging = True
        self.send(CAROL)
        runner = self.runner(grace_s=10)
        self.runners.clear()
        stopped = Deferred.fromCoroutine(runner.stop())
        self.clock.advance(9)
        self.assertNoResult(stopped)
        self.assertEqual(self.agent.closed, 0)
        self.agent.let_go()
        self.successResultOf(stopped)
        self.assertEqual(self.agent.closed, 1)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_no_more_grace(self) -> None:
        """What has not ended by then is cut short; it and what waited for a
        place are given back, so that another process has them at once."""
        self.agent.hanging = True
        for _ in range(3):
            self.send(CAROL)
        runner = self.runner(per_hop=2, grace_s=10)
        self.runners.clear()
        stopped = Deferred.fromCoroutine(runner.stop())
        self.clock.advance(10)
        self.successResultOf(stopped)
        self.assertEqual(self.agent.closed, 1)
        jobs = self.now(self.office.another("two").claim(9))
        self.assertEqual([job.attempts for job in jobs], [0, 0, 0])

    def test_cut_short_after_some(self) -> None:
        """Who has the message by then, as its agent says, leaves the queue."""

        class Half(Agent):
            async def deliver(
                self, job: Job, content: IContent
            ) -> Mapping[Address, Outcome]:
                try:
                    await Deferred[None]()
                except CancelledError:
                    return {job.recipients[0]: DELIVERED}
                raise AssertionError

        names = [Address(name, "elsewhere.test") for name in ("a", "b")]
        self.send(*names)
        agent = Half(self.clock, always(DELIVERED))
        runner = self.runner_of(self.queue, {"smtp": agent}, grace_s=10)
        self.runners.clear()
        stopped = Deferred.fromCoroutine(runner.stop())
        self.clock.advance(10)
        self.successResultOf(stopped)
        rows = self.ledger.rows("SELECT address, lease FROM recipient, hop")
        self.assertEqual(rows, [("b@elsewhere.test", "")])

    def test_ledger_away(self) -> None:
        """Stopping does not wait for a ledger that is away."""
        self.agent.hanging = True
        self.send(CAROL)
        runner = self.runner(grace_s=10)
        self.runners.clear()
        self.ledger.down = True
        self.agent.let_go()
        stopped = Deferred.fromCoroutine(runner.stop())
        self.clock.advance(3)
        self.clock.advance(8)
        self.successResultOf(stopped)
        self.assertEqual(self.agent.closed, 1)


class AlarmTests(TestCase):
    def test_alarm(self) -> None:
        """A wait ends when it is woken, or by time; a wake that nobody waited
        for ends the next one."""
        office = Office()
        alarm = Alarm(office.clock)

        def wait() -> Deferred[None]:
            return Deferred.fromCoroutine(alarm.wait(5))

        waiting = wait()
        alarm.wake()
        self.successResultOf(waiting)
        waiting = wait()
        self.assertNoResult(waiting)
        office.clock.advance(5)
        self.successResultOf(waiting)
        alarm.wake()
        alarm.wake()
        self.successResultOf(wait())
        self.assertNoResult(wait())
        self.assertEqual(len(office.clock.getDelayedCalls()), 1)
