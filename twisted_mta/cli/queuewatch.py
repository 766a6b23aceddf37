"""C{twisted-mta queue list --watch}: what waits as a live table on a terminal."""

import argparse
import shutil
import sys
import time
from contextlib import suppress

from twisted.internet import task

from twisted_mta.cli import queue, table
from twisted_mta.cli.queueline import chosen
from twisted_mta.cli.server import with_office
from twisted_mta.mail.count import Count
from twisted_mta.mail.job import Page
from twisted_mta.office import Office

# How often it is shown anew. Counting goes through the queue: of a long one it takes
# more than a moment, and is done less often for that.
_EVERY_S = 2.0
_COUNTING_MOST = 0.1

# Another screen, no cursor; and back (xterm's, and everybody's since).
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


def watch(options: argparse.Namespace) -> int:
    """Show it until Ctrl-C."""
    filter = chosen(options)

    async def work(office: Office) -> None:
        from twisted.internet import reactor  # it is there by now

        count, counted_at, took_s = await office.oversight.count(filter), 0.0, 0.0
        while True:
            began = time.monotonic()
            if began - counted_at >= took_s / _COUNTING_MOST:
                count = await office.oversight.count(filter)
                counted_at = time.monotonic()
                took_s = counted_at - began
            size = shutil.get_terminal_size()
            page = await office.oversight.waiting(filter, max(size.lines, 1))
            shown = screen(page, count, time.time(), size.columns, size.lines)
            lines = [f"{line}{_REST_OF_LINE}" for line in shown]
            sys.stdout.write(f"{_HOME}{chr(10).join(lines)}{_REST}")
            sys.stdout.flush()
            await task.deferLater(reactor, _EVERY_S)

    sys.stdout.write(_BEGIN)
    try:
        with suppress(KeyboardInterrupt):
            with_office(options, work)
    finally:
        sys.stdout.write(_END)
        sys.stdout.flush()
    return 0


def screen(page: Page, count: Count, now: float, columns: int, rows: int) -> list[str]:
    """What fits a window.

    @param columns: of the window; so are C{rows}.
    """
    head = f"{table.when(now)}  {queue.in_words(count)}; Ctrl-C ends"
    lines = [table.cut(head, columns), ""]
    if page.rows:
        lines += queue.waiting_lines(page.rows, now, columns)
    else:
        lines.append("Nothing waits.")
    return lines[: max(rows, 1)]
