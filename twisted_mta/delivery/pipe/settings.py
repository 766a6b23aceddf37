"""How the pipe agent behaves, as values; each with its precedent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted_mta.delivery.pipe.arguments import Arguments, Spelling


@dataclass(frozen=True, slots=True)
class Settings:
    """An agent's settings.

    @ivar user: as whom programs run, C{None} for whoever the server runs as; if that
        is root, none runs (Postfix, pipe(8): user is required).
    @ivar directory: where it runs.
    @ivar environment: all of it.
    @ivar each: a run for each recipient; else one for those of a message, of whom
        C{recipients} are given to one (Postfix: pipe_destination_recipient_limit 50).
    @ivar from_line: begin with mbox's C{From } (Postfix: flag F),
    @ivar return_path: with Return-Path (flag R),
    @ivar delivered_to: and Delivered-To, and return what has it already (flag D).
        Only if C{each}.
    @ivar line_feed: lines end in LF, as programs expect, not in CRLF.
    @ivar timeout_s: how long a run may take (Postfix: command_time_limit 1000 s).
    @ivar grace_s: from SIGTERM to SIGKILL.
    @ivar linger_s: how long output is waited for that others of its processes keep
        open once the program has ended.
    @ivar diagnostic: octets of output that are kept (Postfix: 2 KB), and
    @ivar output: that are read before a run is ended.
    @ivar concurrency: runs at the same time.
    """

    arguments: Arguments
    spelling: Spelling = field(default_factory=Spelling)
    user: str | None = None
    directory: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    each: bool = True
    recipients: int = 50
    from_line: bool = False
    return_path: bool = True
    delivered_to: bool = True
    line_feed: bool = True
    timeout_s: float = 1000
    grace_s: float = 5
    linger_s: float = 1
    diagnostic: int = 2048
    output: int = 1 << 20
    concurrency: int = 10
