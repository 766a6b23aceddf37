"""Mail that goes by other ways than SMTP, by the real daemon: to programs, to servers
behind this one, and over several ways."""

from __future__ import annotations

import os
import smtplib
import socket
import unittest
from pathlib import Path
from typing import Any

from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Server,
    free_port_base,
    runs,
    wait_until,
)
from tests.system.dovecot import Dovecot, need_dovecot
from tests.system.relaycase import (
    PASSWORD,
    config,
    inbox,
    queue,
    report,
    submit,
    wait_for,
)
from tests.system.sink import Answer, Sink

ALICE = "alice@a.test"
TEXT = "Subject: hello\r\n\r\nHello\r\n"

# As whom programs run: root's are not run as root.
AS = "user: nobody, " if os.geteuid() == 0 else ""

_SCRIPTS = {
    "file": 'cat >"$1/$$.partial" && mv "$1/$$.partial" "$1/$$.$2"',
    "code": 'cat >/dev/null; echo "It is $1"; exit "${1#c}"',
    "hang": 'echo $$ >"$1/hanging.$2"; exec sleep 1000',
    "stuck": 'echo $$ >"$1/hanging.$2"; exec sleep 1000',
    "flood": "exec yes",
}


class RouteCase(unittest.TestCase):
    """A server for a.test, with alice."""

    def setUp(self) -> None:
        self.directory = Directory()
        self.addCleanup(self.directory.remove)
        self.path = self.directory.path
        self.path.chmod(0o755)

    def server(
        self, more: str, domain: str = "", workers: int = 1, listener: str = ""
    ) -> Server:
        """Start one.

        @param domain: another of its domains, as the config has it.
        @param listener: another, as the config has it.
        """
        base = free_port_base()
        home = self.path / f"home{base}"
        home.mkdir()
        path = config(home, base, "a.test", more)
        text = path.read_text().replace("workers: 1\n", f"workers: {workers}\n")
        if domain:
            text = text.replace("domains: {", f"domains: {{{domain}, ")
        if listener:
            text = text.replace("listeners:\n", f"listeners:\n  - {listener}\n")
        path.write_text(text)
        server = Server(path, base)
        self.addCleanup(server.kill)
        server.command("account", "add", ALICE, text=PASSWORD)
        return server

    def refused(self, server: Server, recipient: str) -> tuple[int, str]:
        """What a stranger is told who names a recipient."""
        with smtplib.SMTP(
            "127.0.0.1", server.ports["smtp"], timeout=PATIENCE_S
        ) as client:
            client.ehlo()
            client.mail("x@else.test")
            code, text = client.rcpt(recipient)
            return code, text.decode()


class PipeTests(RouteCase):
    """Programs, of two workers."""

    def setUp(self) -> None:
        super().setUp()
        self.out = self.path / "out"
        self.out.mkdir()
        self.out.chmod(0o777)
        agents = []
        for name, text in _SCRIPTS.items():
            script = self.path / name
            script.write_text(f"#!/bin/sh\n{text}\n")
            script.chmod(0o755)
            where = "" if name == "code" else f"{self.out}, "
            more = ", timeout: 1s" if name == "hang" else ""
            agents.append(
                f"  {name}: {{kind: pipe, {AS}argv: [{script}, {where}"
                f'"{{local}}"]{more}}}\n'
            )
        routes = [f"  - {{domain: {name}.test, agent: {name}}}\n" for name in _SCRIPTS]
        routes.append("  - {recipient: support@a.test, agent: file}\n")
        more = f"agents:\n{''.join(agents)}routes:\n{''.join(routes)}"
        self.a = self.server(more, workers=2)

    def files(self, name: str, count: int) -> list[str]:
        """The messages that a program wrote for somebody, once there are so many."""
        found: list[Path] = wait_until(
            lambda: (
                found
                if len(found := list(self.out.glob(f"*.{name}"))) >= count
                else None
            ),
            f"{count} files for {name}",
            self.a,
        )
        return [path.read_text() for path in found]

    def waiting(self, recipients: set[str]) -> list[dict[str, Any]] | None:
        """The rows of the queue, if they are of these and all were tried."""
        rows = queue(self.a)
        tried = {one["recipient"] for one in rows if one["attempts"]}
        return rows if tried == recipients and len(rows) == len(tried) else None

    def deferred(self, recipient: str) -> dict[str, Any]:
        """A recipient's row of the queue, once it was tried."""
        found: dict[str, Any] = wait_until(
            lambda: next(
                (
                    one
                    for one in queue(self.a)
                    if one["recipient"] == recipient and one["attempts"]
                ),
                None,
            ),
            f"{recipient} was tried",
            self.a,
        )
        return found

    def test_files(self) -> None:
        """Mail for an address of ours goes to a program, by itself and by an alias,
        with its details; many at once, once each."""
        self.a.command("alias", "add", "team@a.test", "support@a.test")
        for _ in range(10):
            submit(self.a, ALICE, ["support@a.test", "x@file.test", ALICE], TEXT)
        submit(self.a, ALICE, ["team@a.test"], TEXT)
        texts = self.files("support", 11)
        self.files("x", 10)
        wait_until(lambda: not queue(self.a), "the queue is empty", self.a)
        self.assertEqual(len(texts), len(self.files("support", 11)))
        for text in texts:
            first, second, *rest = text.split("\n")
            self.assertEqual(first, f"Return-Path: <{ALICE}>")
            self.assertEqual(second, "Delivered-To: support@a.test")
            self.assertEqual(rest[-2:], ["Hello", ""])
        self.assertEqual(len(inbox(self.a, ALICE)), 10)
        code, text = self.refused(self.a, "nobody@a.test")
        self.assertEqual(code, 550, text)
        code, text = self.refused(self.a, "support+x@a.test")
        self.assertEqual(code, 250, text)

    def test_ends(self) -> None:
        """Each exit status of sysexits.h: some return the mail, with what the program
        said; the others have it wait."""
        final = {65, 67, 68, 69, 76, 77}
        codes = (0, 1, *range(64, 79))
        to = [f"c{code}@code.test" for code in codes]
        submit(self.a, ALICE, to, TEXT)
        later = {f"c{code}@code.test" for code in codes if code and code not in final}
        rows = wait_until(lambda: self.waiting(later), "some wait", self.a)
        for row in rows:
            code = row["recipient"].partition("@")[0]
            self.assertIn(f"exited with {code[1:]}", row["diagnostic"])
            self.assertIn(f"It is {code}", row["diagnostic"])
        (message,) = wait_for(self.a, ALICE, 1)
        failed = report(message).failed
        self.assertEqual(set(failed), {f"c{code}@code.test" for code in final})
        self.assertEqual(failed["c67@code.test"], "5.1.1")
        self.assertIn("It is c67", message.as_string())

        self.hangs_and_floods()

    def hangs_and_floods(self) -> None:
        """A program that hangs is ended, as is one that says too much, and its mail
        waits. Other mail does not wait for it. When the server stops what runs is
        ended, and its mail is still in the queue."""
        to = ["x@hang.test", "x@flood.test", "y@stuck.test", "x@file.test"]
        submit(self.a, ALICE, to, TEXT)
        self.files("x", 1)
        row = self.deferred("x@hang.test")
        self.assertIn("took more than 1 s", row["diagnostic"])
        row = self.deferred("x@flood.test")
        self.assertIn("wrote more than 1048576 octets", row["diagnostic"])
        pid = int((self.out / "hanging.x").read_text())
        wait_until(lambda: not runs(pid), "the program has ended", self.a)
        stuck = self.out / "hanging.y"
        pid = int(wait_until(lambda: stuck.exists() and stuck.read_text(), "it runs"))
        self.a.stop()
        wait_until(lambda: not runs(pid), "that program has ended")
        (row,) = (one for one in queue(self.a) if one["recipient"] == to[2])
        self.assertEqual(row["attempts"], 0)


class BehindTests(RouteCase):
    """A domain of ours whose mailboxes another server has."""

    def test_own(self) -> None:
        """Our own LMTP server behind ours is asked of each recipient before mail is
        taken, and gets it. Who has an account here keeps his mailbox."""
        path = self.path / "lmtp"
        listener = (
            f"{{name: lmtp, protocol: lmtp, endpoints: ['unix:{path}:mode=666']}}"
        )
        inner = self.server("", "b.test: ", listener=listener)
        inner.command("account", "add", "bob@b.test", text=PASSWORD)
        outer = self.server(
            "agents: {inner: {kind: lmtp}}\n",
            f'b.test: {{deliver: inner, next_hop: "unix:{path}", recipients: ask}}',
        )
        outer.command("account", "add", "carol@b.test", text=PASSWORD)
        submit(outer, ALICE, ["bob@b.test", "carol@b.test"], TEXT)
        (message,) = wait_for(inner, "bob@b.test", 1)
        self.assertEqual(message["Return-Path"], f"<{ALICE}>")
        self.assertEqual(len(inbox(outer, "carol@b.test")), 1)
        code, text = self.refused(outer, "nobody@b.test")
        self.assertEqual(code, 550, text)
        self.assertIn("5.1.1", text)
        inner.stop()
        code, text = self.refused(outer, "somebody@b.test")
        self.assertEqual(code, 450, text)

    def test_dovecot(self) -> None:
        """The same with Dovecot: who is there gets the message, with his detail; who
        is not is refused; many messages, once each. Of several recipients over one
        connection each has his own answer: one who is not there, named by a route that
        asks nobody, is returned."""
        need_dovecot()
        dovecot = Dovecot(self.path / "dovecot", ["bob", "carol"])
        self.addCleanup(dovecot.kill)
        hop = f'next_hop: "unix:{dovecot.socket}"'
        server = self.server(
            "agents: {dovecot: {kind: lmtp}}\n"
            f"routes: [{{domain: c.test, agent: dovecot, {hop}}}]\n",
            f"b.test: {{deliver: dovecot, recipients: ask, {hop}}}",
        )
        code, text = self.refused(server, "nobody@b.test")
        self.assertEqual(code, 550, text)
        to = ["bob+lists@b.test", "carol@b.test"]
        for number in range(10):
            submit(server, ALICE, to, f"Subject: {number}\r\n\r\n.dot\r\n{TEXT}")
        wait_until(lambda: not queue(server), "the queue is empty", server)
        for name in ("bob", "carol"):
            found = dovecot.inbox(name)
            self.assertEqual(len(found), 10)
            for message in found:
                self.assertIn(b"\n.dot", message)
                self.assertIn(f"Return-Path: <{ALICE}>".encode(), message)
        self.assertIn(f"relay=localhost[{dovecot.socket}], ", server.log)
        submit(server, ALICE, ["nobody@c.test", "bob@c.test"], TEXT)
        (message,) = wait_for(server, ALICE, 1)
        self.assertEqual(report(message).failed, {"nobody@c.test": "5.1.1"})
        wait_until(lambda: len(dovecot.inbox("bob")) == 11, "bob has it", dovecot)


class SeveralTests(RouteCase):
    """Several ways."""

    def test_fallback(self) -> None:
        """A smarthost that is down: the other gets the mail at once, and the first is
        not tried again for a while. One that defers a recipient is no reason to ask
        the other. Who is always refused is refused at RCPT."""
        with socket.socket() as probe:  # a port where nobody listens
            probe.bind(("127.0.0.1", 0))
            dead = probe.getsockname()[1]
            one, two = Sink(self.path / "one"), Sink(self.path / "two")
            for sink in (one, two):
                self.addCleanup(sink.kill)
            server = self.server(
                f"""
agents:
  out:
    kind: several
    ways: [{{agent: smtp, next_hop: "[127.0.0.1]:{dead}"}}]
    fallback: [{{agent: smtp, next_hop: "[127.0.0.1]:{one.port}"}}]
  busy:
    kind: several
    ways: [{{agent: smtp, next_hop: "[127.0.0.1]:{two.port}"}}]
    fallback: [{{agent: smtp, next_hop: "[127.0.0.1]:{one.port}"}}]
  moved: {{kind: error, status: 5.1.6, text: They moved}}
  bin: {{kind: discard}}
routes:
  - {{recipient: old@a.test, agent: moved}}
  - {{sender: {ALICE}, domain: busy.test, agent: busy}}
  - {{domain: bin.test, agent: bin}}
  - {{login: "*", agent: out}}
"""
            )
            for number in range(2):
                submit(server, ALICE, [f"x{number}@there.test"], TEXT)
                one.wait(Answer.ACCEPT, number + 1)
            relay = f"relay=127.0.0.1[127.0.0.1]:{one.port}, "
            wait_until(lambda: not queue(server), "the queue is empty", server)
            self.assertEqual(server.log.count(relay), 2)
            self.assertEqual(server.log.count("nobody is reached there"), 1)
            two.answer(Answer.LATER)
            submit(server, ALICE, ["x@busy.test", "x@bin.test"], TEXT)
            two.wait(Answer.LATER)
            (row,) = wait_until(
                lambda: [each for each in queue(server) if each["attempts"]],
                "it was tried",
                server,
            )
            self.assertEqual(row["recipient"], "x@busy.test")
            self.assertEqual(len(one.events()), 2)
            code, text = self.refused(server, "old@a.test")
            self.assertEqual(code, 550)
            self.assertIn("5.1.6 They moved", text)
