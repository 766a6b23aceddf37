"""L{twisted_mta.mail.tlsa}: which records are of use."""

from unittest import TestCase

from twisted_mta.mail.tlsa import UNREADABLE, Tlsa, best

SHORT, LONG = b"x" * 32, b"x" * 64


class TlsaTests(TestCase):
    """Records."""

    def test_usable(self) -> None:
        """Usages 2 and 3, of selectors and digests that there are, of their length."""
        for usage in range(5):
            for selector in range(3):
                for matching in range(4):
                    for data in (b"", b"x", SHORT, LONG):
                        right = (
                            usage in (2, 3)
                            and selector in (0, 1)
                            and (
                                (matching == 0 and data != b"")
                                or (matching == 1 and data == SHORT)
                                or (matching == 2 and data == LONG)
                            )
                        )
                        record = Tlsa(usage, selector, matching, data)
                        self.assertIs(record.usable, right, record)
        self.assertFalse(UNREADABLE.usable)

    def test_best(self) -> None:
        """Of two digests of one thing the stronger counts (RFC 7671 9), whatever else
        there is."""
        whole, strong = Tlsa(3, 1, 0, b"x"), Tlsa(3, 1, 2, LONG)
        weak, other = Tlsa(3, 1, 1, SHORT), Tlsa(3, 0, 1, SHORT)
        self.assertEqual(best([weak, strong, whole, other]), (strong, whole, other))
        self.assertEqual(best([weak, whole]), (weak, whole))
        self.assertEqual(best([weak, Tlsa(3, 1, 2, SHORT)]), (weak,))
        self.assertEqual(best([UNREADABLE]), ())

    def test_shown(self) -> None:
        """It reads as in a zone."""
        self.assertEqual(str(Tlsa(3, 1, 1, b"\0\xff")), "3 1 1 00ff")
