"""The contract of delivery agents, on the example agent, and on bad ones."""

import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import TestCase
from zope.interface import implementer

from twisted_mta.interfaces import IContent, IDeliveryAgent
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result
from twisted_mta.plugin import Shelf
from twisted_mta.testing.agent_contract import AgentContract

ROOT = Path(__file__).resolve().parent.parent.parent


class ArchiveTests(AgentContract, TestCase):
    """The drop-in that writes files."""

    async def build(self) -> IDeliveryAgent:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        shelf = Shelf((), [ROOT / "plugins" / "twisted_mta" / "plugins"], search=[])
        plugin = shelf.find("agent", "archive")
        agent: IDeliveryAgent = plugin.build(plugin.config(self.directory), None)
        return agent

    async def arrived(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in self.directory.glob("*.eml")]


@implementer(IDeliveryAgent)
class Careless:
    """Reads all at once, forgets the prefix, and says all is well."""

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        arrived.append(await content.read(0, content.size))
        outcome = Outcome(Result.DELIVERED, "4.0.0", "OK")
        return dict.fromkeys(job.recipients, outcome)

    async def close(self) -> None:
        pass


arrived: list[bytes] = []


class ContractTests(TestCase):
    def test_it_can_fail(self) -> None:
        """An agent that is careless does not pass."""

        class Tests(AgentContract, TestCase):
            async def build(self) -> IDeliveryAgent:
                arrived.clear()
                return Careless()

            async def arrived(self) -> Sequence[bytes]:
                return arrived

        for name in ("delivers", "several", "large", "content_gone"):
            result = unittest.TestResult()
            Tests(f"test_{name}").run(result)
            self.assertEqual(len(result.failures), 1, name)
