"""How much memory large messages and idle sessions take.

One message of 200 MB goes in by SMTP and out again by relay, another into a
mailbox, from which IMAP and POP3 read it: the most resident memory that the
process ever had. Then 1,000 IMAP sessions wait in IDLE: resident memory above
what the process had before, divided by 1,000.
"""

import argparse
import base64
import poplib
import resource
import smtplib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator

from benchmarks import measure, servers

MIB = 1 << 20

_MORE = """
smtp: {message_size: 1G, relay_from: [127.0.0.0/8, "::1/128"]}
connections: {most: 5000, most_per_address: 5000}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this workload."""
    measure.arguments(parser)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=1000)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    report = measure.Report("memory", options)
    megabytes = 20 if options.quick else options.megabytes
    sessions = 100 if options.quick else options.sessions
    with Sink() as sink, servers.configured(_MORE, f"127.0.0.1:{sink.port}") as server:
        _large(server, sink, megabytes, report)
    with servers.configured(_MORE) as server:
        _idle(server, sessions, report)
    report.write()


def _large(
    server: servers.Server, sink: "Sink", megabytes: int, report: measure.Report
) -> None:
    report.note("at the start", resident_MiB=server.resident() // MIB)
    size = megabytes * 1_000_000

    def peak(what: str, octets: int = size) -> None:
        report.note(f"{octets:,} octets {what}", peak_MiB=server.peak() // MIB)

    _send(server, "someone@elsewhere.example", size)
    sink.received.acquire()
    peak("in by SMTP and out by relay")
    _send(server, server.accounts[0][0], size)
    peak("by SMTP into a mailbox")
    peak("out by IMAP", _read_imap(server))
    peak("out by POP3", _read_pop3(server))


def _pieces(size: int) -> Iterator[bytes]:
    yield (
        b"From: a@source.example\r\nTo: b@example.test\r\nSubject: large\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
    )
    line = base64.b64encode(bytes(range(57))) + b"\r\n"
    piece = line * 1000
    for _ in range(size // len(piece)):
        yield piece


def _send(server: servers.Server, recipient: str, size: int) -> None:
    client = smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=600)
    client.ehlo()
    client.mail("a@source.example", [f"SIZE={size}"])
    _expect(client.rcpt(recipient), 250)
    _expect(client.docmd("DATA"), 354)
    assert client.sock is not None
    for piece in _pieces(size):
        client.sock.sendall(piece)
    client.sock.sendall(b".\r\n")
    _expect(client.getreply(), 250)
    client.quit()


def _expect(reply: tuple[int, bytes], code: int) -> None:
    if reply[0] != code:
        raise RuntimeError(f"{reply[0]} {reply[1].decode()}")


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _imap(server: servers.Server) -> socket.socket:
    """A session that has logged in (under TLS) and selected INBOX."""
    connection = socket.create_connection(("127.0.0.1", server.ports["imap"]))
    connection.recv(4096)
    connection.sendall(b"a STARTTLS\r\n")
    connection.recv(4096)
    secure = _unverified().wrap_socket(connection)
    name, password = server.accounts[0]
    for command in (f'LOGIN {name} "{password}"', "SELECT INBOX"):
        secure.sendall(f"b {command}\r\n".encode())
        _until(secure, b"b OK")
    return secure


def _until(connection: socket.socket, mark: bytes) -> int:
    """Read until a mark ends what has come; how many octets came."""
    count, tail = 0, b""
    while mark not in tail:
        octets = connection.recv(256 * 1024)
        if not octets:
            raise RuntimeError(f"closed: {tail!r}")
        count += len(octets)
        tail = (tail + octets)[-200:]
    return count


def _read_imap(server: servers.Server) -> int:
    connection = _imap(server)
    connection.sendall(b"c FETCH 1 BODY.PEEK[]\r\n")
    count = _until(connection, b"\r\nc OK")
    connection.close()
    return count


def _read_pop3(server: servers.Server) -> int:
    client = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=600)
    client.stls(_unverified())
    client.user(server.accounts[0][0])
    client.pass_(server.accounts[0][1])
    client._putcmd("RETR 1")  # type: ignore[attr-defined]  # retr() keeps it all
    count = _until(client.sock, b"\r\n.\r\n")
    client.quit()
    return count


def _idle(server: servers.Server, sessions: int, report: measure.Report) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (sessions + 500,) * 2)
    warm = [_idler(server) for _ in range(20)]  # caches and pools are filled
    before = server.resident()
    idlers = [_idler(server) for _ in range(sessions)]
    time.sleep(1)
    each = (server.resident() - before) / sessions
    report.note(
        f"{sessions} sessions in IDLE under TLS", KiB_each=round(each / 1024, 1)
    )
    for connection in (*warm, *idlers):
        connection.close()


def _idler(server: servers.Server) -> socket.socket:
    connection = _imap(server)
    connection.sendall(b"d IDLE\r\n")
    _until(connection, b"+ ")
    return connection


class Sink:
    """An SMTP server that counts what it is sent and keeps nothing."""

    def __init__(self) -> None:
        self.received = threading.Semaphore(0)
        received = self.received

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 sink\r\n")
                while line := self.rfile.readline():
                    verb = line[:4].upper()
                    if verb == b"EHLO":
                        self.wfile.write(b"250-sink\r\n250 SIZE\r\n")
                    elif verb == b"DATA":
                        self.wfile.write(b"354 go\r\n")
                        while self.rfile.readline() not in (b".\r\n", b""):
                            pass
                        self.wfile.write(b"250 ok\r\n")
                        received.release()
                    elif verb == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    else:
                        self.wfile.write(b"250 ok\r\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> "Sink":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
