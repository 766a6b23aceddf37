"""Whether an attempt says that its site is there.

It judges outcomes by what they say, of whichever agent: a reply came from somebody,
and only 421 (RFC 5321 3.8: the service is not available) is of the whole site; without
a reply, X.4.1 (RFC 3463 3.5: no answer from the host) means that nobody was reached.
Anything else is of the message, or of us: a transaction that broke off (X.4.2) may be
the one message's doing, which shall not keep a site dead; a DNS that is away (X.4.3)
shall not make all sites dead.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mta.mail.route import Outcome, Result

# RFC 3463 3.5: no answer from the host.
_NO_ANSWER = "4.4.1"
_CLOSING = "421"


def reached(outcomes: Iterable[Outcome]) -> bool | None:
    """What the outcomes of an attempt say of the site.

    @return: C{True}: somebody answered; C{False}: nobody could be reached; C{None}:
        nothing.
    """
    said: bool | None = None
    for outcome in outcomes:
        one = _reached(outcome)
        if one:
            return True
        if one is False:
            said = False
    return said


def _reached(outcome: Outcome) -> bool | None:
    if outcome.result is not Result.DEFERRED:
        # What failed without a reply never came as far as the site.
        return True if outcome.result is Result.DELIVERED or outcome.replied else None
    if outcome.replied:
        return not outcome.diagnostic.startswith(_CLOSING)
    return False if outcome.status == _NO_ANSWER else None
