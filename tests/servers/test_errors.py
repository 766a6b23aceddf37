"""Tests for L{twisted_mta.servers.errors}."""

from unittest import TestCase

from twisted_mta import errors as domain
from twisted_mta.errors import MailError, Permanent, Temporary
from twisted_mta.mail.reply import Reply
from twisted_mta.servers import errors


def kinds(base: type[MailError]) -> list[type[MailError]]:
    return [base, *(kind for sub in base.__subclasses__() for kind in kinds(sub))]


class TableTests(TestCase):
    def test_every_error(self) -> None:
        """Each error of the domain reads as temporary or permanent in SMTP as
        its status says."""
        for kind in kinds(MailError):
            if kind.__module__ == domain.__name__:
                reply = errors.smtp(kind())
                self.assertEqual(str(reply.code)[0], reply.status[0], kind)

    def test_renderings(self) -> None:
        """One error as each protocol has it."""
        error = domain.OverQuota("Full")
        self.assertEqual(errors.smtp(error), Reply(552, "5.2.2", ("Full",)))
        self.assertEqual(errors.imap(error), (b"OVERQUOTA", "Full"))
        self.assertEqual(errors.pop3(error), ("", "Full"))
        self.assertEqual(errors.pop3(domain.AuthenticationFailed())[0], "AUTH")
        self.assertEqual(errors.pop3(Temporary())[0], "SYS/TEMP")

    def test_what_no_login_may(self) -> None:
        """RFC 5530 3: NOPERM is said of what another login might do, CANNOT of
        what nobody can."""
        self.assertEqual(errors.imap(domain.NotPermitted())[0], b"NOPERM")
        for error in (domain.InboxNeeded(), domain.BadMailboxName()):
            self.assertEqual(errors.imap(error)[0], b"CANNOT")

    def test_nearest_base(self) -> None:
        """A class of a plugin reads like its base."""

        class Odd(Permanent):
            status = "5.9.9"

        self.assertEqual(errors.smtp(Odd()).code, 550)
        self.assertEqual(errors.imap(Odd())[0], b"")
        self.assertEqual(errors.imap(domain.LedgerUnavailable())[0], b"UNAVAILABLE")
