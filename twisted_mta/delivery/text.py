"""Text of strangers made safe for one line: of a log, a header field, a DSN.

What a peer said or an address holds may carry line ends, escapes for terminals
and characters that turn the reading direction. None of them gets through here;
what remains is bounded.
"""

import re

from twisted_mta.mail.route import Outcome

# C0, DEL and C1; line and paragraph separators; the marks that reorder text
# (Unicode's Bidi_Control) and lone surrogates, which cannot be encoded.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"
)

# A reply of SMTP has 512 octets a line (RFC 5321 4.5.3.1.5), several lines are
# common; Postfix keeps 2 KiB of it.
_MOST = 1000


def one_line(text: str, most: int = _MOST) -> str:
    """The text with each run of unsafe characters as one space.

    @param most: characters; what is longer ends in C{...}.
    """
    line = _UNSAFE.sub(" ", text[: most + 1]).strip()
    return line if len(text) <= most else line[: most - 3] + "..."


def channel(outcome: Outcome) -> str:
    """How the channel was, as the log says it: C{tls=TLSv1.3, verified=dane, }; empty
    if nothing was heard over any."""
    if not outcome.tls:
        return "tls=none, " if outcome.remote and outcome.replied else ""
    version, _, rest = outcome.tls.partition(" ")
    proof = rest.rpartition("(")[2].rstrip(")")
    return f"tls={version}, verified={proof or 'none'}, "
