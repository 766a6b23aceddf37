"""C{twisted-mta suppression}: what it says of what it did."""

import argparse
import contextlib
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.delivery.fakes import ALICE, CAROL, OfficeCase
from twisted_mta.cli import suppression, table
from twisted_mta.cli.main import parser
from twisted_mta.errors import MailError, NoSuchAccount


class SuppressionTests(OfficeCase):
    def said(self, *words: str, status: int = 0) -> str:
        """The lines that a command prints."""

        def with_office(options: object, work: Callable[[Any], Awaitable[Any]]) -> Any:
            done: list[Any] = []
            Deferred.fromCoroutine(work(self.office)).addBoth(done.append)  # type: ignore[arg-type]
            if isinstance(done[0], Failure):
                done[0].raiseException()
            return done[0]

        options = parser().parse_args(["suppression", *words])
        command: Callable[[argparse.Namespace], int] = getattr(
            suppression, options.run.partition(".")[2]
        )
        output = io.StringIO()
        with (
            mock.patch.object(suppression, "with_office", with_office),
            contextlib.redirect_stdout(output),
        ):
            self.assertEqual(command(options), status)
        return output.getvalue()

    def test_life(self) -> None:
        """An address is put on the list, looked at, and taken off."""
        who = str(CAROL)
        self.assertEqual(self.said("list"), "Nobody is on the list.\n")
        self.assertEqual(self.said("check", who), f"{who} is not on the list\n")
        words = ("add", who, "--for", "30d", "--source", "she asked")
        self.assertEqual(self.said(*words), f"{who} is on the list\n")
        shown = self.said("check", who, status=1)
        self.assertIn(f"{who} is on the list for all since", shown)
        self.assertIn("until", shown)
        self.assertIn("manual, she asked", shown)
        self.assertIn("she asked", self.said("list"))
        self.assertEqual(self.said("remove", who), f"{who} is off the list\n")
        with self.assertRaises(NoSuchAccount):
            self.said("remove", who)

    def test_narrow(self) -> None:
        """The list fits a terminal; what is cut is what its source said."""
        self.said("add", str(CAROL), "--for", "30d", "--source", "she asked " * 20)
        with mock.patch.object(table, "terminal", lambda: 80):
            _, line = self.said("list").splitlines()
        self.assertIn(str(CAROL), line)
        self.assertTrue(line.endswith("\u2026"), line)
        self.assertEqual(len(line), 80)

    def test_account(self) -> None:
        """An entry may be of one account, which there must be."""
        who, account = str(CAROL), ("--account", str(ALICE))
        self.said("add", who, *account)
        self.assertIn("not on the list", self.said("check", who))
        self.assertIn(str(ALICE), self.said("check", who, *account, status=1))
        (entry,) = json.loads(self.said("list", "--json"))
        self.assertEqual((entry["scope"], entry["until"]), (str(ALICE), None))
        with self.assertRaises(NoSuchAccount):
            self.said("add", who, "--account", "x@example.test")
        self.said("remove", who, *account)

    def test_senseless(self) -> None:
        """What is no address, or no time, is told."""
        with self.assertRaises(MailError):
            self.said("add", "carol")
        with self.assertRaises(MailError):
            self.said("add", str(CAROL), "--for", "soon")
