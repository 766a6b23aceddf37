"""A server beside what says how it has to speak to others: a resolver that validates
(Debian's unbound), and the Web."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import ssl
import threading
import unittest
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.dnssec
import dns.name
import dns.rdatatype
import dns.resolver
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm

from tests.net.chain import certificate, written
from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Program,
    Server,
    free_port_base,
    wait_until,
)
from tests.system.relaycase import PASSWORD, config, queue, submit, wait_for
from twisted_mta.net.verification import tlsa_of

# Where .ci/run unpacks it.
_TREE = Path(
    os.environ.get("TWISTED_MTA_PEERS", "/var/cache/twisted-mta-peers"), "unbound"
)

_CONFIG = """
server:
  interface: 127.0.0.1
  port: {port}
  do-ip6: no
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  verbosity: 1
  module-config: "validator iterator"
  trust-anchor-file: "{anchors}"
  local-zone: "test." nodefault
  do-not-query-localhost: no
remote-control:
  control-enable: no
"""

_ZONE = """
auth-zone:
  name: "{name}"
  zonefile: "{file}"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
"""

_HEAD = """
$TTL 300
@ SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 60
@ NS ns.{name}.
ns A 127.0.0.1
@ MX 10 mx.{name}.
mx A 127.0.0.1
"""


def _unbound() -> tuple[Path, dict[str, str]]:
    """The program, and the environment that it needs."""
    unpacked = _TREE / "usr/sbin/unbound"
    if unpacked.is_file():
        libraries = sorted((_TREE / "usr/lib").glob("*-linux-gnu"))
        return unpacked, {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
    installed = shutil.which("unbound")
    if installed is None:
        if os.environ.get("CI") == "true":
            raise AssertionError(f"not unpacked in {_TREE}, nor installed: unbound")
        raise unittest.SkipTest("not installed: unbound")
    return Path(installed), {}


class Unbound(Program):
    """A resolver that knows some zones, those that are signed by their keys.

    @ivar where: C{HOST:PORT}.
    """

    def __init__(self, directory: Path, zones: Mapping[str, tuple[str, str]]) -> None:
        """
        @param zones: by name: C{signed}, C{plain} or C{bogus} (signed, and changed
            afterwards); and records besides those of a domain with one mail exchanger.
        """
        program, more = _unbound()
        directory.mkdir()
        anchors: list[str] = []
        parts: list[str] = []
        for name, (kind, records) in zones.items():
            file = directory / name
            text = _HEAD.format(name=name) + records
            file.write_text(text if kind == "plain" else _signed(name, text, anchors))
            if kind == "bogus":
                whole = file.read_text()
                file.write_text(whole.replace("127.0.0.1", "127.0.0.2"))
            parts.append(_ZONE.format(name=name, file=file))
        keys = directory / "anchors"
        keys.write_text("".join(anchors))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = directory / "unbound.conf"
        head = _CONFIG.format(port=port, directory=directory, anchors=keys)
        path.write_text(head + "".join(parts))
        super().__init__([str(program), "-d", "-c", str(path)], **more)
        self.drain()
        self.where = f"127.0.0.1:{port}"
        self._asking = dns.resolver.Resolver(configure=False)
        self._asking.nameservers = ["127.0.0.1"]
        self._asking.port = port
        wait_until(lambda: self._answers(next(iter(zones))), "unbound answers", self)

    def _answers(self, name: str) -> bool:
        try:
            self._asking.resolve(name, "SOA", lifetime=1)
        except dns.resolver.NoNameservers:
            return True  # bogus
        except dns.exception.DNSException:
            return False
        return True


def _signed(name: str, text: str, anchors: list[str]) -> str:
    """A zone with signatures; its key is added to the anchors."""
    zone = dns.zone.from_text(text, name, relativize=False)
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(
        key.public_key(), Algorithm.ECDSAP256SHA256, flags=257
    )
    now = datetime.now(UTC)
    dns.dnssec.sign_zone(
        zone,
        keys=[(key, public)],
        dnskey_ttl=300,
        inception=now - timedelta(days=1),
        expiration=now + timedelta(days=1),
    )
    anchors.append(f"{name}. 300 IN DNSKEY {public.to_text()}\n")
    return zone.to_text(relativize=False)


class Web(socketserver.ThreadingTCPServer):
    """The Web, by way of a proxy: whatever name is asked for is here.

    @ivar pages: what is there, by host and path.
    @ivar brought: host and path, and what was brought there.
    """

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Visitor)
        self.context = context
        self.pages: dict[str, str] = {}
        self.brought: list[tuple[str, bytes]] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def where(self) -> str:
        """C{HOST:PORT}."""
        return f"127.0.0.1:{self.server_address[1]}"

    def end(self) -> None:
        """It is gone."""
        self.shutdown()
        self._thread.join(PATIENCE_S)
        self.server_close()


class _Visitor(socketserver.StreamRequestHandler):
    server: Web

    def handle(self) -> None:
        _, where, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        try:
            secure = self.server.context.wrap_socket(self.request, server_side=True)
        except OSError:  # it does not trust us
            return
        with secure, secure.makefile("rwb") as stream:
            method, path, _ = stream.readline().decode().split()
            fields = {}
            while line := stream.readline().decode().strip():
                name, _, value = line.partition(": ")
                fields[name.lower()] = value
            page = where.partition(":")[0] + path
            if method == "POST":
                octets = stream.read(int(fields["content-length"]))
                self.server.brought.append((page, octets))
                stream.write(b"HTTP/1.1 201 Thanks\r\nContent-Length: 0\r\n\r\n")
                return
            body = self.server.pages.get(page)
            status = "404 What?" if body is None else "200 OK"
            stream.write(
                f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(body or '')}\r\n\r\n{body or ''}".encode()
            )


class ChannelCase(unittest.TestCase):
    """C{a}, where Alice is, finds C{b}, where Blice is, by unbound; the domains of
    C{zones} are all of C{b}. The authority that vouches for C{b} is believed by C{a} on
    the Web and, for policies, among mail servers.

    @cvar zones: see L{Unbound}; C{TLSA} stands for C{b}'s record, C{PORT} for its port.
    @cvar agent: more settings of C{a}'s agent.
    @cvar more: more of C{a}'s config.
    """

    zones: Mapping[str, tuple[str, str]] = {}
    agent = ""
    more = ""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.path = directory.path
        self.authority = certificate("authority", authority=True, days=(-1, 90))
        hosts = tuple(f"mx.{name}" for name in self.zones)
        # Shorter, and the server would make itself another.
        shown = certificate("b", self.authority, names=hosts, days=(-1, 90))
        self.trust = self.path / "authority.pem"
        self.trust.write_bytes(self.authority.pem)
        base_a = free_port_base(2)
        base_b = base_a + 1
        self.port = base_b + 25
        record = tlsa_of(shown.certificate)
        zones = {
            name: (kind, _filled(records, self.port, str(record)))
            for name, (kind, records) in self.zones.items()
        }
        self.unbound = Unbound(self.path / "unbound", zones)
        self.addCleanup(self.unbound.kill)
        self.web = self.open_web()
        home = self.path / "b"
        home.mkdir()
        pair = written(self.path / "shown", shown, self.authority)
        shutil.copy(pair.certificate, home / "certificate.pem")
        shutil.copy(pair.key, home / "key.pem")
        path = config(home, base_b, "b.test", "", list(self.zones))
        text = path.read_text()
        for name in self.zones:
            text = text.replace(f"{name}: ,", f"{name}: {{catch_all: blice@b.test}},")
        path.write_text(text)
        self.b = Server(path, base_b)
        self.addCleanup(self.b.kill)
        self.b.command("account", "add", "blice@b.test", text=PASSWORD)
        self.base_a = base_a
        self.a_home = self.path / "a"
        self.a_home.mkdir()
        self.a_config = self.configured()
        self.a = self.start()
        self.a.command("account", "add", "alice@a.test", text=PASSWORD)

    def open_web(self) -> Web:
        names = tuple(f"mta-sts.{name}" for name in self.zones)
        page = certificate("web", self.authority, names=(*names, "web.test"))
        pair = written(self.path / "web", page)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        web = Web(context)
        self.addCleanup(web.end)
        return web

    def configured(self) -> Path:
        """The config of C{a}."""
        text = (
            f"dns: {{servers: ['{self.unbound.where}'], validating: true}}\n"
            f"web: {{trust: {self.trust}, proxy: '{self.web.where}'}}\n"
            f"agents: {{smtp: {{kind: smtp, loopback: true, port: {self.port}, "
            f"trust: {self.trust}{self.agent}}}}}\n{self.more}"
        )
        return config(self.a_home, self.base_a, "a.test", text)

    def start(self) -> Server:
        """Start C{a}, or start it again."""
        server = Server(self.a_config, self.base_a)
        self.addCleanup(server.kill)
        return server

    def send(self, *domains: str) -> None:
        """Alice writes to Blice at each of them."""
        for domain in domains:
            text = f"From: alice@a.test\r\nSubject: {domain}\r\n\r\nhello\r\n"
            submit(self.a, "alice@a.test", [f"blice@{domain}"], text)

    def verified(self, domain: str) -> str:
        """How the channel was over which a message went, by the log."""
        mark = f"to=<blice@{domain}>"

        def found() -> str:
            for line in self.a.log.splitlines():
                if mark in line and "status=delivered" in line:
                    return line
            return ""

        line: str = wait_until(found, f"delivered to {domain}", self.a)
        return line.partition("verified=")[2].partition(",")[0]

    def waits(self, domain: str) -> str:
        """Why a message waits, once it does."""

        def found() -> str:
            for row in queue(self.a):
                if row["recipient"] == f"blice@{domain}" and row["attempts"]:
                    return str(row["diagnostic"])
            return ""

        why: str = wait_until(found, f"{domain} waits", self.a)
        return why

    def subjects(self, count: int) -> set[str]:
        """Of what Blice has, once there are so many."""
        messages = wait_for(self.b, "blice@b.test", count)
        return {str(one["Subject"]) for one in messages}


def _filled(records: str, port: int, tlsa: str) -> str:
    return records.replace("PORT", str(port)).replace("TLSA!", f"TLSA {tlsa}")
