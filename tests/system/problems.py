"""What the ledger says is wrong with itself: C{python -m tests.system.problems
DIRECTORY} prints a line for each."""

import sys
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from twisted_mta.ledger.ledger import Ledger


async def main(reactor: Any) -> None:
    """Open, look, close."""
    ledger = Ledger(reactor, Path(sys.argv[1]))
    await ledger.open()
    for problem in await ledger.problems():
        print(problem)
    await ledger.close()


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
