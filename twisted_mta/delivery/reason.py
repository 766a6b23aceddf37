"""What a status code means, in a sentence for whoever wrote the message.

RFC 3463 says what each code means to programs; servers' own words, which are shown
beside it, are written for their operators. The class (temporary or not) is said
elsewhere. Codes that are not here have the sentence of their kind.
"""

from collections.abc import Mapping

_NOT_THERE = "Nobody there has this address. Look whether it is spelled right."
_NO_MAIL = "The domain, what is after the @, does not exist or takes no mail."
_NOT_REACHED = "Their mail server could not be reached, or broke off."
_TOO_LARGE = "The message is larger than they take."
_UNWANTED = (
    "They do not want the message, or not from here. What their server answered may say"
    " why; only they can change it."
)
_NO_TLS = (
    "The message may only travel encrypted, and that could not be had on its way there."
)

# By subject and detail (RFC 3463 3).
_MEANINGS: Mapping[str, str] = {
    "1.1": _NOT_THERE,
    "1.2": _NO_MAIL,
    "1.3": "The address is not of a form that they understand.",
    "1.6": "Who had this address has moved, and has left no other.",
    "1.8": "They do not accept your own address as one that can be answered.",
    "1.10": _NO_MAIL,
    "2.1": "The mailbox is closed at the moment, or for good.",
    "2.2": "The mailbox is full.",
    "2.3": _TOO_LARGE,
    "3.1": "Their mail server has no room at the moment.",
    "3.2": "Their mail server takes nothing at the moment.",
    "3.4": _TOO_LARGE,
    "4.1": _NOT_REACHED,
    "4.2": _NOT_REACHED,
    "4.3": "It could not be found out which server takes their mail.",
    "4.4": _NO_MAIL,
    "4.6": "The message would go round in a circle.",
    "4.7": "It was tried again and again, for as long as it is tried.",
    "6.3": "The message is of a form that their server does not take.",
    "6.7": "Their server does not take addresses with such letters.",
    "7.4": _NO_TLS,
    "7.10": _NO_TLS,
    "7.30": _NO_TLS,
}

# By subject.
_KINDS: Mapping[str, str] = {
    "1": "Something is wrong with the address.",
    "2": "Something is wrong with the mailbox.",
    "3": "Something is wrong with their mail server.",
    "4": "The message did not get through to their mail server.",
    "5": "Their mail server and this one did not understand each other.",
    "6": "They do not take what is in the message.",
    "7": _UNWANTED,
}


def meaning(status: str) -> str:
    """A sentence, or nothing if a code says nothing.

    @param status: C{5.1.1}; whatever is no code is none.
    """
    _, _, rest = status.partition(".")
    return _MEANINGS.get(rest) or _KINDS.get(rest.partition(".")[0], "")
