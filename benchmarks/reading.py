"""What the workloads of reading share: servers, and mail put into them.

Mail comes by each server's own door, and is the same to the octet: by APPEND,
one message after the other into ours, pipelined, and by MULTIAPPEND into Dovecot.
Passwords: ours are argon2id, and one that was right is remembered for five
minutes; Dovecot's are in the clear (see L{benchmarks.dovecot}). So the cost of a
hash is in no figure.
"""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.dovecot import available, dovecot
from benchmarks.letters import Letters
from benchmarks.measure import Report, Turn
from benchmarks.reader import Imap
from benchmarks.servers import Server, configured


@contextmanager
def servers(
    report: Report,
    users: int,
    formats: str,
    as_it_comes: bool = False,
    workers: Sequence[int] = (1,),
) -> Iterator[list[Server]]:
    """Ours, and Dovecots with their processes reused.

    @param formats: of their mailboxes, with commas between.
    @param as_it_comes: one more Dovecot, that starts processes as it does by
        default.
    @param workers: processes of ours, one server for each number.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        under_test = [
            enter(configured(plaintext=True, users=users, workers=count))
            for count in workers
        ]
        if available():
            named = [name for name in formats.split(",") if name]
            for name in named:
                under_test.append(enter(dovecot(name, tuned=True, users=users)))
            if as_it_comes and named:
                under_test.append(enter(dovecot(named[0], tuned=False, users=users)))
        elif formats:
            report.skipped("dovecot", "it is not installed, or this is not root")
        yield under_test


def enough_files(count: int) -> None:
    """Let this process have so many sockets."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def load(server: Server, user: int, count: int, mailbox: str = "INBOX") -> int:
    """Put messages into a mailbox.

    @return: their octets.
    """
    client = Imap(server, user, "")
    octets = 0
    batch: list[bytes] = []
    for at, message in Letters().messages(count):
        octets += len(message)
        date = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(at)).encode()
        batch.append(b' "%b" {%d+}\r\n%b' % (date, len(message), message))
        if len(batch) == 200:
            _append(server, client, mailbox, batch)
            batch.clear()
    if batch:
        _append(server, client, mailbox, batch)
    client.do(b"LOGOUT")
    client.close()
    return octets


def _append(server: Server, client: Imap, mailbox: str, batch: Sequence[bytes]) -> None:
    name = mailbox.encode()
    if server.name.startswith("dovecot"):
        client.do(b"APPEND " + name + b"".join(batch))
        return
    commands = [b"x APPEND " + name + each + b"\r\n" for each in batch]
    client.socket.sendall(b"".join(commands))
    client.do(b"NOOP")


def repeated(do: Callable[[], object], count: float, least_s: float = 0.3) -> Turn:
    """A turn that does something until some time has passed: what takes a few
    milliseconds is not measured once.

    @param count: how many things it does each time.
    """

    def turn(server: Server) -> tuple[float, float]:
        times = 0
        started = time.monotonic()
        while True:
            do()
            times += 1
            seconds = time.monotonic() - started
            if seconds > least_s:
                return count * times, seconds

    return turn
