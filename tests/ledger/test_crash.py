"""What is acknowledged survives, what is not is nowhere: the ledger under kill -9
and under a disk that fails (HOSTILE.md, row 52)."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, TestCase

from tests.ledger import child
from tests.system.calls import OPTIONS, calls
from tests.system.daemon import Directory
from tests.system.disk import Disk
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.mail.placement import Part
from twisted_mta.store.native import NativeStore

ROOT = Path(__file__).parent.parent.parent


def command(directory: Path, work: str) -> list[str]:
    """How to run the child."""
    return [sys.executable, "-m", "tests.ledger.child", str(directory), work]


def traced(directory: Path, work: str, *options: str) -> list[str]:
    """The same, under strace."""
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI"):
            raise AssertionError("strace is not installed")
        raise SkipTest("strace is not installed")
    return [strace, "-f", "-qq", *options, *command(directory, work)]


def under_strace(inject: str, directory: Path, work: str) -> list[str]:
    """The same, with system calls that fail."""
    return traced(directory, work, "-o", os.devnull, "-e", f"inject={inject}")


def lines(arguments: list[str]) -> list[str]:
    """What a child says until it ends."""
    done = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    return done.stdout.decode().splitlines()


def told(said: list[str], outcome: str) -> list[str]:
    """The tokens of which a child said this."""
    return [line.split()[1] for line in said if line.startswith(outcome + " ")]


class CrashCase(TestCase):
    """Looks at what a child left."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    async def left(self) -> Counter[str]:
        """Open the ledger, as the next start does. All is sound.

        @return: the tokens of the messages in INBOX, each as often as it is
            there.
        """
        ledger = Ledger(reactor, self.directory)
        await ledger.open()
        try:
            return await self.messages(ledger)
        finally:
            await ledger.close()

    async def messages(self, ledger: Ledger) -> Counter[str]:
        """See L{left}."""
        await ledger.write(child.ensure_account)
        await ledger.collect()
        self.assertEqual(await ledger.problems(), [])
        inbox = await (await NativeStore(ledger).account(child.ALICE)).open("INBOX")
        uids = [row.uid for row in (await inbox.changes()).rows]
        found: Counter[str] = Counter()
        for message in await inbox.fetch(uids, frozenset({Part.HEADER})):
            _, content = await inbox.content(message.uid)
            self.assertEqual(len(await content.read(0, content.size)), message.size)
            header = message.header or b""
            found[header.removeprefix(b"Subject: ").strip().decode()] += 1
        return found


class KilledTests(CrashCase):
    """The process is killed."""

    async def test_h52_killed_at_any_moment(self) -> None:
        """Twenty times, under load: each message that was acknowledged is there
        exactly once, no UID is given twice, and nothing is left over."""
        acknowledged: list[str] = []
        uids: list[int] = []
        chance = random.Random(52)
        for _ in range(20):
            running = subprocess.Popen(
                command(self.directory, "for_ever"), cwd=ROOT, stdout=subprocess.PIPE
            )
            assert running.stdout is not None
            for _ in range(chance.randint(2, 60)):
                running.stdout.readline()
            running.kill()
            said = running.stdout.read().decode().split("\n")[:-1]
            running.stdout.close()
            running.wait()
            acknowledged += told(said, "stored")
            uids += [int(line.split()[2]) for line in said if "stored " in line]
        found = await self.left()
        self.assertEqual(len(uids), len(set(uids)))
        self.assertEqual(set(acknowledged) - set(found), set())
        self.assertEqual(set(found.values()), {1})


class PowerTests(CrashCase):
    """The power fails; L{tests.system.test_crash_power} has it under load."""

    async def test_h52_power_cut_since_the_first_start(self) -> None:
        """While the ledger is made, and before any step of a message becomes
        durable: what was acknowledged is there."""
        home = Path(self.mktemp()).absolute()
        home.mkdir(parents=True)
        disk = Disk(home)
        trace = home.with_name("trace")
        lines(traced(home / "new" / "mail", "twelve", "-o", str(trace), *OPTIONS))
        acknowledged: list[str] = []
        cuts = 0
        chance = random.Random(52)
        image = Directory(in_memory=True)
        self.addCleanup(image.remove)
        self.directory = image.path / "new" / "mail"
        with trace.open() as file:
            made = list(calls(file))
        for call in disk.replay(made):
            if call.name == "write":
                acknowledged += told(call.octets.decode().splitlines(), "stored")
            elif call.name in ("fsync", "fdatasync"):
                cuts += 1
                for save in (
                    disk.save_lost,
                    disk.save_kept,
                    lambda path: disk.save_torn(path, chance),
                ):
                    save(image.path)
                    found = await self.left()
                    self.assertLessEqual(Counter(acknowledged), found)
                    self.assertLessEqual(found, Counter(set(found)))
        self.assertEqual(len(acknowledged), 12)
        self.assertGreater(cuts, 30)


class ManyProcessesTests(CrashCase):
    """Several processes on one ledger."""

    async def test_at_once(self) -> None:
        """They make it, write and end at the same moment, and nobody fails."""
        running = [
            subprocess.Popen(
                command(self.directory, work), cwd=ROOT, stdout=subprocess.PIPE
            )
            for work in ("forty", "forty", "forty", "twenty_large")
        ]
        for process in running:
            self.assertIn(b"\ndone\n", process.communicate()[0])
        found = await self.left()
        self.assertEqual(found.total(), 3 * 40 + 20)
        self.assertEqual(found["small-39"], 3)


class FailingDiskTests(CrashCase):
    """What reaches the disk, and when; C{tests.system.test_crash_fault} has all
    that fails."""

    async def test_h52_what_was_refused_does_not_come_back(self) -> None:
        """The log is written but not synchronised, the caller is told, and a
        crash follows: the next start must not find it in the log."""
        said = lines(
            under_strace("fdatasync:error=EIO:when=30", self.directory, "until_told_no")
        )
        (refused,) = told(said, "LedgerUnavailable")
        found = await self.left()
        self.assertEqual(found, Counter(told(said, "stored")))
        self.assertNotIn(refused, found)

    async def test_h52_no_start(self) -> None:
        """What SQLite shares between processes cannot be made: there is no start,
        which says why, and the next one finds all that was there."""
        before = told(lines(command(self.directory, "twelve")), "stored")
        self.assertEqual(len(before), 12)
        shared = self.directory / "ledger.sqlite3-shm"
        for inject in (
            "openat:error=ENOSPC",
            "ftruncate:error=EIO",
            "pwrite64:error=ENOSPC",
            "mmap:error=ENOMEM",
        ):
            only = ("-P", str(shared), "-o", os.devnull, "-e", f"inject={inject}")
            done = subprocess.run(
                traced(self.directory, "forty", *only),
                cwd=ROOT,
                capture_output=True,
                check=False,
            )
            self.assertEqual(done.stdout, b"", inject)
            self.assertIn(b"cannot be opened", done.stderr, inject)
            self.assertEqual(await self.left(), Counter(before), inject)

    async def test_h52_synchronised_before_it_is_said(self) -> None:
        """Between two acknowledgements the log is synchronised; for a message
        with a file, file and directory before it."""
        for work, expected in (
            ("forty", ["fdatasync"]),
            ("twenty_large", ["fsync", "fsync", "fdatasync"]),
        ):
            trace = self.directory.with_name(work)
            calls = ("-e", "trace=fsync,fdatasync,write")
            lines(traced(self.directory, work, "-o", str(trace), *calls))
            since: list[str] = []
            acknowledged = 0
            for line in trace.read_text().splitlines():
                if '"stored ' in line:
                    acknowledged += 1
                    self.assertEqual(since[: len(expected)], expected)
                    since = []
                elif found := re.search(r"(fsync|fdatasync).*= 0$", line):
                    since.append(found[1])
                elif '"open' in line:
                    since = []
            self.assertGreaterEqual(acknowledged, 20)


class MemoryTests(CrashCase):
    """Memory is flat."""

    async def test_200_megabytes(self) -> None:
        """A message of 200 MB goes in and out within 16 MB of memory."""
        (said,) = [
            line.split()
            for line in lines(command(self.directory, "huge"))
            if line.startswith("octets ")
        ]
        self.assertGreaterEqual(int(said[1]), 200 << 20)
        self.assertEqual(said[1], said[2])
        self.assertLess(int(said[4]), 16 << 10)
        shutil.rmtree(self.directory)
