"""When hints between processes are not trusted, and all is looked at.

L{Hints <twisted_mta.ledger.hints>} say what another process changed, and may be
lost; that the database's version has changed is certain, but it says neither what
nor how often. So a change that no hint comes with is believed lost at the next
look; one that a hint came with may be another's besides, which a slow poll finds.
The module asks nobody anything, and has no clock.
"""

from __future__ import annotations

# How often all is looked at while hints arrive: each watcher costs 10 to 30 us, so
# 500 clients in IDLE some 10 ms. Only a hint that was lost among others waits so
# long (Dovecot: mailbox_idle_check_interval, 30 s).
POLL_S = 10.0


class LostHints:
    """What one process knows of the writing of others."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._hinted = False
        # Since when there is a change that perhaps nobody was told of, and
        # whether hints have come meanwhile.
        self._since: float | None = None
        self._explained = False

    def connected(self, version: int) -> None:
        """Versions are now those of another connection, which cannot be compared:
        what was written between the two is found by the next look."""
        if self._version is not None:
            self._since = float("-inf")
        self._version = version

    def hinted(self) -> None:
        """A hint came."""
        self._hinted = True

    def look(self, version: int, now: float) -> bool:
        """Look, regularly.

        @param version: the database's, as one connection sees it.
        @param now: seconds.
        @return: whether anything may have changed without a hint.
        """
        changed, self._version = version != self._version, version
        hinted, self._hinted = self._hinted, False
        if self._since is None:
            if changed:
                # Its hint may be on its way.
                self._since, self._explained = now, hinted
            return False
        self._explained = self._explained or hinted
        if self._explained and now - self._since < POLL_S:
            return False
        self._since = None
        return True
