"""How much an account may submit."""

from typing import NamedTuple

from twisted_mta.mail.submitted import Submitted


class Allowance(NamedTuple):
    """What an account may submit; C{None}: any number.

    Its fields are those of L{Submitted}.
    """

    messages_hour: int | None = None
    messages_day: int | None = None
    recipients_hour: int | None = None
    recipients_day: int | None = None

    @property
    def limited(self) -> bool:
        """Whether anything is."""
        return any(limit is not None for limit in self)

    def exceeded(
        self, submitted: Submitted, messages: int = 0, recipients: int = 0
    ) -> str:
        """What is too much, in words, if so many messages more, with so many
        recipients in all, are submitted; empty if nothing is."""
        more = (messages, messages, recipients, recipients)
        for words, limit, sent, added in zip(
            _WORDS, self, submitted, more, strict=True
        ):
            if limit is not None and sent + added > limit:
                return words.format(limit)
        return ""


UNLIMITED = Allowance()

_WORDS = (
    "{} messages an hour",
    "{} messages a day",
    "{} recipients an hour",
    "{} recipients a day",
)
