"""Mail for elsewhere, from the real daemon to servers that take it, refuse it,
put it off or say nothing."""

import hashlib
import poplib
import smtplib
import unittest
from pathlib import Path

from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Server,
    free_port_base,
    wait_until,
)
from tests.system.relaycase import (
    PASSWORD,
    TRUSTING,
    TwoServers,
    config,
    inbox,
    submit,
    wait_for,
)
from tests.system.sink import Answer, Sink


class RelayTests(unittest.TestCase):
    """One server and a sink that is its smarthost."""

    def setUp(self):
        self.directory = Directory()
        self.addCleanup(self.directory.remove)
        self.sink = Sink(self.directory.path / "sink")
        self.addCleanup(self.sink.kill)
        base = free_port_base()
        home = self.directory.path / "a"
        home.mkdir()
        route = f'routes: [{{domain: "*", next_hop: "127.0.0.1:{self.sink.port}"}}]\n'
        retry = "queue: {first_retry: 1s, growth_percent: 100, longest_retry: 1s}\n"
        # Retries come at once, and a server that hangs is soon left.
        agents = "agents: {smtp: {kind: smtp, reply_timeout: 2s}}\n"
        large = "smtp: {message_size: 300M}\n"
        path = config(home, base, "a.test", route + retry + agents + large)
        self.server = Server(path, base)
        self.addCleanup(self.server.kill)
        self.server.command("account", "add", "alice@a.test", text=PASSWORD)

    def submit(self, recipients, text="Subject: hello\r\n\r\n.Hello\r\n"):
        submit(self.server, "alice@a.test", recipients, text)

    def queue(self):
        return self.server.command("queue", "list", "--json")

    def emptied(self):
        return wait_until(
            lambda: "@" not in self.queue(), "the queue is empty", self.server
        )

    def test_relayed(self):
        """A message for others arrives once, for all of them, as it was."""
        self.submit(["bob@b.test", "carol@c.test"])
        (event,) = self.sink.wait(Answer.ACCEPT)
        self.assertEqual(event["sender"], "alice@a.test")
        self.assertEqual(event["recipients"], ["bob@b.test", "carol@c.test"])
        message = self.sink.message(event)
        self.assertTrue(message.endswith(b"\r\n\r\n.Hello\r\n"))
        self.assertTrue(message.startswith(b"Received: from "))
        self.emptied()
        self.assertEqual(len(self.sink.events()), 1)

    def test_put_off_then_hanging_then_accepted(self):
        """A message is tried again, and again, until it is taken; then no
        more."""
        self.sink.answer(Answer.LATER)
        self.submit(["bob@b.test"])
        self.sink.wait(Answer.LATER, 2)
        self.assertIn("450 4.2.0 Later", self.queue())
        self.sink.answer(Answer.HANG)
        self.sink.wait(Answer.HANG, 2)
        self.sink.answer(Answer.FULL)
        self.sink.wait(Answer.FULL, 1)
        self.sink.answer(Answer.ACCEPT)
        self.sink.wait(Answer.ACCEPT)
        self.emptied()
        self.assertEqual(len(self.sink.events(Answer.ACCEPT)), 1)
        self.assertEqual(inbox(self.server, "alice@a.test"), [])

    def test_refused(self):
        """A refusal comes back to the sender's INBOX as a report that says who
        refused whom and why; nothing stays in the queue."""
        for number, answer in enumerate((Answer.REFUSE, Answer.SPAM), 1):
            self.sink.answer(answer)
            self.submit(["bob@b.test"], "Subject: secret plan\r\n\r\nHello\r\n")
            messages = wait_for(self.server, "alice@a.test", number)
        self.emptied()
        for message, status in zip(messages, ("5.1.1", "5.7.1"), strict=True):
            self.assertEqual(message.get_content_type(), "multipart/report")
            parts = [part.get_content_type() for part in message.walk()]
            self.assertIn("message/delivery-status", parts)
            text = message.as_string()
            self.assertIn("rfc822; bob@b.test", text.lower())
            self.assertIn(f"Status: {status}", text)
            self.assertIn("secret plan", text)

    def test_lost_answer(self):
        """When the answer to the whole message is lost, it is sent again: at
        least once, never not at all."""
        self.sink.answer(Answer.DROP)
        self.submit(["bob@b.test"])
        (first, *_) = self.sink.wait(Answer.DROP)
        self.sink.answer(Answer.ACCEPT)
        (second,) = self.sink.wait(Answer.ACCEPT)
        self.assertEqual(first["sha256"], second["sha256"])
        self.emptied()

    def test_large(self):
        """A message of 200 MB comes in and goes out with flat memory."""
        run = (b"x" * 998 + b"\r\n") * 1000
        digest = hashlib.sha256()
        port = self.server.ports["submission"]
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_S) as client:
            client.starttls(context=TRUSTING)
            client.login("alice@a.test", PASSWORD)
            client.mail("alice@a.test")
            client.rcpt("bob@b.test")
            client.docmd("DATA")
            client.sock.sendall(b"Subject: large\r\n\r\n")
            for _ in range(200):
                digest.update(run)
                client.sock.sendall(run)
            client.sock.sendall(b".\r\n")
            self.assertEqual(client.getreply()[0], 250)
        (event,) = self.sink.wait(Answer.ACCEPT)
        self.assertEqual(event["body_sha256"], digest.hexdigest())
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        peak_kb = int(status.partition("VmHWM:")[2].split()[0])
        self.assertLess(peak_kb, 150_000)

    def test_killed_in_between(self):
        """A message that waits when the server is killed goes out afterwards."""
        self.sink.answer(Answer.LATER)
        self.submit(["bob@b.test"])
        self.sink.wait(Answer.LATER)
        self.server.kill()
        self.sink.answer(Answer.ACCEPT)
        again = Server(self.server.config, self.server.ports["smtp"] - 25)
        self.addCleanup(again.kill)
        again.command("queue", "flush")
        self.sink.wait(Answer.ACCEPT)


class TwoServerTests(TwoServers):
    """Two servers that find each other by the DNS."""

    def test_there_and_back(self):
        """A message goes there and its answer comes back, under TLS; POP3
        reads it too."""
        submit(self.a, "alice@a.test", ["blice@b.test"], "Subject: one\r\n\r\n1\r\n")
        (message,) = wait_for(self.b, "blice@b.test", 1)
        self.assertEqual(message["Subject"], "one")
        self.assertEqual(message["Return-Path"], "<alice@a.test>")
        received = message.get_all("Received")
        self.assertEqual(len(received), 2)
        self.assertIn("with ESMTPS", received[0])
        self.assertIn("with ESMTPSA", received[1])
        submit(self.b, "blice@b.test", ["alice@a.test"], "Subject: two\r\n\r\n2\r\n")
        wait_for(self.a, "alice@a.test", 1)
        client = poplib.POP3_SSL(
            "127.0.0.1", self.a.ports["pop3s"], context=TRUSTING, timeout=PATIENCE_S
        )
        client.user("alice@a.test")
        client.pass_(PASSWORD)
        self.assertIn(b"Subject: two", client.retr(1)[1])
        client.quit()

    def test_no_such_people(self):
        """Mail to who does not exist elsewhere comes back: no such account, no
        such domain, a domain without mail."""
        for number, (recipient, status) in enumerate(
            (
                ("nobody@b.test", "5.1.1"),
                ("x@nowhere.test", "5.1.2"),
                ("x@nomail.test", "5.1.10"),
            ),
            1,
        ):
            submit(self.a, "alice@a.test", [recipient], "Subject: x\r\n\r\nx\r\n")
            found = wait_for(self.a, "alice@a.test", number)
            self.assertIn(f"Status: {status}\n", found[-1].as_string())
