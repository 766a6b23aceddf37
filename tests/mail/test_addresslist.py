"""Requirements of L{twisted_mta.mail.addresslist}."""

import email.utils
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mail.counting import growth
from twisted_mta.mail import addresslist
from twisted_mta.mail.addresslist import GROUP_END, Entry


def plain(local: bytes, host: bytes, name: bytes | None = None) -> Entry:
    return Entry(name, None, local, host)


def group(name: bytes) -> Entry:
    return Entry(None, None, name, None)


class ParseTests(unittest.TestCase):
    def test_forms(self) -> None:
        """The forms of RFC 5322 3.4, and its examples of A.1."""
        for value, entry in (
            (b"john.doe@example.com", plain(b"john.doe", b"example.com")),
            (b"<boss@nil.test>", plain(b"boss", b"nil.test")),
            (b"Mary Smith <mary@x.test>", plain(b"mary", b"x.test", b"Mary Smith")),
            (
                b'"Joe Q. Public" <joe@x.test>',
                plain(b"joe", b"x.test", b"Joe Q. Public"),
            ),
            (
                b'"Giant; \\"Big\\" Box" <sys@x.test>',
                plain(b"sys", b"x.test", b'Giant; "Big" Box'),
            ),
            (b'"john doe"@x.test', plain(b"john doe", b"x.test")),
            (b'" "@x.test', plain(b" ", b"x.test")),
            (b"root@[192.0.2.1]", plain(b"root", b"[192.0.2.1]")),
            (b"\xc3\xbc <\xc3\xbc@x.test>", plain(b"\xc3\xbc", b"x.test", b"\xc3\xbc")),
            (b"=?utf-8?q?a?= <a@b>", plain(b"a", b"b", b"=?utf-8?q?a?=")),
        ):
            self.assertEqual(addresslist.parse(value), [entry], value)

    def test_obsolete(self) -> None:
        """RFC 5322 4.4 and A.6: spaces, comments, routes, words with dots."""
        for value, entry in (
            (b"john . doe @ example . com", plain(b"john.doe", b"example.com")),
            (b"a@b (Bob \\(B\\) (x))", plain(b"a", b"b", b"Bob (B) (x)")),
            (b"Joe Q. Public <j@x>", plain(b"j", b"x", b"Joe Q. Public")),
            (b"Pete(A \\) chap) <pete(his)@silly.test(host)>", None),
            (
                b"<@a.test,@b.test:c@d.test>",
                Entry(None, b"@a.test,@b.test", b"c", b"d.test"),
            ),
            (b"X <@a:c@d>", Entry(b"X", b"@a", b"c", b"d")),
            (b'"a"b "c" <d@e>', plain(b"d", b"e", b"ab c")),
        ):
            entry = entry or plain(b"pete", b"silly.test", b"Pete")
            self.assertEqual(addresslist.parse(value), [entry], value)

    def test_groups(self) -> None:
        """Groups have a start and an end, empty or not, ended or not."""
        self.assertEqual(
            addresslist.parse(b"A Group:Ed <e@x>,j@y, (c) ; k@z"),
            [
                group(b"A Group"),
                plain(b"e", b"x", b"Ed"),
                plain(b"j", b"y"),
                GROUP_END,
                plain(b"k", b"z"),
            ],
        )
        self.assertEqual(
            addresslist.parse(b"undisclosed recipients:;"),
            [group(b"undisclosed recipients"), GROUP_END],
        )
        self.assertEqual(
            addresslist.parse(b"a: b@c"), [group(b"a"), plain(b"b", b"c"), GROUP_END]
        )

    def test_wrong(self) -> None:
        """What is written wrongly is read as far as it makes sense."""
        for value, entries in (
            (b"bob", [plain(b"bob", b"")]),
            (b"Bob Smith", [plain(b"", b"", b"Bob Smith")]),
            (b"Bob <bob>", [plain(b"bob", b"", b"Bob")]),
            (b"<>", [plain(b"", b"")]),
            (b"bob@", [plain(b"bob", b"")]),
            (b"a@b@c", [plain(b"a@b", b"c")]),
            (b"a@b.test <c@d>", [plain(b"c", b"d", b"a@b.test")]),
            (b"<a@b, c@d", [plain(b"a", b"b"), plain(b"c", b"d")]),
            (b"<a@b> trailing, c@d", [plain(b"a", b"b"), plain(b"c", b"d")]),
            (b"a@b; c@d", [plain(b"a", b"b"), plain(b"c", b"d")]),
            (b",, a@b ,,", [plain(b"a", b"b")]),
            (b'"open <a@b>', [plain(b"", b"", b"open <a@b>")]),
            (b"(only a comment)", []),
            (b"", []),
        ):
            self.assertEqual(addresslist.parse(value), entries, value)

    def test_addresses(self) -> None:
        """Addresses alone come without the marks of groups."""
        self.assertEqual(
            addresslist.addresses(b"X <a@b>, g: c@d;"), [(b"a", b"b"), (b"c", b"d")]
        )

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.text("ab .,\"\\(<@:;'", max_size=8),
                st.from_regex(r"[a-z0-9]{1,5}(\.[a-z]{1,3})?", fullmatch=True),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_oracle(self, people: list[tuple[str, str]]) -> None:
        """What the standard library writes is read as it was meant, but for
        the width of white space, which counts only where it is quoted."""
        value = ", ".join(
            email.utils.formataddr((name, f"{local}@x.test")) for name, local in people
        )
        self.assertEqual(
            [
                (b" ".join((entry.name or b"").split()), entry.local)
                for entry in addresslist.parse(value.encode())
            ],
            [
                (" ".join(name.split()).encode(), local.encode())
                for name, local in people
            ],
        )

    @settings(max_examples=250, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"a",
                    b"@",
                    b"<",
                    b">",
                    b",",
                    b":",
                    b";",
                    b" ",
                    b'"',
                    b"(",
                    b")",
                    b"\\",
                ]
            ),
            max_size=14,
        ).map(b"".join)
        | st.binary(max_size=30)
    )
    def test_any(self, value: bytes) -> None:
        """Whatever the octets: groups start and end in turn."""
        grouped = False
        for entry in addresslist.parse(value):
            if entry.host is None:
                self.assertEqual(entry.local is None, grouped)
                grouped = not grouped
        self.assertFalse(grouped)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from([b"a", b"b.c", b" ", b'"d e"', b"<", b">", b"@"]),
            max_size=9,
        ).map(b"".join)
    )
    def test_two_ways(self, value: bytes) -> None:
        """The quick way for the usual form reads what the tokenizer reads."""
        usual = addresslist._USUAL.match(value)
        if usual is not None:
            reader = addresslist._Reader(value, 0)
            reader.read()
            self.assertEqual(addresslist.parse(value), [reader.entry()])


class HostileTests(unittest.TestCase):
    def test_h11_bounded(self) -> None:
        """A million addresses, groups in groups, and fields of nothing but
        marks give at most a thousand entries, and the end of a group."""
        for unit in (
            *(b"a@b,", b"X <a@b>, ", b"a:", b"a:,,,;", b"(", b"()", b'"', b"<", b"@"),
            *(b":", b";", b",", b">", b"\\", b" ", b"<@a,", b"a ", b"[", b"a@b;"),
        ):
            entries = addresslist.parse(unit * (1_000_000 // len(unit)))
            self.assertLessEqual(len(entries), addresslist.ENTRIES_MAX + 2, unit)

    def test_h11_linear(self) -> None:
        """Twice the list is twice the work, in the usual form and others."""
        units = (b"a@b, ", b"a @b, ", b"(a) ", b"a:b@c;", b"@a ", b'"a" ', b"<@a,@b:")
        for unit in units:
            ratio = growth(
                lambda size, unit=unit: lambda: addresslist.parse(unit * size), 100
            )
            self.assertLess(ratio, 2.3, unit)

    def test_h11_empty_words(self) -> None:
        """A route behind any number of empty words is read in linear time."""
        ratio = growth(
            lambda size: (
                lambda: addresslist.parse(b"<" + b'"" ' * size + b"@" + b"," * size)
            ),
            150,
        )
        self.assertLess(ratio, 2.3)
