"""What the end of a program means for the mail that it was given (sysexits.h).

Deferred unless the program says that it is final: whatever may be the operator's to
mend (a wrong command line, a file that is missing, a bug) waits for him, where Postfix
returns it.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from twisted_mta.delivery.text import one_line
from twisted_mta.mail.route import Outcome, Result

# sysexits.h, with the status of each as in Postfix (sys_exits.c), but for the class of
# those that defer.
_EXITS = {
    64: ("4.3.0", "command line usage error"),
    65: ("5.6.0", "data format error"),
    66: ("4.3.0", "cannot open input"),
    67: ("5.1.1", "user unknown"),
    68: ("5.1.2", "host name unknown"),
    69: ("5.3.0", "service unavailable"),
    70: ("4.3.0", "internal software error"),
    71: ("4.3.0", "system resource problem"),
    72: ("4.3.0", "critical OS file missing"),
    73: ("4.2.0", "cannot create user output file"),
    74: ("4.3.0", "input/output error"),
    75: ("4.3.0", "temporary failure"),
    76: ("5.5.0", "remote error in protocol"),
    77: ("5.7.0", "permission denied"),
    78: ("4.3.5", "local configuration error"),
}

# RFC 3463 at the beginning of what a program says.
_SAID = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    @ivar code: its exit status; negative: the signal that ended it.
    @ivar output: the first of what it said.
    @ivar killed: why it was not let go on, or empty.
    """

    code: int
    output: bytes
    killed: str = ""


def outcome(ended: Ended) -> Outcome:
    """What became of those whom the run was for."""
    text = ended.output.decode("utf-8", "replace")
    said = _SAID.match(text)
    words = one_line(text[said.end() :] if said else text)
    if ended.killed:
        return Outcome(Result.DEFERRED, "4.3.0", _with(ended.killed, words))
    if ended.code == 0:
        status = said[1] if said and said[1][0] == "2" else "2.0.0"
        return Outcome(Result.DELIVERED, status, words or "taken by the program")
    if ended.code < 0:
        name = signal.strsignal(-ended.code) or f"signal {-ended.code}"
        return Outcome(
            Result.DEFERRED, "4.3.0", _with(f"The program was ended: {name}", words)
        )
    status, meaning = _EXITS.get(ended.code, ("4.3.0", "unknown status"))
    if said and said[1][0] in "45":
        status = said[1]
    result = Result.FAILED if status[0] == "5" else Result.DEFERRED
    ending = f"The program exited with {ended.code} ({meaning})"
    return Outcome(result, status, _with(ending, words))


def _with(ending: str, words: str) -> str:
    return f"{ending}: {words}" if words else ending
