"""C{twisted-mta check --data} and C{twisted-mta backup}: what they say, and how they
end."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tests.ledger.audit.case import AuditCase
from twisted_mta.cli.main import main
from twisted_mta.cli.progress import Progress

_CONFIG = """\
hostname: mail.example.test
directory: {directory}
domains: {{example.test: }}
postmaster: pm@example.test
listeners:
  - {{name: smtp, protocol: smtp, endpoints: ["tcp:1025"]}}
"""
_WRONG = "UPDATE mailbox SET messages = 9 WHERE name = 'INBOX'"
_SAID = "alice@example.test: INBOX: messages says 9, should be 2"
_SOUND = (0, "No problems.\n", "")


class CommandCase(AuditCase):
    """The ledger has a config, in the file L{config}."""

    async def setUp(self) -> None:
        await super().setUp()
        self.config = Path(self.mktemp()).absolute()
        self.config.write_text(_CONFIG.format(directory=self.directory))

    def run_(self, *words: object) -> tuple[int, str, str]:
        """Status, standard output and error of a command."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main([str(word) for word in words])
        return status, out.getvalue(), err.getvalue()


class CheckTests(CommandCase):
    """check --data."""

    async def test_which(self) -> None:
        """The ledger that a config names, or one in a directory."""
        for which in (
            (self.config,),
            ("--config", self.config),
            ("--directory", self.directory),
        ):
            self.assertEqual(self.run_("check", "--data", *which), _SOUND)
            self.sql(_WRONG)
            self.assertEqual(self.run_("check", "--data", *which)[0], 1)
            self.sql(_WRONG.replace("9", "2"))

    async def test_without_data(self) -> None:
        """A config is checked, as a file, or as the one of C{--config}."""
        self.sql(_WRONG)
        self.assertEqual(self.run_("check", self.config), (0, "ok\n", ""))
        self.assertEqual(self.run_("check", "--config", self.config), (0, "ok\n", ""))
        self.assertEqual(self.run_("check", self.config.parent / "none")[0], 1)

    async def test_problems(self) -> None:
        """A line each, with what could be done; then how many. The status is 1
        while some are left."""
        which = ("check", "--data", "--directory", self.directory)
        self.sql(_WRONG, f"UPDATE content SET octets = x'00' WHERE id = {self.small}")
        status, out, err = self.run_(*which)
        lost, wrong, summary = out.splitlines()
        self.assertEqual((status, err), (1, ""))
        self.assertRegex(lost, r"^content \w{13}: .* \(cannot be repaired; a backup ")
        self.assertEqual(wrong, f"{_SAID} (--repair: is 2 now)")
        self.assertEqual(summary, "2 problems, 0 repaired, 2 left.")
        status, out, _ = self.run_(*which, "--repair")
        self.assertEqual(status, 1)
        self.assertEqual(
            out.splitlines(),
            [lost, f"{_SAID} (repaired: is 2 now)", "2 problems, 1 repaired, 1 left."],
        )

    async def test_all_repaired(self) -> None:
        """The status is 0."""
        self.sql(_WRONG)
        which = ("check", "--data", "--directory", self.directory)
        status, out, _ = self.run_(*which, "--repair")
        self.assertEqual(status, 0)
        self.assertIn("1 problem, 1 repaired, 0 left.\n", out)
        self.assertEqual(self.run_(*which), _SOUND)

    async def test_without_hashes(self) -> None:
        """Content that has none is mentioned, and no problem."""
        self.sql("UPDATE content SET hash = NULL")
        which = ("check", "--data", "--directory", self.directory)
        none = "3 times: content without a hash, which came before there was one"
        given = "given one, of what it is now)\nNo problems.\n"
        for option, how in (("", "--repair"), ("--repair", "repaired")):
            said = self.run_(*which, *option.split())
            self.assertEqual(said, (0, f"{none} ({how}: {given}", ""))
        self.assertEqual(self.run_(*which), _SOUND)

    async def test_json(self) -> None:
        """A line of JSON for each problem, and nothing else."""
        self.sql(_WRONG)
        which = ("check", "--data", "--json", "--directory", self.directory)
        said = {"what": _SAID, "remedy": "is 2 now", "repairable": True}
        for repair in (False, True):
            status, out, _ = self.run_(*which, *["--repair"] * repair)
            self.assertEqual(json.loads(out), {**said, "repaired": repair})
            self.assertEqual(status, not repair)
        self.assertEqual(self.run_(*which), (0, "", ""))

    async def test_cannot_look(self) -> None:
        """Says why; the status is 2."""
        nowhere = self.directory / "nowhere"
        await self.ledger.close()
        (self.directory / "ledger.sqlite3").write_bytes(b"something else" * 1_000)
        for which, why in (
            (("--directory", nowhere), "holds no ledger"),
            (("--config", nowhere), "nowhere"),
            (("--config", self.config), "cannot be opened"),
        ):
            status, out, err = self.run_("check", "--data", *which)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(why, err)

    async def test_senseless(self) -> None:
        """What makes no sense together is said; the status is 2."""
        for words in (
            ("--repair", self.config),
            ("--json", self.config),
            ("--data", self.config, "--config", self.config),
        ):
            status, out, err = self.run_("check", *words)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("twisted-mta check: ", err)


class BackupTests(CommandCase):
    """backup."""

    async def test_made(self) -> None:
        """Says what it consists of."""
        target = self.config.with_name("backup")
        words = ("backup", target, "--config", self.config)
        status, out, err = self.run_(*words, "--verify")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(
            out, rf"^{target}: \d+K of rows, 1 large messages linked, 0 copied\.\n$"
        )
        sound = self.run_("check", "--data", "--directory", target)
        self.assertEqual(sound, _SOUND)
        shutil.rmtree(target)
        status, out, _ = self.run_(
            "backup", target, "--copy", "--directory", self.directory
        )
        self.assertIn("0 large messages linked, 1 copied", out)

    async def test_refused(self) -> None:
        """Says why; the status is 1."""
        words = ("backup", self.directory, "--config", self.config)
        status, out, err = self.run_(*words)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("is there already", err)

    async def test_damaged(self) -> None:
        """Says what is wrong with it, and to keep others; the status is 1."""
        self.sql(_WRONG)
        target = self.config.with_name("backup")
        status, out, err = self.run_(
            "backup", target, "--verify", "--config", self.config
        )
        self.assertEqual(status, 1)
        self.assertEqual(out.splitlines()[0], _SAID)
        self.assertIn("keep an older backup", err)
        self.assertTrue(target.is_dir())


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ProgressTests(CommandCase):
    """How far a command has come."""

    async def test_on_a_terminal(self) -> None:
        """One line, which is gone before another is printed, and in the end."""
        out = _Terminal()
        with Progress(out) as progress:
            progress.look("content", 1, 3)
            self.assertTrue(out.getvalue().endswith("content: 1 of 3"))
            progress.look("content", 2, 3)  # nobody reads so fast
            self.assertNotIn("2 of 3", out.getvalue())
        self.assertTrue(out.getvalue().endswith("\r\x1b[K"))

    async def test_elsewhere(self) -> None:
        """Nothing is written."""
        out = io.StringIO()
        with Progress(out) as progress:
            progress.look("content", 1, 3)
        self.assertEqual(out.getvalue(), "")
