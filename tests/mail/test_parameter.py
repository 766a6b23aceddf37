"""Requirements of L{twisted_mta.mail.parameter}."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail.counting import growth
from twisted_mta.mail import parameter


def pairs(value: bytes) -> dict[bytes, bytes]:
    return dict(parameter.parse(value)[1])


class ParseTests(unittest.TestCase):
    def test_usual(self) -> None:
        """A token and parameters, quoted or not, with any white space."""
        self.assertEqual(
            parameter.parse(b' attachment; FileName="a \\"b\\".txt" ;\tsize = 12;x=y'),
            (
                b"attachment",
                ((b"filename", b'a "b".txt'), (b"size", b"12"), (b"x", b"y")),
            ),
        )
        self.assertEqual(parameter.parse(b"inline (comment)"), (b"inline", ()))
        self.assertEqual(parameter.parse(b""), (b"", ()))

    def test_sloppy(self) -> None:
        """What mail programs write wrongly is understood: unquoted spaces and
        parentheses, comments, no closing quote, empty parameters."""
        self.assertEqual(pairs(b"a; name=my file (1).pdf; x=1")[b"x"], b"1")
        self.assertEqual(pairs(b"a; name=photo(1).jpg"), {b"name": b"photo(1).jpg"})
        self.assertEqual(pairs(b"a; charset=utf-8 (plain)"), {b"charset": b"utf-8"})
        self.assertEqual(pairs(b'a; name="open;x=1'), {b"name": b"open;x=1"})
        self.assertEqual(pairs(b"a;;; ; x=; y"), {b"x": b""})
        self.assertEqual(pairs(b'a; x="1;2"; y=3'), {b"x": b"1;2", b"y": b"3"})

    def test_first_wins(self) -> None:
        """Of parameters with one name the first counts, in its place."""
        self.assertEqual(
            parameter.parse(b"a; x=1; y=2; X=3")[1], ((b"x", b"1"), (b"y", b"2"))
        )

    def test_continued(self) -> None:
        """RFC 2231 3: pieces are joined by number, whatever their order."""
        self.assertEqual(
            pairs(b'a; url*1="host/x"; z=1; url*0="ftp://"'),
            {b"url": b"ftp://host/x", b"z": b"1"},
        )

    def test_extended(self) -> None:
        """RFC 2231 4.1: with an extended piece the name gets a star, and pieces
        that are not extended are percent-encoded."""
        self.assertEqual(
            pairs(
                b"a; title*0*=us-ascii'en'This%20is; title*1*=%2A%2A; title*2=\"x'!\""
            ),
            {b"title*": b"us-ascii'en'This%20is%2A%2Ax%27%21"},
        )
        self.assertEqual(
            pairs(b"a; name*=utf-8''x; name=y"), {b"name*": b"utf-8''x", b"name": b"y"}
        )

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [b";", b"=", b'"', b"*", b"0", b"a", b" ", b"'", b"%4", b"("]
            )
        ).map(b"".join)
        | st.binary(max_size=40)
    )
    def test_any(self, value: bytes) -> None:
        """Nothing raises, and every name is there once."""
        parameters = parameter.parse(value)[1]
        self.assertEqual(len(dict(parameters)), len(parameters))
        for name, _ in parameters:
            parameter.octets(parameters, name)


class OctetsTests(unittest.TestCase):
    def test_octets(self) -> None:
        """For programs, RFC 2231 is undone and nothing else."""
        for value, octets in (
            (b"a; name*=us-ascii''b%2D%2d", b"b--"),
            (b"a; name==?utf-8?q?b?=", b"=?utf-8?q?b?="),
            (b"a; other=b", None),
        ):
            parameters = parameter.parse(value)[1]
            self.assertEqual(parameter.octets(parameters, b"name"), octets)


class HostileTests(unittest.TestCase):
    def test_h14_many(self) -> None:
        """No more than 128 parameters are read, continued ones too."""
        plain = b"a" + b"".join(b"; n%d=x" % at for at in range(10_000))
        self.assertEqual(len(parameter.parse(plain)[1]), 128)
        pieces = b"a" + b"".join(b"; n*%d*=x" % at for at in range(10_000))
        self.assertEqual(parameter.parse(pieces)[1], ((b"n*", b"x" * 128),))

    def test_h14_gaps_and_duplicates(self) -> None:
        """Pieces behind a gap are dropped, the first of duplicates counts, and
        without a first piece there is nothing."""
        self.assertEqual(pairs(b"a; n*0=a; n*2=c"), {b"n": b"a"})
        self.assertEqual(pairs(b"a; n*0=a; n*0=b; n*1=c"), {b"n": b"ac"})
        self.assertEqual(pairs(b"a; n*1=b"), {})
        self.assertEqual(
            pairs(b"a; n*99999=b; n**=c"), {b"n*99999": b"b", b"n**": b"c"}
        )

    def test_h14_linear(self) -> None:
        """Large values of the worst kinds end, and more is not dearer."""
        for unit in (b";a", b';a="', b";a*0*=", b"a=", b'"', b"\\", b"; ", b" ("):
            parameter.parse(b"a;b=" + unit * 300_000)
        ratio = growth(lambda size: lambda: parameter.parse(b"a" + b"; b=c" * size), 60)
        self.assertLess(ratio, 2.2)
