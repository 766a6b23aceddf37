"""How the server starts, goes on where it was, and ends: C{twisted-mta try},
C{twistd mta} and C{twisted-mta check}, as a person at a terminal sees them."""

from __future__ import annotations

import hashlib
import imaplib
import json
import os
import poplib
import re
import signal
import smtplib
import socket
import ssl
import stat
import unittest
from pathlib import Path

from tests.system.clients import ALICE, BOB, HOST
from tests.system.daemon import (
    ABOVE,
    PATIENCE_S,
    ROOT,
    Daemon,
    Directory,
    Program,
    Server,
    descendants,
    free_port_base,
    mta,
    need,
    run,
    runs,
    twistd,
    wait_until,
)
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair


class Case(unittest.TestCase):
    """With a directory of its own."""

    def setUp(self) -> None:
        directory = Directory()
        self.addCleanup(directory.remove)
        self.path = directory.path
        self.state = self.path / "state"

    def start(self, *options: str, base: int | None = None) -> Daemon:
        """C{twisted-mta try} in the directory."""
        daemon = Daemon(self.state, *options, base=base)
        self.addCleanup(daemon.stop)
        return daemon

    def certificate(self, port: int) -> bytes:
        """What the server shows."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection((HOST, port), PATIENCE_S) as plain,
            context.wrap_socket(plain) as session,
        ):
            octets = session.getpeercert(binary_form=True)
            assert octets is not None
            return hashlib.sha256(octets).digest()


class Try(Case):
    """C{twisted-mta try}."""

    def test_facts(self) -> None:
        """--json says everything once all listeners listen; the data is its
        owner's alone; the welcome is in alice's INBOX, and bob has none."""
        daemon = self.start()
        facts = daemon.facts
        self.assertEqual(daemon.process.pid, facts["pid"])
        self.assertEqual(str(self.state), facts["directory"])
        self.assertEqual([ALICE, BOB], [one["address"] for one in facts["accounts"]])
        ports = {name: daemon.base + above for name, above in ABOVE.items()}
        self.assertEqual(ports, daemon.ports)
        implicit = {
            one["name"] for one in facts["listeners"] if one["tls"] != "starttls"
        }
        self.assertEqual({"submissions", "imaps", "pop3s"}, implicit)
        for one in facts["listeners"]:
            socket.create_connection((one["host"], one["port"]), PATIENCE_S).close()
        self.assertEqual(0o700, stat.S_IMODE(self.state.stat().st_mode))
        for name in ("key.pem", "passwords.json"):
            mode = stat.S_IMODE((self.state / name).stat().st_mode)
            self.assertEqual(0o600, mode, name)
        self.assertEqual(1, self._count(daemon, ALICE))
        self.assertEqual(0, self._count(daemon, BOB))

    def _count(self, daemon: Daemon, address: str) -> int:
        trust = ssl.create_default_context(cafile=str(self.state / "certificate.pem"))
        session = poplib.POP3_SSL(
            HOST, daemon.ports["pop3s"], timeout=PATIENCE_S, context=trust
        )
        session.user(address)
        session.pass_(daemon.passwords[address])
        count, _ = session.stat()
        session.quit()
        return count

    def test_second_start(self) -> None:
        """A second start in the same directory keeps accounts, passwords,
        certificate, mail and the queue, and welcomes nobody again."""
        first = self.start()
        certificate = (self.state / "certificate.pem").read_bytes()
        with smtplib.SMTP(HOST, first.ports["smtp"], timeout=PATIENCE_S) as session:
            session.sendmail("", [BOB], b"Subject: stays\r\n\r\n.\r\n")
        first.command("alias", "add", "out@example.test", "x@elsewhere.example")
        with smtplib.SMTP(HOST, first.ports["smtp"], timeout=PATIENCE_S) as session:
            session.sendmail(BOB, ["out@example.test"], b"Subject: x\r\n\r\n.\r\n")
        self.assertEqual(0, first.stop())
        (meanwhile,) = json.loads(first.command("queue", "list", "--json"))
        second = self.start()
        self.assertEqual(first.passwords, second.passwords)
        self.assertEqual(certificate, (self.state / "certificate.pem").read_bytes())
        self.assertEqual(1, self._count(second, ALICE))
        self.assertEqual(1, self._count(second, BOB))
        (row,) = json.loads(second.command("queue", "list", "--json"))
        self.assertEqual(meanwhile, row)
        self.assertEqual("held", row["state"])

    def test_screen(self) -> None:
        """Without --json it prints one screen of a terminal; the lines to paste
        work as they stand."""
        need("swaks", "curl")
        base = free_port_base()
        words = ("try", "--directory", str(self.state), "--port-base", str(base))
        program = Program(mta(*words))
        self.addCleanup(program.stop)
        first = program.line()
        wait_until(lambda: "Ctrl-C" in program.log, "the screen is there", program)
        # The log, on standard error, is in the same file here.
        screen = re.sub(r"(?m)^\d\d:\d\d:\d\d .*\n", "", first + program.log)
        for word in (ALICE, BOB, str(self.state), "in the queue, held"):
            self.assertIn(word, screen)
        for above in ABOVE.values():
            self.assertIn(str(base + above), screen)
        self.assertLessEqual(screen.count("\n"), 24)
        pasted = screen[screen.index("swaks") : screen.index("mutt -f")]
        self.assertIn("welcome message", screen)
        sending, reading = pasted.split("curl")
        run(("sh", "-c", sending))
        self.assertIn(f"To: {BOB}", run(("sh", "-c", f"curl{reading}")).stdout)

    def test_ctrl_c(self) -> None:
        """Ctrl-C ends it cleanly, with idle clients connected: they are told,
        and the exit status is 0."""
        daemon = self.start()
        trust = ssl.create_default_context(cafile=str(self.state / "certificate.pem"))
        idle = imaplib.IMAP4_SSL(
            HOST, daemon.ports["imaps"], ssl_context=trust, timeout=PATIENCE_S
        )
        self.addCleanup(idle.shutdown)
        idle.login(ALICE, daemon.passwords[ALICE])
        idle.select()
        idle.send(b"x IDLE\r\n")
        self.assertTrue(idle.readline().startswith(b"+ "))
        mx = socket.create_connection((HOST, daemon.ports["smtp"]), PATIENCE_S)
        self.addCleanup(mx.close)
        self.assertTrue(mx.recv(1000).startswith(b"220 "))
        self.assertEqual(0, daemon.stop())
        self.assertTrue(mx.recv(1000).startswith(b"421 "))
        said = b"".join(iter(idle.readline, b""))
        self.assertIn(b"* BYE", said)
        self.assertNotIn("Traceback", daemon.log)

    def test_sigterm_to_all(self) -> None:
        """Who signals all processes at once, as timeout(1) does, stops it as well:
        each ends by itself, and none is waited for in vain."""
        daemon = self.start()
        pids = [daemon.process.pid, *descendants(daemon.process.pid)]
        self.assertGreater(len(pids), 1)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGTERM)
        daemon.process.wait(PATIENCE_S)
        self.assertFalse([pid for pid in pids if runs(pid)])
        # The indexer may not have begun; then the signal is its end.
        self.assertNotIn("did not stop", daemon.log)

    def test_port_in_use(self) -> None:
        """A port in use is said by name before anything starts."""
        base = free_port_base()
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((HOST, base + ABOVE["imap"]))
            taken.listen()
            words = ("try", "--directory", str(self.state), "--port-base", str(base))
            done = run(mta(*words), check=False)
        self.assertEqual(1, done.returncode)
        self.assertIn(
            f"{HOST}:{base + 143} (imap): Address already in use", done.stderr
        )
        self.assertIn("--port-base", done.stderr)
        self.assertEqual(1, done.stderr.count("\n"), done.stderr)
        self.assertEqual("", done.stdout)
        self.assertFalse((self.state / "ledger.sqlite3").exists())

    def test_bad_options(self) -> None:
        """A directory that cannot be, and a relay without a port, are said in
        one line."""
        file = self.path / "file"
        file.write_text("")
        for words in (
            ("--directory", str(file / "below")),
            ("--directory", str(self.state), "--relay", "nowhere"),
            ("--directory", str(self.state), "--port-base", "65000"),
        ):
            with self.subTest(words):
                done = run(mta("try", *words), check=False)
                self.assertEqual(1, done.returncode)
                self.assertEqual(1, done.stderr.count("\n"), done.stderr)
                self.assertTrue(done.stderr.startswith("twisted-mta: "))


class Configured(Case):
    """C{twistd mta} and C{twisted-mta check}."""

    def config(self, base: int) -> Path:
        """A config as C{try} prints it."""
        words = ("try", "--print-config", "--directory", str(self.state))
        path = self.path / "mta.yaml"
        path.write_text(run(mta(*words, "--port-base", str(base))).stdout)
        return path

    def test_print_config(self) -> None:
        """The config that try prints is good for check and for twistd, by
        --config and by the environment. SIGTERM ends it as twistd does: with a
        clean stop, and then by the same signal."""
        base = free_port_base()
        path = self.config(base)
        self.assertEqual("ok\n", run(mta("check", str(path))).stdout)
        server = Server(path, base)
        self.addCleanup(server.stop)
        with smtplib.SMTP(HOST, server.ports["smtp"], timeout=PATIENCE_S) as session:
            self.assertEqual(250, session.noop()[0])
        self.assertEqual([], json.loads(server.command("account", "list", "--json")))
        server.process.terminate()
        self.assertEqual(-signal.SIGTERM, server.process.wait(PATIENCE_S))
        self.assertIn("Server Shut Down", server.log)

    def test_environment(self) -> None:
        """Without --config, TWISTED_MTA_CONFIG names it."""
        base = free_port_base()
        path = self.config(base)
        words = twistd(path)[:-2]
        program = Program(words, TWISTED_MTA_CONFIG=str(path))
        self.addCleanup(program.stop)
        program.drain()
        wait_until(lambda: "listening" in program.log, "it listens", program)
        self.assertEqual(-signal.SIGINT, program.stop())

    def test_no_config(self) -> None:
        """Without any config, it says how to make one."""
        if Path("/etc/twisted-mta/mta.yaml").exists():
            raise unittest.SkipTest("this machine has a config of its own")
        words = twistd(self.path)[:-2]
        done = run(words, check=False, TWISTED_MTA_CONFIG="")
        self.assertEqual(1, done.returncode)
        self.assertIn(
            "twisted-mta try --print-config > mta.yaml", done.stdout + done.stderr
        )
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_check(self) -> None:
        """check says everything that is wrong at once, each with its place and
        what to do; twistd does not start with it, for the same reasons."""
        path = self.config(free_port_base())
        text = path.read_text().replace("hostname: mail", "hostnme: mail")
        text = text.replace("protocol: pop3\n", "protocol: pop\n", 1)
        text += "queue:\n  give_up_after: 5 days\n  give_up_afer: 5d\n"
        path.write_text(text)
        done = run(mta("check", str(path)), check=False)
        self.assertEqual(1, done.returncode)
        lines = done.stderr.splitlines()
        for word in ("hostnme", "pop", "give_up_after", "give_up_afer", "hostname"):
            self.assertTrue(any(word in line for line in lines), (word, lines))
        for line in lines:
            self.assertRegex(line, rf"^{path}:\d+:\d+: ")
        self.assertIn("did you mean 'give_up_after'?", done.stderr)
        started = run(twistd(path), check=False)
        self.assertEqual(1, started.returncode)
        self.assertIn("give_up_afer", started.stdout + started.stderr)
        self.assertNotIn("Traceback", started.stdout + started.stderr)

    def test_check_no_yaml(self) -> None:
        """A file that is no YAML, or is not there, is said with its name."""
        path = self.path / "broken.yaml"
        for text in ("a: [", "\tx: y", "- 1", "", "a: 1\na: 2", None):
            with self.subTest(text):
                path.unlink(missing_ok=True)
                if text is not None:
                    path.write_text(text)
                done = run(mta("check", str(path)), check=False)
                self.assertEqual(1, done.returncode)
                self.assertTrue(done.stderr.startswith(f"{path}:"), done.stderr)
                self.assertNotIn("Traceback", done.stderr)

    def test_annotated_config(self) -> None:
        """The annotated config of the source is good once its certificate is
        there, and until then only that is wrong with it."""
        text = (ROOT / "etc" / "mta.yaml").read_text()
        text = text.replace("/etc/twisted-mta/tls", str(self.path))
        path = self.path / "mta.yaml"
        path.write_text(text)
        done = run(mta("check", str(path)), check=False)
        self.assertEqual(1, done.returncode)
        for line in done.stderr.splitlines():
            self.assertRegex(line, "(fullchain|privkey).pem")
        pair = Pair(self.path / "fullchain.pem", self.path / "privkey.pem")
        self_signed(pair, ("mail.example.org",))
        self.assertEqual("ok\n", run(mta("check", str(path))).stdout)

    def test_port_in_use(self) -> None:
        """A server whose port is taken ends with a status that systemd sees,
        and says which port it is."""
        base = free_port_base()
        path = self.config(base)
        with socket.socket() as taken:
            taken.bind((HOST, base + ABOVE["pop3s"]))
            taken.listen()
            done = run(twistd(path), check=False)
        self.assertNotEqual(0, done.returncode)
        self.assertIn(str(base + ABOVE["pop3s"]), done.stdout + done.stderr)

    def test_new_certificate(self) -> None:
        """SIGHUP reads the certificate again, for new connections; those that
        are open go on, and a broken file leaves the old one in use."""
        base = free_port_base()
        server = Server(self.config(base), base)
        self.addCleanup(server.stop)
        port = server.ports["imaps"]
        old = self.certificate(port)
        kept = smtplib.SMTP(HOST, server.ports["smtp"], timeout=PATIENCE_S)
        self.addCleanup(kept.close)
        new = Pair(self.path / "new.pem", self.path / "new.key")
        self_signed(new, ("localhost",))
        certificate, key = self.state / "certificate.pem", self.state / "key.pem"
        os.replace(new.certificate, certificate)
        os.replace(new.key, key)
        server.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: "certificates read again" in server.log, "it is read", server
        )
        changed = self.certificate(port)
        self.assertNotEqual(old, changed)
        self.assertEqual(250, kept.noop()[0])
        certificate.write_text("broken")
        before = len(server.log)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.log) > before, "it says so", server)
        self.assertEqual(changed, self.certificate(port))
