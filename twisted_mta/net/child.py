"""Runs a module as a child of a server, deaf to signals that are not for it.

To import a server takes half a second. A terminal's Ctrl-C is for all processes of
it, and one that is still importing would answer with a traceback; what its parent
wants it hears on its channel. So this is run first and imports next to nothing.
Reactors leave a signal that is ignored alone, but for SIGTERM.
"""

import signal
import sys
from collections.abc import Callable
from runpy import run_module
from typing import Any

# What a terminal, or who rotates logs, sends to every process; the parent decides.
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def heed_sigterm(reactor: Any, stop: Callable[[], None]) -> None:
    """Let SIGTERM end this process as its parent's word does: a reactor that just ends
    leaves threads that keep the process. Some who stop a server signal all of its
    processes (timeout(1), systemd's C{KillMode=control-group}).

    @param reactor: not running yet; it takes the signal itself when it starts.
    """

    def take() -> None:
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(stop))

    reactor.callWhenRunning(take)


if __name__ == "__main__":
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    del sys.argv[0]  # now it begins with the module, which finds its own words there
    run_module(sys.argv[0], run_name="__main__", alter_sys=True)
