"""L{twisted_mta.mail.stspolicy}: what domains say, and what strangers say."""

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.mail.stspolicy import Mode, StsPolicy, announced, read

GOOD = (
    b"version: STSv1\r\nmode: enforce\r\nmx: mail.a.test\r\nmx: *.b.test\r\n"
    b"max_age: 604800\r\n"
)


class AnnouncedTests(TestCase):
    """The TXT record."""

    def test_id(self) -> None:
        """A record has an id; whatever else it has is passed over."""
        for text in (
            b"v=STSv1; id=20160831085700Z;",
            b"v=STSv1;id=20160831085700Z",
            b"v=STSv1; x=y; id=20160831085700Z; id=2;",
        ):
            self.assertEqual(announced([b"v=spf1", text]), "20160831085700Z")

    def test_none(self) -> None:
        """Two records, none, or one that is wrong say nothing (RFC 8461 3.1)."""
        for texts in (
            [],
            [b"v=STSv1; id=1;", b"v=STSv1; id=1;"],
            [b"v=STSv2; id=1;"],
            [b"v=STSv1;"],
            [b"v=STSv1; id=;"],
            [b"v=STSv1; id=a-b;"],
            [b"v=STSv1; id=" + b"1" * 33],
            [b"id=1; v=STSv1"],
            [b"v=STSv1; id=\xff"],
        ):
            self.assertIsNone(announced(texts), texts)


class PolicyTests(TestCase):
    """The policy."""

    def test_read(self) -> None:
        """Its fields come in any order and with any line ends; of those that come twice
        the first counts, and unknown ones do not."""
        wanted = StsPolicy(Mode.ENFORCE, ("mail.a.test", "*.b.test"), 604_800)
        self.assertEqual(read(GOOD), wanted)
        self.assertEqual(read(GOOD.replace(b"\r\n", b"\n")), wanted)
        self.assertEqual(read(GOOD + b"mode: none\nx: y\n\n"), wanted)
        lines = GOOD.splitlines()
        self.assertEqual(read(b"\n".join([lines[4], *lines[:4]])), wanted)
        self.assertEqual(read("\n".join(wanted.strings).encode()), wanted)

    def test_modes(self) -> None:
        """Only a policy of mode none needs no host."""
        testing = read(GOOD.replace(b"enforce", b"testing"))
        self.assertIs(testing.mode, Mode.TESTING)
        none = read(b"version: STSv1\nmode: none\nmax_age: 0\n")
        self.assertEqual(none, StsPolicy(Mode.NONE, (), 0))

    def test_longest_age(self) -> None:
        """It does not hold for more than a year and a day."""
        self.assertEqual(read(GOOD.replace(b"604800", b"9" * 10)).age_s, 31_557_600)

    def test_wrong(self) -> None:
        """What is not as it should be is no policy."""
        for octets in (
            b"",
            b"\xff\xfe",
            b"<html>",
            GOOD.replace(b"STSv1", b"STSv2"),
            GOOD.replace(b"version: STSv1\r\n", b""),
            GOOD.replace(b"enforce", b"Enforce"),
            GOOD.replace(b"max_age: 604800\r\n", b""),
            GOOD.replace(b"604800", b"1d"),
            GOOD.replace(b"604800", b"-1"),
            GOOD.replace(b"604800", b"9" * 11),
            GOOD.replace(b"mx: mail.a.test\r\nmx: *.b.test\r\n", b""),
            GOOD.replace(b"mail.a.test", b"mail a.test"),
            GOOD.replace(b"*.b.test", b"*b.test"),
            GOOD.replace(b"*.b.test", b"b.*.test"),
            GOOD.replace(b"mail.a.test", b"a" * 256),
            GOOD + b"no colon\r\n",
            GOOD + b"".join(b"mx: a%d.test\n" % number for number in range(100)),
            GOOD + b"x: " + b"x" * 65536,
        ):
            with self.assertRaises(ValueError, msg=octets[:200]):
                read(octets)

    def test_hosts(self) -> None:
        """A star stands for one label (RFC 8461 4.1)."""
        policy = read(GOOD)
        for host, named in (
            ("mail.a.test", True),
            ("MAIL.A.test", True),
            ("mx.b.test", True),
            ("x.mail.a.test", False),
            ("a.mx.b.test", False),
            ("b.test", False),
            ("test", False),
        ):
            self.assertIs(policy.names(host), named, host)

    @given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
    def test_chance(self, octets: bytes) -> None:
        """Whatever it is, it is a policy or a ValueError."""
        for text in (octets, GOOD + octets, octets + GOOD):
            try:
                policy = read(text)
            except ValueError:
                continue
            self.assertEqual(read("\n".join(policy.strings).encode()), policy)
        announced([octets, b"v=STSv1; " + octets])
