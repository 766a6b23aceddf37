"""Who sends one message to very many is answered slowly."""

from __future__ import annotations

from twisted_mta.mail.verdict import Progress, Verdict
from twisted_mta.policy.silent import Silent


class Tarpit(Silent):
    """Asks at RCPT, as qmail's tarpitting patch does (tarpitcount, tarpitdelay).

    @param recipients: so many of a message are answered at once.
    @param delay_s: how long each one after them takes.
    """

    def __init__(self, name: str, recipients: int, delay_s: float) -> None:
        super().__init__(name)
        self._recipients = recipients
        self._delay_s = delay_s

    async def rcpt(self, progress: Progress) -> Verdict | None:
        count = len(progress.recipients)
        if progress.trusted or count <= self._recipients:
            return None
        return Verdict.delay(self._delay_s, f"{count} recipients")
