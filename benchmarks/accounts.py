"""C{python -m benchmarks.accounts CONFIG COUNT}: make accounts, in one process.

They are those of L{benchmarks.servers.addresses}. Each password is hashed as
always, which takes some 20 ms.
"""

import argparse
import sys
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults

from benchmarks.servers import addresses
from twisted_mta.cli.server import with_office
from twisted_mta.mail.address import split
from twisted_mta.office import Office

# Fewer than may wait for a hash (twisted_mta.auth.passwords).
_AT_ONCE = 100


def main(config: str, count: int) -> None:
    """Make them."""

    async def work(office: Office) -> None:
        accounts = addresses(count)
        for at in range(0, count, _AT_ONCE):
            some = accounts[at : at + _AT_ONCE]
            adding = [office.add_account(split(one), word) for one, word in some]
            await gatherResults([Deferred.fromCoroutine(each) for each in adding])

    with_office(argparse.Namespace(directory=None, config=Path(config)), work)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
