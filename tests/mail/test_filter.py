"""L{twisted_mta.mail.filter}: which messages are meant."""

import fnmatch
import re
import unittest

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.errors import BadFilter, NoSuchQueueId
from twisted_mta.mail.filter import Filter, like, matches, read
from twisted_mta.mail.ids import to_text

ID = to_text(1 << 50)


class FilterTests(unittest.TestCase):
    def fits(self, filter: Filter, **changed: str) -> bool:
        usual = {
            "sender": "ann@a.test",
            "account": "ann@login.test",
            "recipient": "Bob@Sub.B.test",
            "agent": "smtp",
            "next_hop": "sub.b.test",
        }
        usual |= changed
        origin = usual["sender"], usual["account"]
        way = usual["recipient"], usual["agent"], usual["next_hop"]
        return filter.fits_from(*origin) and filter.fits_way(*way)

    def test_fits(self) -> None:
        """Each thing that is said has to fit, in any case of letters."""
        for filter in (
            Filter(),
            Filter(sender="ann@a.test"),
            Filter(sender="ANN@*"),
            Filter(sender="@a.test"),
            Filter(recipient="bob@sub.b.test"),
            Filter(recipient="@sub.b.test"),
            Filter(domain="sub.b.test"),
            Filter(domain=".b.test"),
            Filter(account="@login.test"),
            Filter(agent="smtp", site="*.b.test"),
        ):
            with self.subTest(filter.said()):
                self.assertTrue(self.fits(filter))
        for filter in (
            Filter(sender="nn@a.test"),
            Filter(sender="@a.tes"),
            Filter(sender="<>"),
            Filter(recipient="@b.test"),
            Filter(domain="b.test"),
            Filter(domain=".sub.b.test"),
            Filter(account="ann"),
            Filter(agent="smtp", site="b.test"),
        ):
            with self.subTest(filter.said()):
                self.assertFalse(self.fits(filter))

    def test_null_sender(self) -> None:
        """The null sender is one that can be meant."""
        self.assertTrue(self.fits(Filter(sender="<>"), sender=""))
        self.assertFalse(self.fits(Filter(sender="@a.test"), sender=""))

    def test_senseless(self) -> None:
        """What makes no sense is said, and what it is."""
        for name, bad in (
            ("states", ("sleeping",)),
            ("sender", ""),
            ("sender", "a\nb"),
            ("error", "x" * 2000),
            ("domain", "bob@b.test"),
            ("older_s", -1.0),
            ("younger_s", float("nan")),
            ("ids", (ID,) * 10_001),
        ):
            with self.subTest(name), self.assertRaises(BadFilter) as caught:
                Filter(**{name: bad})  # type: ignore[arg-type]
            self.assertNotIn("\n", caught.exception.text)
        with self.assertRaises(NoSuchQueueId):
            Filter(ids=("nonsense",))

    def test_empty(self) -> None:
        """A filter that says nothing is empty, also if it says that it means it."""
        self.assertTrue(Filter().empty)
        self.assertTrue(Filter(everything=True).empty)
        for filter in (Filter(ids=(ID,)), Filter(older_s=0.0), Filter(agent="x")):
            self.assertFalse(filter.empty)

    def test_written(self) -> None:
        """It can be kept, and shown."""
        for filter in (
            Filter(),
            Filter(everything=True),
            Filter(ids=(ID,), states=("held", "frozen"), sender="<>", older_s=60.0),
        ):
            self.assertEqual(read(filter.written()), filter)
        self.assertEqual(Filter().said(), "everything")
        said = Filter(states=("held",), sender="@a.test", older_s=60.0).said()
        self.assertEqual(said, "states=held, sender=@a.test, older=60.0")

    @given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
    def test_matches(self, pattern: str, text: str) -> None:
        """It fits what a shell's pattern fits, and so does SQL's."""
        expected = fnmatch.fnmatchcase(text, pattern)
        self.assertEqual(matches(pattern, text), expected)
        sql = re.escape(like(pattern)).replace("%", ".*")
        self.assertEqual(re.fullmatch(sql, text) is not None, expected)

    def test_like(self) -> None:
        """SQL's own signs are letters like others."""
        self.assertEqual(like("100%_!*"), "100!%!_!!%")
