"""The agent that hands mail to programs, with real programs."""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.delivery.peer import Long, Vanishing, turns
from tests.delivery.test_smtp import BOB, CAROL, DAVE, MESSAGE, PREFIX, job
from twisted_mta.delivery.pipe.agent import PipeAgent
from twisted_mta.delivery.pipe.arguments import Arguments
from twisted_mta.delivery.pipe.settings import Settings
from twisted_mta.interfaces import IDeliveryAgent
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Body
from twisted_mta.mail.route import Outcome, Result
from twisted_mta.testing.agent_contract import AgentContract

DELIVERED, DEFERRED, FAILED = Result.DELIVERED, Result.DEFERRED, Result.FAILED

#: Root must not run programs as itself.
USER = "nobody" if os.geteuid() == 0 else None

PLAIN = {"return_path": False, "delivered_to": False, "line_feed": False}


def children() -> list[str]:
    """The processes that this one has not waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return [pid for path in lists for pid in path.read_text().split()]


class PipeCase(TestCase):
    """A directory that programs may write into, and a script.

    @ivar clock: says how long a run may take.
    """

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.directory.chmod(0o777)
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = Clock()
        self.agents: list[PipeAgent] = []

    async def tearDown(self) -> None:
        for agent in self.agents:
            await agent.close()
        await turns(lambda: not any(agent._running for agent in self.agents))

    def script(self, text: str) -> str:
        """A program."""
        path = self.directory / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def agent(self, script: str, *arguments: str, **settings: Any) -> PipeAgent:
        values: dict[str, Any] = {
            "user": USER,
            "directory": str(self.directory),
            "environment": {"PATH": "/usr/bin:/bin"},
            **settings,
        }
        argv = Arguments([self.script(script), *arguments])
        made = PipeAgent(
            reactor,  # type: ignore[arg-type]
            self.clock,
            Settings(arguments=argv, **values),
        )
        self.agents.append(made)
        return made

    async def deliver(
        self, agent: PipeAgent, recipients: Sequence[Address] = (BOB,), **changes: Any
    ) -> Mapping[Address, Outcome]:
        return await agent.deliver(*job(recipients, **changes))

    def says(
        self, outcomes: Mapping[Address, Outcome], who: Address, *expected: object
    ) -> str:
        found = outcomes[who]
        self.assertEqual((found.result, found.status), expected, found)
        return found.diagnostic

    def wrote(self, name: str = "out") -> bytes:
        return (self.directory / name).read_bytes()


class RunTests(PipeCase):
    """What a program gets."""

    def test_interface(self) -> None:
        verifyObject(IDeliveryAgent, self.agent("true"))

    async def test_message(self) -> None:
        """The message with the fields of a last server, and lines as programs have
        them."""
        outcomes = await self.deliver(self.agent("cat >out; echo Ticket 7"))
        text = self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.assertEqual(text, "Ticket 7")
        expected = (
            b"Return-Path: <alice@here.test>\r\nDelivered-To: bob@there.test\r\n"
            + PREFIX
            + MESSAGE
        )
        self.assertEqual(self.wrote(), expected.replace(b"\r\n", b"\n"))

    async def test_as_it_is(self) -> None:
        """Without any of that, octet for octet."""
        agent = self.agent("cat >out", **PLAIN)
        await self.deliver(agent)
        self.assertEqual(self.wrote(), PREFIX + MESSAGE)

    async def test_from_line(self) -> None:
        """mbox's first line, by the time it came; a bounce's sender has a name."""
        agent = self.agent("cat >out", from_line=True)
        await self.deliver(agent, sender=None)
        self.assertEqual(
            self.wrote().split(b"\n")[:3],
            [
                b"From MAILER-DAEMON  Thu Jan  1 00:00:00 1970",
                b"Return-Path: <>",
                b"Delivered-To: bob@there.test",
            ],
        )

    async def test_sender_on_this_way(self) -> None:
        """A return address that mail has on this way is what the program gets."""
        back = Address("SRS0=x=y=here.test=alice", "ours.test")
        agent = self.agent("cat >out", from_line=True)
        await self.deliver(agent, rewritten=back)
        self.assertEqual(
            self.wrote().split(b"\n")[:2],
            [
                b"From SRS0=x=y=here.test=alice@ours.test  Thu Jan  1 00:00:00 1970",
                b"Return-Path: <SRS0=x=y=here.test=alice@ours.test>",
            ],
        )

    async def test_line_ends_across_runs(self) -> None:
        """A line end that two pieces of content share, and one CR by itself at the
        end."""
        octets = b"x" * (64 * 1024 - 1) + b"\r\nlast\r"
        agent = self.agent("cat >out", return_path=False, delivered_to=False)
        await self.deliver(agent, content=octets)
        expected = PREFIX + octets
        self.assertEqual(self.wrote(), expected.replace(b"\r\n", b"\n"))

    async def test_binary(self) -> None:
        """Binary content is encoded, so that its octets are not taken for lines."""
        octets = (
            b"Content-Type: application/octet-stream\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\na\r\nb\0"
        )
        agent = self.agent("cat >out")
        await self.deliver(agent, content=octets, body=Body.BINARY)
        self.assertIn(b"base64", self.wrote())
        self.assertIn(b"YQ0KYgA=", self.wrote())

    async def test_h43_arguments(self) -> None:
        """Each argument stays one, whatever is put into it; nothing is run."""
        agent = self.agent(
            'printf "%s\\n" "$@" >out',
            "{sender}",
            "to={recipient}",
            "{local}|{detail}|{domain}",
            "{{id}}",
            "$(touch gone); `touch gone`",
        )
        who = Address("a b+$(touch gone)", "there.test")
        await self.deliver(agent, [who])
        self.assertEqual(
            self.wrote().decode().splitlines(),
            [
                "alice@here.test",
                'to="a b+$(touch gone)"@there.test',
                "a b|$(touch gone)|there.test",
                "{id}",
                "$(touch gone); `touch gone`",
            ],
        )
        self.assertFalse((self.directory / "gone").exists())

    async def test_environment(self) -> None:
        """It is all that the config says, and where it runs; no descriptor is left
        open, and it leads a session of its own."""
        agent = self.agent(
            "env >env; pwd >pwd; ls -l /proc/$$/fd | grep -c . >fds; id -u >id;"
            " ps -o sid= -p $$ >sid; echo $$ >pid; umask >umask",
            environment={"PATH": "/usr/bin:/bin", "HOME": "/nowhere"},
        )
        self.says(await self.deliver(agent), BOB, DELIVERED, "2.0.0")
        names = {line.partition("=")[0] for line in self.wrote("env").decode().split()}
        # What the shell adds is no leak.
        self.assertLessEqual(names, {"PATH", "HOME", "PWD", "SHLVL", "_", "OLDPWD"})
        self.assertIn("HOME", names)
        self.assertEqual(self.wrote("pwd").decode().strip(), str(self.directory))
        self.assertEqual(self.wrote("sid").split(), self.wrote("pid").split())
        self.assertEqual(int(self.wrote("umask"), 8), 0o077)
        # 0, 1, 2, the script, and the line with the total.
        self.assertLessEqual(int(self.wrote("fds")), 6)
        if USER is not None:
            self.assertNotEqual(int(self.wrote("id")), 0)

    async def test_signals_are_not_ignored(self) -> None:
        """What this server ignores, such as SIGPIPE, a program does not inherit."""
        agent = self.agent("grep SigIgn /proc/self/status >out")
        await self.deliver(agent)
        # Beyond are those that glibc has for itself.
        self.assertEqual(int(self.wrote().split()[1], 16) & 0x7FFFFFFF, 0)

    async def test_each(self) -> None:
        """A run for each recipient, each with its own end."""
        agent = self.agent(
            'cat >"$1"; case $1 in bob) exit 0;; carol) exit 67;; esac; exit 75',
            "{local}",
        )
        outcomes = await self.deliver(agent, [BOB, CAROL, DAVE])
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        self.says(outcomes, CAROL, FAILED, "5.1.1")
        self.says(outcomes, DAVE, DEFERRED, "4.3.0")
        self.assertIn(b"Delivered-To: dave@there.test\n", self.wrote("dave"))

    async def test_together(self) -> None:
        """One run for all, whose arguments are there once for each; at most so many
        at once."""
        agent = self.agent(
            'echo "$@" >>out; cat >/dev/null; exit 69',
            "-f",
            "{sender}",
            "{recipient}",
            each=False,
            recipients=2,
        )
        outcomes = await self.deliver(agent, [BOB, CAROL, DAVE])
        self.assertEqual(set(outcomes), {BOB, CAROL, DAVE})
        self.assertEqual({one.status for one in outcomes.values()}, {"5.3.0"})
        self.assertEqual(
            sorted(self.wrote().decode().splitlines()),
            [
                "-f alice@here.test bob@there.test carol@there.test",
                "-f alice@here.test dave@there.test",
            ],
        )

    async def test_loop(self) -> None:
        """Mail that was delivered to this recipient before is returned."""
        agent = self.agent("cat >out")
        octets = b"Delivered-To: Bob@There.test\r\n" + MESSAGE
        outcomes = await self.deliver(agent, [BOB, CAROL], content=octets)
        self.says(outcomes, BOB, FAILED, "5.4.6")
        self.says(outcomes, CAROL, DELIVERED, "2.0.0")

    async def test_reads_nothing(self) -> None:
        """A program that took the message without reading it took it, however large
        it is."""
        agent = self.agent("exit 0")
        outcomes = await self.deliver(agent, content=Long(8 << 20))
        self.says(outcomes, BOB, DELIVERED, "2.0.0")

    async def test_reads_slowly(self) -> None:
        """No more is read of the message than the program takes."""
        content = Long(64 << 20)
        agent = self.agent("echo $$ >begun; while test ! -e go; do sleep 0.05; done")
        attempt = ensureDeferred(self.deliver(agent, content=content))
        await turns((self.directory / "begun").exists)
        for _ in range(200):
            await turns(lambda: True)
        self.assertLess(content.read_to, 1 << 20)
        (self.directory / "go").touch()
        self.says(await attempt, BOB, DELIVERED, "2.0.0")


class EndTests(PipeCase):
    """How a program ends."""

    async def test_hangs(self) -> None:
        """It has so long; then it is told to end, with all that it started."""
        agent = self.agent(
            "trap 'echo told >told; exit 0' TERM; sleep 1000 & echo $! >child;"
            " echo Working; echo $$ >begun; while :; do wait; done",
            timeout_s=30,
        )
        attempt = await self.begun(agent)
        self.clock.advance(29)
        self.assertNoResult(attempt)
        self.clock.advance(1)
        text = self.says(await self.end(attempt), BOB, DEFERRED, "4.3.0")
        self.assertEqual(text, "The program took more than 30 s: Working")
        self.assertTrue((self.directory / "told").exists())
        await self.gone("child")

    async def test_does_not_listen(self) -> None:
        """If it does not end it is killed."""
        agent = self.agent(
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >child; sleep 1000' &"
            " while test ! -s child; do :; done; echo $$ >begun; sleep 1000",
            timeout_s=30,
        )
        attempt = await self.begun(agent)
        self.clock.advance(30)
        for _ in range(50):
            await turns(lambda: True)
        self.assertNoResult(attempt)
        self.clock.advance(5)
        self.says(await self.end(attempt), BOB, DEFERRED, "4.3.0")
        await self.gone("begun")
        await self.gone("child")

    async def test_flood(self) -> None:
        """It may say so much; the first of it is kept."""
        agent = self.agent("exec yes flood")
        outcomes = await self.deliver(agent)
        text = self.says(outcomes, BOB, DEFERRED, "4.3.0")
        self.assertIn("wrote more than 1048576 octets: flood flood", text)
        self.assertLessEqual(len(text), 1100)

    async def test_others_keep_its_output(self) -> None:
        """What it started and left behind with its output open holds up nobody, and
        lives on."""
        agent = self.agent("sleep 1000 & echo $! >child; echo done")
        attempt = ensureDeferred(self.deliver(agent))
        child = self.directory / "child"
        await turns(lambda: child.exists() and child.read_text().endswith("\n"))
        await turns(lambda: len(self.clock.getDelayedCalls()) > 1)
        self.assertNoResult(attempt)
        self.clock.advance(1)
        text = self.says(await self.end(attempt), BOB, DELIVERED, "2.0.0")
        self.assertEqual(text, "done")
        os.kill(int(child.read_text()), signal.SIGKILL)

    async def test_content_gone(self) -> None:
        """A message that cannot be read is not given as if it ended there."""
        agent = self.agent("cat >partial && mv partial out")
        outcomes = await self.deliver(agent, content=Vanishing(1 << 20))
        self.says(outcomes, BOB, DEFERRED, "4.3.0")
        await turns(lambda: not agent._running)
        self.assertFalse((self.directory / "out").exists())

    async def test_cancelled(self) -> None:
        """The attempt ends: so does the program."""
        agent = self.agent("echo $$ >begun; exec sleep 1000")
        attempt = await self.begun(agent)
        attempt.cancel()
        await self.assertFailure(attempt, CancelledError)
        await self.gone("begun")

    async def test_cancelled_after_some(self) -> None:
        """Whom a program took before that is not given to it again."""
        agent = self.agent(
            "cat >/dev/null; test $1 = bob && exit 0; echo $$ >begun; exec sleep 1000",
            "{local}",
        )
        attempt = await self.begun(agent, [BOB, CAROL])
        await turns(lambda: len(agent._running) == 1)
        attempt.cancel()
        outcomes = await attempt
        self.assertEqual(set(outcomes), {BOB})
        self.says(outcomes, BOB, DELIVERED, "2.0.0")
        await self.gone("begun")

    async def test_close(self) -> None:
        """The server stops: nothing runs on, nothing new is begun."""
        agent = self.agent("echo $$ >begun; exec sleep 1000", concurrency=1)
        attempt = await self.begun(agent)
        waiting = ensureDeferred(self.deliver(agent))
        await agent.close()
        self.says(await attempt, BOB, DEFERRED, "4.3.0")
        self.says(await waiting, BOB, DEFERRED, "4.3.2")
        await self.gone("begun")

    async def test_no_program(self) -> None:
        """A program that is gone, a directory, a user: the operator's to mend."""
        agent = self.agent("true")
        (self.directory / "program").unlink()
        text = self.says(await self.deliver(agent), BOB, DEFERRED, "4.3.5")
        self.assertIn("No such file", text)
        agent = self.agent("true", directory="/no/such")
        self.says(await self.deliver(agent), BOB, DEFERRED, "4.3.5")

    async def test_rights(self) -> None:
        """Root runs nothing as itself, and nobody but root as somebody else."""
        wrong = None if USER else "nobody"
        agent = self.agent("touch out", user=wrong)
        outcomes = await self.deliver(agent)
        self.says(outcomes, BOB, DEFERRED, "4.3.5")
        self.assertFalse((self.directory / "out").exists())

    async def test_concurrency(self) -> None:
        """There are so many at once, over all messages."""
        agent = self.agent(
            "mkdir run.$$; ls -d run.* | wc -l >>out; sleep 0.05; rmdir run.$$",
            concurrency=2,
        )
        many = [Address(f"x{number}", "there.test") for number in range(6)]
        attempts = [ensureDeferred(self.deliver(agent, many)) for _ in range(2)]
        for attempt in attempts:
            outcomes = await attempt
            self.assertEqual({one.result for one in outcomes.values()}, {DELIVERED})
        seen = [int(line) for line in self.wrote().split()]
        self.assertEqual(len(seen), 12)
        self.assertLessEqual(max(seen), 2)

    async def test_nothing_leaks(self) -> None:
        """No descriptor, no child, no timer is left of many runs."""
        agent = self.agent("cat >/dev/null; echo said; exit 0")
        await self.deliver(agent)
        before = set(os.listdir("/proc/self/fd"))
        others = set(children())
        many = [Address(f"x{number}", "there.test") for number in range(100)]
        outcomes = await self.deliver(agent, many)
        self.assertEqual({one.result for one in outcomes.values()}, {DELIVERED})
        self.assertLessEqual(len(set(os.listdir("/proc/self/fd")) - before), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertLessEqual(set(children()), others)

    async def begun(
        self, agent: PipeAgent, recipients: Sequence[Address] = (BOB,)
    ) -> "Deferred[Mapping[Address, Outcome]]":
        attempt = ensureDeferred(self.deliver(agent, recipients))
        begun = self.directory / "begun"
        await turns(lambda: begun.exists() and begun.read_text().endswith("\n"))
        return attempt

    async def end(
        self, attempt: "Deferred[Mapping[Address, Outcome]]"
    ) -> Mapping[Address, Outcome]:
        """What comes of it, without more time."""
        return await attempt

    async def gone(self, name: str) -> None:
        """A process whose number stands in a file ends, or has ended. One that is
        nobody's child any more is its reaper's."""
        status = Path(f"/proc/{(self.directory / name).read_text().strip()}/stat")

        def over() -> bool:
            try:
                return status.read_text().rpartition(")")[2].split()[0] in "ZX"
            except (FileNotFoundError, ProcessLookupError):
                return True

        await turns(over)


class ContractTests(AgentContract, PipeCase):
    """The promises of every agent."""

    async def build(self) -> IDeliveryAgent:
        return self.agent(
            'cat >"partial.$$" && mv "partial.$$" "$$.eml"', each=False, **PLAIN
        )

    async def arrived(self) -> Sequence[bytes]:
        await turns(lambda: not any(agent._running for agent in self.agents))
        return [file.read_bytes() for file in self.directory.glob("*.eml")]
