"""What stands on the ledger, for an operator's commands."""

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_mta.errors import BadFilter
from twisted_mta.office import Office


class CheckWayTests(SynchronousTestCase):
    """Ways that an operator gives mail: what is mistyped must not return it."""

    def check(self, agent: str, next_hop: str) -> None:
        agents = {
            "dovecot": {"kind": "lmtp"},
            "tickets": {"kind": "pipe"},
        }
        office: Any = SimpleNamespace(config=SimpleNamespace(agents=agents))
        Office.check_way(office, agent, next_hop)

    def test_good(self) -> None:
        """Agents take what is theirs; where none is named, what one of them takes."""
        for agent, next_hop in (
            ("", "b.test"),
            ("", "[192.0.2.1]:25"),
            ("", "unix:/run/lmtp"),
            ("smtp", ""),
            ("dovecot", "unix:/run/lmtp"),
            ("tickets", "anything at all"),
        ):
            self.check(agent, next_hop)

    def test_bad(self) -> None:
        """What none takes is refused, whatever other agents there are."""
        for agent, next_hop in (
            ("nobody", ""),
            ("", "[192.0.2.1"),
            ("", "192.0.2.1"),
            ("", "unix:run"),
            ("smtp", "unix:/run/lmtp"),
            ("smtp", "ann@b.test"),
            ("dovecot", "[192.0.2.1]:0"),
        ):
            self.assertRaises(BadFilter, self.check, agent, next_hop)
