"""What an operator does with C{twisted-mta account|alias|queue}, beside a running
server and without one, and what mail does then."""

from __future__ import annotations

import imaplib
import json
import poplib
import smtplib
import ssl
import unittest
from pathlib import Path
from typing import Any

from tests.system.clients import (
    ALICE,
    BOB,
    HOST,
    STRANGER,
    Served,
    message,
)
from tests.system.daemon import (
    PATIENCE_S,
    Daemon,
    Directory,
    Server,
    free_port_base,
    mta,
    run,
    wait_until,
)

CAROL = "carol@example.test"
DAVE = "dave@example.test"
OUTSIDE = "friend@elsewhere.example"


def command(directory: Path, *words: str, text: str = "", status: int = 0) -> str:
    """What C{twisted-mta WORDS} says: on standard output, or on standard error
    when it fails.

    @param status: how it has to end.
    """
    done = run(mta(*words, "--directory", str(directory)), text, check=False)
    if done.returncode != status:
        raise AssertionError(f"{words}: {done.returncode} {done.stdout}{done.stderr}")
    return done.stderr if status else done.stdout


class Running(Served):
    """Beside a running server. Its tests use addresses of their own."""

    def _do(self, *words: str, text: str = "", status: int = 0) -> str:
        return command(self.daemon.directory, *words, text=text, status=status)

    def _json(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._do(*words, "--json"))
        return found

    def _waiting(self, sender: str) -> list[dict[str, Any]]:
        rows = self._json("queue", "list")
        return [row for row in rows if row["sender"] == sender]

    def _addresses(self) -> list[str]:
        return [row["address"] for row in self._json("account", "list")]

    def _can_log_in(self, address: str, password: str) -> bool:
        with imaplib.IMAP4_SSL(
            self.other_host(),
            self.port("imaps"),
            ssl_context=self.trust(),
            timeout=PATIENCE_S,
        ) as session:
            try:
                session.login(address, password)
            except imaplib.IMAP4.error:
                return False
            return True

    # --- accounts ---

    def test_account(self) -> None:
        """An account is there at once: it logs in and gets mail; its password
        changes; it is removed, and its mail is refused."""
        self._do("account", "add", CAROL, text="first word\n")
        self.assertEqual([ALICE, BOB, CAROL], self._addresses())
        self.assertTrue(self._can_log_in(CAROL, "first word"))
        self.deliver("to carol", CAROL)
        self._do("account", "password", CAROL, text="second word\n")
        self.assertTrue(self._can_log_in(CAROL, "second word"))
        self.daemon.passwords[CAROL] = "second word"
        self.assertEqual(["to carol"], self.subjects(CAROL))
        self.assertFalse(self._can_log_in(CAROL, "first word"))
        self._do("account", "remove", CAROL)
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as caught:
            self.deliver("to nobody", CAROL)
        self.assertEqual(550, caught.exception.recipients[CAROL][0])

    def test_account_mistakes(self) -> None:
        """What cannot be is said in one line, and changes nothing."""
        for expected, words, text in (
            ("in use already", ("account", "add", ALICE), "x\n"),
            ("not a domain of", ("account", "add", OUTSIDE), "x\n"),
            ("empty password", ("account", "add", DAVE), "\n"),
            ("empty password", ("account", "add", DAVE), ""),
            ("no account", ("account", "password", DAVE), "x\n"),
            ("no account", ("account", "remove", DAVE), ""),
            ("no alias", ("alias", "remove", DAVE), ""),
            ("in use already", ("alias", "add", ALICE, BOB), ""),
            ("queue", ("queue", "show", "1"), ""),
        ):
            with self.subTest(words):
                said = self._do(*words, text=text, status=1)
                self.assertIn(expected, said)
                self.assertEqual(1, said.count("\n"), said)
        self.assertNotIn(DAVE, self._addresses())

    def test_password_is_no_argument(self) -> None:
        """A password on the command line is not taken: others could read it
        there."""
        self._do("account", "add", DAVE, "secret", status=2)
        self.assertNotIn(DAVE, self._addresses())

    # --- aliases ---

    def test_alias_to_many(self) -> None:
        """An alias leads to several accounts, each gets the message once, and a
        removed target no more."""
        team = "team@example.test"
        self._do("alias", "add", team, ALICE, BOB)
        self._do("alias", "add", "all@example.test", team, ALICE)
        rows = [(row["address"], row["target"]) for row in self._json("alias", "list")]
        self.assertIn((team, BOB), rows)
        self.assertIn(("all@example.test", team), rows)
        self.deliver("to all", "all@example.test")
        for address in (ALICE, BOB):
            self.assertEqual(["to all"], self.subjects(address))
        self._do("alias", "remove", team, BOB)
        self.deliver("to alice", team)
        self.assertEqual(["to all", "to alice"], self.subjects(ALICE))
        self.assertEqual(["to all"], self.subjects(BOB))

    def test_alias_may_send(self) -> None:
        """Who is behind an alias may send by that name, and others may not."""
        self._do("alias", "add", "info@example.test", ALICE)
        mail = message("info@example.test", [BOB], "from info")
        with self.submission(ALICE) as session:
            session.send_message(mail)
        self.assertEqual(["from info"], self.subjects(BOB))
        with (
            self.submission(BOB) as session,
            self.assertRaises(smtplib.SMTPSenderRefused),
        ):
            session.send_message(mail)

    def test_forward(self) -> None:
        """An alias that leads outside puts the message into the queue; the
        account behind the same alias has it at once."""
        self._do("alias", "add", "both@example.test", OUTSIDE, BOB)
        self.deliver("onwards", "both@example.test")
        self.assertEqual(["onwards"], self.subjects(BOB))
        (row,) = self._waiting(STRANGER)
        self.assertEqual(OUTSIDE, row["recipient"])
        self.assertEqual("held", row["state"])

    def test_loop_of_aliases(self) -> None:
        """Aliases that lead to each other are nobody."""
        self._do("alias", "add", "a@example.test", "b@example.test")
        self._do("alias", "add", "b@example.test", "a@example.test")
        with self.assertRaises(smtplib.SMTPRecipientsRefused):
            self.deliver("round", "a@example.test")

    # --- addresses ---

    def test_subaddress(self) -> None:
        """bob+detail@ is bob's, and so is BOB@ in any case of the domain."""
        self.deliver("detail", "bob+lists@example.test")
        self.deliver("case", "BOB@EXAMPLE.test")
        self.assertEqual(["detail", "case"], self.subjects(BOB))

    def test_postmaster(self) -> None:
        """postmaster@, abuse@ and the bare postmaster have a reader."""
        self.deliver("p", "postmaster@example.test")
        self.deliver("a", "Abuse@example.test")
        with smtplib.SMTP(HOST, self.port("smtp"), timeout=PATIENCE_S) as session:
            session.sendmail(STRANGER, ["Postmaster"], b"Subject: b\r\n\r\n.\r\n")
        self.assertEqual(["p", "a", "b"], self.subjects(ALICE))

    # --- the queue ---

    def test_queue(self) -> None:
        """Mail for elsewhere is held, listed and shown; it can be held,
        released and removed."""
        with self.submission() as session:
            session.send_message(message(ALICE, [OUTSIDE], "away"))
        (row,) = self._waiting(ALICE)
        self.assertEqual(OUTSIDE, row["recipient"])
        self.assertEqual("held", row["state"])
        self.assertIn(row["id"], self._do("queue", "list"))
        shown = self._do("queue", "show", row["id"])
        for word in (row["id"], ALICE, OUTSIDE, "held"):
            self.assertIn(word, shown)
        story = json.loads(self._do("queue", "show", row["id"], "--json"))
        self.assertEqual([row], story["waiting"])
        self.assertIn("1 message held", self._do("queue", "hold", row["id"]))
        self.assertIn("1 message removed", self._do("queue", "remove", row["id"]))
        self.assertEqual([], self._waiting(ALICE))


class Relayed(unittest.TestCase):
    """Two servers, of which one relays to the other."""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.path = directory.path

    def test_refused_elsewhere(self) -> None:
        """With --relay, mail for elsewhere goes there at once. What is refused
        there comes back to its sender, who reads why."""
        there = Daemon(self.path / "there")
        self.addCleanup(there.stop)
        relay = f"127.0.0.1:{there.ports['smtp']}"
        here = Daemon(self.path / "here", "--relay", relay)
        self.addCleanup(here.stop)
        command(here.directory, "alias", "add", "out@example.test", OUTSIDE)
        with smtplib.SMTP(HOST, here.ports["smtp"], timeout=PATIENCE_S) as session:
            session.sendmail(BOB, ["out@example.test"], b"Subject: x\r\n\r\n.\r\n")
        # The other server does not relay for strangers.
        wait_until(lambda: "status=failed" in here.log, "it is refused there", here)
        queue = json.loads(command(here.directory, "queue", "list", "--json"))
        self.assertEqual([], queue)
        bounce = self._bounce(here)
        for word in ("5.7.1", OUTSIDE, "multipart/report", "Subject: x"):
            self.assertIn(word, bounce)

    def _bounce(self, server: Daemon) -> str:
        trust = ssl.create_default_context(
            cafile=str(server.directory / "certificate.pem")
        )
        with imaplib.IMAP4_SSL(
            HOST, server.ports["imaps"], ssl_context=trust, timeout=PATIENCE_S
        ) as session:
            session.login(BOB, server.passwords[BOB])
            session.select()
            _, parts = session.fetch("1", "(BODY[])")
            (octets,) = [one[1] for one in parts if isinstance(one, tuple)]
            return octets.decode()


class Stopped(unittest.TestCase):
    """Without a running server, and with a config of one's own."""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.path = directory.path

    def test_commands_without_a_server(self) -> None:
        """Accounts and aliases made while no server runs are there when it
        starts; a catch-all gets what nobody else does."""
        base = free_port_base()
        state = self.path / "state"
        words = ("try", "--print-config", "--directory", str(state))
        text = run(mta(*words, "--port-base", str(base))).stdout
        config = self.path / "mta.yaml"
        config.write_text(
            text.replace(
                "{example.test: }", "{example.test: {catch_all: carol@example.test}}"
            )
        )

        def do(*words: str, text: str = "") -> str:
            return run(mta(*words, "--config", str(config)), text).stdout

        for address in (ALICE, CAROL):
            do("account", "add", address, text="word\n")
        do("alias", "add", "team@example.test", ALICE, CAROL)
        self.assertEqual([], json.loads(do("queue", "list", "--json")))
        self.assertIn("empty", do("queue", "list"))
        self.assertIn(CAROL, do("account", "list"))
        server = Server(config, base)
        self.addCleanup(server.stop)
        for recipient in ("team@example.test", "whoever@example.test"):
            with smtplib.SMTP(HOST, server.ports["smtp"], timeout=PATIENCE_S) as mx:
                mail = message(STRANGER, [recipient], recipient)
                mx.send_message(mail)
        self.assertEqual(1, self._count(server, ALICE))
        self.assertEqual(2, self._count(server, CAROL))

    def _count(self, server: Server, address: str) -> int:
        trust = ssl.create_default_context(
            cafile=str(self.path / "state" / "certificate.pem")
        )
        session = poplib.POP3_SSL(
            HOST, server.ports["pop3s"], timeout=PATIENCE_S, context=trust
        )
        session.user(address)
        session.pass_("word")
        count, _ = session.stat()
        session.quit()
        return count

    def test_no_config(self) -> None:
        """Commands that no config is named to say how to make one."""
        done = run(mta("account", "list"), check=False, TWISTED_MTA_CONFIG="")
        if Path("/etc/twisted-mta/mta.yaml").exists():
            raise unittest.SkipTest("this machine has a config of its own")
        self.assertEqual(1, done.returncode)
        self.assertIn("try --print-config > mta.yaml", done.stderr)

    def test_no_such_directory(self) -> None:
        """A directory that no server was tried in is said to be none."""
        said = command(self.path / "nowhere", "queue", "list", status=1)
        self.assertIn("is not a directory of 'twisted-mta try'", said)
