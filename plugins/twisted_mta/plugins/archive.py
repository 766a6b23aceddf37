"""A delivery agent that puts each message into a directory, a file each.

An example of a drop-in: mail for a domain goes to files that another program
takes away. The config chooses it so::

    agents:
      lists: {kind: archive, directory: /var/spool/lists}
    routes:
      - {domain: lists.example.org, agent: lists}
"""

import os
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_mta.interfaces import IContent, IDeliveryAgent
from twisted_mta.mail import ids
from twisted_mta.mail.address import Address
from twisted_mta.mail.job import Job
from twisted_mta.mail.route import Outcome, Result
from twisted_mta.plugin import Environment, IPlugin

_PIECE = 256 * 1024


@frozen
class Settings:
    """What stands in the config.

    @ivar directory: where the files go; it must exist.
    """

    directory: Path


@implementer(IDeliveryAgent)
class Archive:
    """Writes C{ID-ROW.eml}, whole and durable or not at all: the file has
    another name until it is written and synced. A repeated attempt writes the
    same file again, so nothing is there twice."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def deliver(self, job: Job, content: IContent) -> Mapping[Address, Outcome]:
        try:
            path = await self._write(job, content)
        except OSError as error:
            outcome = Outcome(
                Result.DEFERRED, "4.3.0", f"cannot write: {error.strerror}"
            )
        else:
            outcome = Outcome(Result.DELIVERED, "2.0.0", f"written to {path.name}")
        return dict.fromkeys(job.recipients, outcome)

    async def _write(self, job: Job, content: IContent) -> Path:
        path = self._directory / f"{ids.to_text(job.envelope.id)}-{job.id}.eml"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(job.prefix)
            at = 0
            while piece := await content.read(at, _PIECE):
                file.write(piece)
                at += len(piece)
            file.flush()
            await deferToThread(os.fsync, file.fileno())
        partial.rename(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            await deferToThread(os.fsync, directory)
        finally:
            os.close(directory)
        return path

    async def close(self) -> None:
        """Nothing is open between messages."""


@implementer(IPlugin)
class Plugin:
    """How the server finds the agent."""

    kind = "agent"
    name = "archive"
    config = Settings

    def build(self, config: Settings, environment: Environment) -> Archive:
        """Make the agent."""
        return Archive(config.directory)


plugin = Plugin()
