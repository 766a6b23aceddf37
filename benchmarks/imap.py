"""IMAP: logins, FETCH, SEARCH, STORE, COPY, APPEND, MOVE and IDLE.

The peer is a Dovecot with its processes reused, its mailboxes in sdbox or
Maildir, and for logins a Dovecot as it comes, too. Ours is one process, and where
many clients come at once also one for each core. All run at the same time and take
turns. Parts: login, fetch, change, append, search, idle.
"""

import argparse
import multiprocessing
import os
import select
import smtplib
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from benchmarks import measure, reading
from benchmarks.accept import worker_series
from benchmarks.letters import Letters
from benchmarks.measure import Report
from benchmarks.reader import Imap, converse, imap_answered
from benchmarks.reading import repeated
from benchmarks.servers import Server

_HEADERS = b"BODY.PEEK[HEADER.FIELDS (From To Cc Subject Date Message-ID)]"

# What is fetched of all messages: the words of a client that opens a folder,
# that lists it, and that downloads it.
_FETCHES = {
    "UID FLAGS": b"(UID FLAGS)",
    "ENVELOPE": b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)",
    "BODYSTRUCTURE": b"(UID BODYSTRUCTURE)",
    "HEADER.FIELDS": b"(UID " + _HEADERS + b")",
    "BODY.PEEK[]": b"(UID BODY.PEEK[])",
}

_SEARCHES = {
    "TEXT, one message": b"SEARCH TEXT unique%dword",
    "BODY, one message": b"SEARCH BODY unique%dword",
    "TEXT, a common word": b"SEARCH TEXT WORD",
    "SUBJECT": b"SEARCH SUBJECT WORD",
    "FROM": b"SEARCH FROM WORD",
    "since a date": b"SEARCH SENTSINCE 1-Jan-2026",
    "arrived before a date": b"SEARCH BEFORE 1-Jan-2026",
}

# Things done, and seconds.
Measured = tuple[float, float]

_USERS = 20

# Parts in which many clients are served at once.
_AT_ONCE = {"login", "append"}
_MAILS = 10  # to each user, while clients idle


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(_PARTS)}; all")
    parser.add_argument("--messages", type=int, default=10_000, help="to fetch")
    parser.add_argument("--searched", type=int, default=100_000, help="to search")
    parser.add_argument("--logins", type=int, default=1000, help="per turn")
    parser.add_argument("--idlers", type=int, default=500)
    parser.add_argument("--formats", default="sdbox,maildir", help="of Dovecot")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if options.quick:
        options.runs = 2
        options.messages = options.searched = 1000
        options.logins, options.idlers = 200, 50
    reading.enough_files(options.idlers * 2 + 500)
    parts = options.parts or list(_PARTS)
    report = Report("-".join(["imap", *options.parts]), options)
    for part in parts:
        with reading.servers(
            report,
            _USERS,
            options.formats,
            as_it_comes=part == "login",
            workers=worker_series("") if part in _AT_ONCE else (1,),
        ) as servers:
            _PARTS[part](servers, report, options)
    report.write()


# --- logins ---


def _login(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    for server in servers:
        for user in range(_USERS):
            reading.load(server, user, 100)
    for at_once in (1, 20):

        def turn(server: Server, at_once: int = at_once) -> tuple[float, float]:
            slow = "tuned" not in server.name and server.name.startswith("dovecot")
            count = options.logins // 4 if slow else options.logins
            scripts = [_script(server, n % min(at_once, _USERS)) for n in range(count)]
            return count, converse(
                server.ports["imap"], scripts, at_once, imap_answered
            )

        report.turns(
            f"login + select + logout, {at_once} at a time",
            "/s",
            servers,
            turn,
            options.runs,
        )


def _script(server: Server, user: int) -> list[bytes]:
    name, password = server.accounts[user]
    login = f"a LOGIN {name} {password}\r\n".encode()
    return [login, b"a SELECT INBOX\r\n", b"a LOGOUT\r\n"]


# --- fetch ---


def _fetch(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    count = options.messages
    octets = 0
    for server in servers:
        octets = reading.load(server, 0, count)
    print(f"{count} messages, {octets / count:.0f} octets each")
    for server in servers:
        client = Imap(server)
        client.do(b"FETCH 1:* FLAGS")  # \Recent is told once
        client.close()
    for name, items in _FETCHES.items():
        for server in servers:
            client = Imap(server)
            found = client.count(b"FETCH 1:* " + items, b" FETCH (")
            assert found == count, (server.name, name, found)
            client.close()
        scale: float = octets / 1e6 if name == "BODY.PEEK[]" else count
        unit = "MB/s" if name == "BODY.PEEK[]" else "/s"

        def first(
            server: Server, items: bytes = items, scale: float = scale
        ) -> Measured:
            _forget(server)
            client = Imap(server)
            started = time.monotonic()
            client.do(b"FETCH 1:* " + items)
            seconds = time.monotonic() - started
            client.close()
            return scale, seconds

        def again(
            server: Server, items: bytes = items, scale: float = scale
        ) -> Measured:
            client = Imap(server)
            command = b"FETCH 1:* " + items
            client.do(command)
            measured = repeated(lambda: client.do(command), scale)(server)
            client.close()
            return measured

        report.turns(
            f"FETCH 1:* {name}, first time", unit, servers, first, options.runs
        )
        report.turns(f"FETCH 1:* {name}, again", unit, servers, again, options.runs)


def _forget(server: Server) -> None:
    """Let a server forget what it has computed of messages: as if nobody had
    fetched from the mailbox yet. Dovecot keeps it in a file beside the mailbox;
    ours computed it when they came, and remembers 16 MiB of what it has sent, so
    it is made to send twice 10 MB of something else."""
    if server.name.startswith("dovecot"):
        mail = server.directory / "mail" / server.accounts[0][0]
        for cache in mail.rglob("dovecot.index.cache*"):
            cache.unlink()
    else:
        client = Imap(server)
        client.do(b"FETCH 1:* RFC822.HEADER")
        client.do(b"FETCH 1:* BODY.PEEK[HEADER]")
        client.close()


# --- changes ---


def _change(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    count = options.messages
    for server in servers:
        reading.load(server, 0, count)
        client = Imap(server)
        client.do(b"CREATE other")
        client.close()
    everything = count, b"1:*"
    some = min(1000, count), b"1:%d" % min(1000, count)
    for what, (number, commands) in {
        r"STORE 1:* +FLAGS, -FLAGS": (
            everything[0] * 2,
            [rb"STORE 1:* +FLAGS (\Flagged)", rb"STORE 1:* -FLAGS (\Flagged)"],
        ),
        r"STORE 1:* +FLAGS.SILENT, -FLAGS.SILENT": (
            everything[0] * 2,
            [
                rb"STORE 1:* +FLAGS.SILENT (\Flagged)",
                rb"STORE 1:* -FLAGS.SILENT (\Flagged)",
            ],
        ),
        "COPY 1:1000": (some[0], [b"COPY " + some[1] + b" other"]),
        "MOVE 1:1000, and back": (
            some[0] * 2,
            [
                b"MOVE " + some[1] + b" other",
                b"SELECT other",
                b"MOVE " + some[1] + b" INBOX",
                b"SELECT INBOX",
            ],
        ),
    }.items():

        def turn(
            server: Server,
            number: int = number,
            commands: Sequence[bytes] = commands,
        ) -> Measured:
            client = Imap(server)
            started = time.monotonic()
            for command in commands:
                client.do(command)
            seconds = time.monotonic() - started
            client.close()
            return number, seconds

        report.turns(what, "messages/s", servers, turn, options.runs)


# --- append ---


def _append(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    messages = [message for _, message in Letters().messages(1000)]
    for at_once in (1, _USERS):

        def turn(server: Server, at_once: int = at_once) -> Measured:
            scripts = []
            for user in range(at_once):
                name, password = server.accounts[user]
                appends = [
                    b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message)
                    for message in messages[user * 40 : user * 40 + 800 // at_once]
                ]
                login = f"a LOGIN {name} {password}\r\n".encode()
                scripts.append([login, *appends, b"a LOGOUT\r\n"])
            port = server.ports["imap"]
            return 800, converse(port, scripts, at_once, imap_answered)

        report.turns(f"APPEND, {at_once} at a time", "/s", servers, turn, options.runs)


# --- search ---


def _search(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    for server in servers:
        started = time.monotonic()
        reading.load(server, 0, options.searched)
        print(f"{server.name}: loaded in {time.monotonic() - started:.0f} s")
    clients = {server.name: Imap(server) for server in servers}
    word = Letters().word(300)
    number = 0
    for what, command in _SEARCHES.items():

        def turn(server: Server, command: bytes = command) -> Measured:
            nonlocal number
            client = clients[server.name]
            command = command.replace(b"WORD", word)
            if b"%d" in command:
                number += 1
                command %= number * 37 % options.searched
            started = time.monotonic()
            client.do(command)
            return 1, time.monotonic() - started

        report.turns(f"SEARCH {what}", "/s", servers, turn, options.runs)


# --- idle ---


def _idle(
    servers: Sequence[Server], report: Report, options: argparse.Namespace
) -> None:
    for server in servers:
        for user in range(_USERS):
            reading.load(server, user, 100)
    for server in servers:
        clients = [Imap(server, n % _USERS) for n in range(_USERS)]  # warm
        before = server.proportional()
        clients += [Imap(server, n % _USERS) for n in range(options.idlers)]
        for client in clients:
            client.socket.sendall(b"a IDLE\r\n")
            client.until(lambda tail: tail.startswith(b"+ ") or b"\r\n+ " in tail)
        time.sleep(1)
        each = (server.proportional() - before) / options.idlers
        latencies = _latencies(server, clients)
        report.note(
            f"{server.name}, {options.idlers} clients in IDLE",
            KiB_each=round(each / 1024, 1),
            p50_ms=_percentile_ms(latencies, 50),
            p99_ms=_percentile_ms(latencies, 99),
            told=len(latencies),
            untold=len(clients) // _USERS * _USERS * _MAILS - len(latencies),
        )
        for client in clients:
            client.close()


def _percentile_ms(latencies: Sequence[float], percent: int) -> float | None:
    if len(latencies) < 2:
        return None
    return round(statistics.quantiles(latencies, n=100)[percent - 1] * 1000, 2)


def _latencies(server: Server, clients: Sequence[Imap]) -> list[float]:
    """Mail to all users in turn: seconds from each 250 to each EXISTS.

    A Dovecot process that gets no inotify instance looks twice a minute; whom it
    does not tell within three seconds is counted apart.
    """
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.get_context("fork").Process(
        target=_send, args=(server, theirs)
    )
    told: list[list[tuple[float, int]]] = [[] for _ in clients]
    poller = select.epoll()
    by_number = {client.socket.fileno(): at for at, client in enumerate(clients)}
    for client in clients:
        poller.register(client.socket, select.EPOLLIN)
    sender.start()
    accepted: list[list[float]] = []
    last = time.monotonic()
    # Dovecot tells half a second later; whoever is silent for three has done.
    while not accepted or time.monotonic() - last < 3:
        for number, _ in poller.poll(0.1):
            last = time.monotonic()
            at = by_number[number]
            octets = clients[at].socket.recv(65536)
            for line in octets.split(b"\r\n"):
                if line.endswith(b" EXISTS"):
                    told[at].append((last, int(line.split()[1])))
        if not accepted and ours.poll():
            accepted = ours.recv()
    sender.join()
    poller.close()
    latencies = []
    for at, heard in enumerate(told):
        for number, sent in enumerate(accepted[at % _USERS]):
            # One EXISTS may tell of several messages.
            when = next((when for when, count in heard if count > 100 + number), None)
            if when is not None:
                latencies.append(when - sent)
    return latencies


def _send(server: Server, result: Connection) -> None:
    """In a process of its own: a message every 20 ms, to one user after the
    other."""
    accepted: list[list[float]] = [[] for _ in range(_USERS)]
    if "lmtp" in server.ports:
        client: smtplib.SMTP = smtplib.LMTP("127.0.0.1", server.ports["lmtp"])
    else:
        client = smtplib.SMTP("127.0.0.1", server.ports["smtp"])
    messages = Letters().messages(_USERS * _MAILS)
    for number, (_, message) in enumerate(messages):
        user = number % _USERS
        client.sendmail("a@source.example", [server.accounts[user][0]], message)
        accepted[user].append(time.monotonic())
        time.sleep(0.02)
    client.quit()
    result.send(accepted)
    os._exit(0)


_PARTS: dict[str, Callable[[Sequence[Server], Report, argparse.Namespace], None]] = {
    "login": _login,
    "fetch": _fetch,
    "change": _change,
    "append": _append,
    "search": _search,
    "idle": _idle,
}
