"""What every delivery agent must keep to, as tests: the promises of
L{IDeliveryAgent}, one test each.

Whoever writes an agent derives a test case from this class first and
C{twisted.trial.unittest.TestCase} second, and says how an agent is made whose
other end takes everything, and what arrived there::

    class ArchiveTests(AgentContract, TestCase):
        async def build(self):
            return Archive(self.directory)

        async def arrived(self):
            return [file.read_bytes() for file in self.directory.iterdir()]

It knows nothing of the agent but the interface.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from unittest import TestCase

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mta.errors import MailError, NoSuchMessage
from twisted_mta.interfaces import IContent, IDeliveryAgent, IForesight
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Envelope
from twisted_mta.mail.ids import new_id
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result

PREFIX = b"Received: from here by there; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
MESSAGE = (
    b"From: <alice@example.test>\r\nSubject: hello\r\n\r\n"
    b"A first line.\r\n.\r\n..\r\n.dots before lines\r\n\r\nThe last.\r\n"
)

# What an agent may hold of a message at once.
_PIECE = 1 << 20

_CLASS = {Result.DELIVERED: "2", Result.DEFERRED: "4", Result.FAILED: "5"}

if TYPE_CHECKING:
    _Case = TestCase
else:
    _Case = object


@implementer(IContent)
class Content:
    """Octets that are there, and note how they are read."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)
        self.most = 0

    async def read(self, offset: int, most: int) -> bytes:
        """See L{IContent.read}."""
        self.most = max(self.most, most)
        return self._octets[offset : offset + most]


@implementer(IContent)
class Gone:
    """Content that is collected after its first piece."""

    size = 4 * _PIECE

    async def read(self, offset: int, most: int) -> bytes:
        """See L{IContent.read}."""
        if offset:
            raise NoSuchMessage()
        return (MESSAGE * (most // len(MESSAGE) + 1))[:most]


def _asynchronous(
    test: Callable[[Any], Coroutine[Any, Any, None]],
) -> Callable[[Any], Deferred[None]]:
    """A coroutine as a test that trial can wait for."""

    def run(case: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(case))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class AgentContract(_Case):
    """The promises. C{next_hop} and C{recipients} may be others."""

    next_hop = "elsewhere.test"
    recipients: Sequence[Address] = (
        Address("carol", "elsewhere.test"),
        Address("dave", "elsewhere.test"),
    )

    async def build(self) -> IDeliveryAgent:
        """A new agent; what has to be cleaned up is for C{addCleanup}."""
        raise NotImplementedError

    async def arrived(self) -> Sequence[bytes]:
        """The messages that are on the other end, in any order: prefix and
        content, however often each recipient counts."""
        raise NotImplementedError

    def _job(self, size: int) -> Job:
        envelope = Envelope(
            new_id(),
            Address("alice", "example.test"),
            tuple(self.recipients),
            1_700_000_000.0,
        )
        return Job(
            id=new_id(),
            envelope=envelope,
            content=1,
            prefix=PREFIX,
            size=len(PREFIX) + size,
            eight_bit=False,
            agent="tested",
            next_hop=self.next_hop,
            recipients=envelope.recipients,
            attempts=0,
            warned=False,
        )

    def _check(self, outcomes: Mapping[Address, Outcome]) -> None:
        """Outcomes are of the job's recipients, and make sense."""
        self.assertLessEqual(set(outcomes), set(self.recipients))
        for outcome in outcomes.values():
            self.assertRegex(outcome.status, r"\A[245]\.\d{1,3}\.\d{1,3}\Z")
            self.assertEqual(outcome.status[0], _CLASS[outcome.result])
            if outcome.replied:
                self.assertRegex(outcome.diagnostic, r"\A[245]\d\d")
            self.assertIsNone(re.search(r"[\r\n\0]", outcome.remote))

    async def _deliver(
        self, agent: IDeliveryAgent, octets: bytes
    ) -> tuple[Mapping[Address, Outcome], Content]:
        content = Content(octets)
        outcomes = await agent.deliver(self._job(len(octets)), cast(IContent, content))
        self._check(outcomes)
        return outcomes, content

    @_asynchronous
    async def test_interface(self) -> None:
        """It provides the interface."""
        agent = await self.build()
        verifyObject(IDeliveryAgent, agent)
        await agent.close()

    @_asynchronous
    async def test_delivers(self) -> None:
        """Prefix and content arrive, octet for octet, and each recipient has
        its outcome."""
        agent = await self.build()
        outcomes, _ = await self._deliver(agent, MESSAGE)
        self.assertEqual(set(outcomes), set(self.recipients))
        results = {outcome.result for outcome in outcomes.values()}
        self.assertEqual(results, {Result.DELIVERED})
        self.assertEqual(set(await self.arrived()), {PREFIX + MESSAGE})
        await agent.close()

    @_asynchronous
    async def test_several(self) -> None:
        """Messages one after the other arrive each by itself."""
        agent = await self.build()
        sent = [MESSAGE + b"%d\r\n" % number for number in range(5)]
        for octets in sent:
            await self._deliver(agent, octets)
        self.assertEqual(
            set(await self.arrived()), {PREFIX + octets for octets in sent}
        )
        await agent.close()

    @_asynchronous
    async def test_large(self) -> None:
        """Large content is read piece by piece, so that memory stays flat."""
        agent = await self.build()
        octets = MESSAGE + b"0123456789abcdef" * 8 * 20_000 + b"\r\n"
        _, content = await self._deliver(agent, octets.replace(b"f0", b"f\r\n0"))
        self.assertLessEqual(content.most, _PIECE)
        (message,) = set(await self.arrived())
        self.assertEqual(message, PREFIX + octets.replace(b"f0", b"f\r\n0"))
        await agent.close()

    @_asynchronous
    async def test_content_gone(self) -> None:
        """Content that cannot be read to its end is not delivered: an outcome
        says so, or the error of the content passes through."""
        agent = await self.build()
        gone = Gone()
        try:
            outcomes = await agent.deliver(self._job(gone.size), cast(IContent, gone))
        except MailError:
            outcomes = {}
        self._check(outcomes)
        results = {outcome.result for outcome in outcomes.values()}
        self.assertNotIn(Result.DELIVERED, results)
        self.assertEqual(list(await self.arrived()), [])
        await agent.close()

    @_asynchronous
    async def test_foresees(self) -> None:
        """If it can be asked at RCPT, it says that those are taken whose mail it
        delivers."""
        agent = await self.build()
        if IForesight.providedBy(agent):
            verifyObject(IForesight, agent)
            foreseen = cast(IForesight, agent)
            said = {
                who: await foreseen.foresee(self.next_hop, who)
                for who in self.recipients
            }
            self._check(said)
            results = {outcome.result for outcome in said.values()}
            self.assertEqual(results, {Result.DELIVERED})
        await agent.close()

    @_asynchronous
    async def test_close(self) -> None:
        """It can be closed unused, and twice."""
        agent = await self.build()
        await agent.close()
        await agent.close()
