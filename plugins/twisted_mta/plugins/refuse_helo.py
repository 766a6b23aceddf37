"""A policy that refuses clients by the name they give themselves.

An example of a drop-in: one object that says its kind, its name and its
settings, and builds the policy. The config chooses it so::

    policies:
      - {kind: refuse_helo, names: [localhost, mail.example.org]}
"""

from attrs import frozen
from zope.interface import implementer

from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.plugin import Environment, IPlugin
from twisted_mta.policy.silent import Silent


@frozen
class Settings:
    """What stands in the config.

    @ivar names: names that no honest client gives itself.
    """

    names: tuple[str, ...]


class RefuseHelo(Silent):
    """Refuses a client at HELO; has no opinion at any other stage."""

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        super().__init__(name)
        self._names = {name.lower() for name in names}

    async def helo(self, progress: Progress) -> Verdict | None:
        if progress.origin.helo.lower() not in self._names:
            return None
        text = f"You are not {progress.origin.helo}; say your own name"
        return Verdict.reject(text, disconnect=True)


@implementer(IPlugin)
class Plugin:
    """How the server finds the policy."""

    kind = "policy"
    name = "refuse_helo"
    config = Settings

    def build(self, config: Settings, environment: Environment) -> RefuseHelo:
        """Make the policy."""
        return RefuseHelo(environment.name, config.names)


plugin = Plugin()
