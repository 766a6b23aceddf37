"""Return addresses of forwarded mail."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from twisted_mta.mail.address import Address, split
from twisted_mta.mail.srs import DAYS, Forged, Outdated, forward, is_return, reverse

SECRET = b"sekret"
NOW = 1_795_614_066.0
DAY = 86400.0

# What postsrsd 1.10 (libsrs2) makes with that secret on that day.
VECTORS = {
    "bob@example.net": "SRS0=Lmml=JO=example.net=bob",
    "a=b@c.test": "SRS0=G51+=JO=c.test=a=b",
    "SRS0=abcd=ef=orig.test=joe@other.test": (
        "SRS1=ytDa=other.test==abcd=ef=orig.test=joe"
    ),
    "SRS0+abcd=ef=orig.test=joe@other.test": (
        "SRS1=I/jw=other.test=+abcd=ef=orig.test=joe"
    ),
    "SRS1=xxxx=first.test==abcd=ef=orig.test=joe@other.test": (
        "SRS1=8syy=first.test==abcd=ef=orig.test=joe"
    ),
}


def made(sender: str, now: float = NOW) -> Address:
    return forward(split(sender), "ours.test", SECRET, now)


class SrsTests(unittest.TestCase):
    def test_postsrsd(self) -> None:
        """Addresses are those of postsrsd, and lead back to where its own do."""
        for sender, local in VECTORS.items():
            self.assertEqual(made(sender), Address(local, "ours.test"))
        back = [str(reverse(local, [SECRET], NOW)) for local in VECTORS.values()]
        first = "SRS0=abcd=ef=orig.test=joe@first.test"
        self.assertEqual(back, [*list(VECTORS)[:4], first])

    @given(
        local=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1),
        now=st.floats(0, 4e9),
        later=st.floats(0, DAYS * DAY),
    )
    def test_round_trip(self, local: str, now: float, later: float) -> None:
        """Whatever the local part, it comes back as it was, as long as it is good."""
        sender = Address(local, "example.net")
        try:
            address = forward(sender, "ours.test", SECRET, now)
        except ValueError:
            self.assertGreater(len(local.encode()), 100)
            return
        if address.local.startswith("SRS0"):
            self.assertEqual(reverse(address.local, [SECRET], now + later), sender)

    def test_case(self) -> None:
        """Programs on the way that change the case of letters do no harm."""
        local = made("Bob@example.net").local
        for changed in (local.lower(), local.upper(), local.swapcase()):
            back = reverse(changed, [b"newer", SECRET], NOW)
            self.assertEqual(back.key, "bob@example.net")
            self.assertTrue(is_return(changed))

    def test_h43_forged(self) -> None:
        """Whatever is changed in it, it leads nowhere."""
        local = made("bob@example.net").local
        for old, new in (
            ("Lmml", "Lmmm"),
            ("JO", "JP"),
            ("example.net", "example.org"),
            ("=bob", "=rob"),
            ("=bob", ""),
            ("SRS0=Lmml", "SRS0="),
            ("SRS0", "SRS1"),
        ):
            with self.assertRaises(Forged):
                reverse(local.replace(old, new), [SECRET], NOW)
        with self.assertRaises(Forged):
            reverse(local, [b"another"], NOW)
        with self.assertRaises(Forged):
            reverse("SRS1==x", [SECRET], NOW)

    def test_h43_forged_guarded(self) -> None:
        """Nor does one that stands for another forwarder's."""
        local = made("SRS0=abcd=ef=orig.test=joe@other.test").local
        for old, new in (("other.test", "others.test"), ("joe", "jim"), ("ytDa", "")):
            with self.assertRaises(Forged):
                reverse(local.replace(old, new), [SECRET], NOW)

    def test_outdated(self) -> None:
        """It is good for 21 days, and not again when the stamp comes round."""
        local = made("bob@example.net").local
        reverse(local, [SECRET], NOW + DAYS * DAY)
        for days in (DAYS + 2, 500, 1000):
            with self.assertRaises(Outdated):
                reverse(local, [SECRET], NOW + days * DAY)

    def test_long(self) -> None:
        """It may be longer than 64 octets, but no longer than a path."""
        self.assertGreater(len(made(f"{'b' * 64}@example.net").local), 64)
        long = Address("b" * 64, ".".join(["d" * 50] * 4))
        with self.assertRaises(ValueError):
            forward(long, "ours.test", SECRET, NOW)

    def test_odd(self) -> None:
        """What looks like another's return address and is none is wrapped as any."""
        for local in ("SRS1=abcd", "SRS1=a=b=c", "SRS0", "SRS0=", "srs2=a=b=c=d"):
            address = forward(Address(local, "x.test"), "ours.test", SECRET, NOW)
            self.assertTrue(address.local.startswith("SRS0="), local)
            self.assertEqual(
                reverse(address.local, [SECRET], NOW), Address(local, "x.test")
            )

    def test_domain(self) -> None:
        """A domain goes in as the DNS has it."""
        address = forward(Address("bob", "bücher.test"), "ours.test", SECRET, NOW)
        self.assertIn("=xn--bcher-kva.test=bob", address.local)
