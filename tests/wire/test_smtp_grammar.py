"""Tests for L{twisted_mta.wire.smtp.grammar}."""

from dataclasses import replace
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.mail.address import Address
from twisted_mta.mail.dsn import USUAL, Notification, Notify, OriginalRecipient
from twisted_mta.mail.envelope import Body, DeliverBy, Return
from twisted_mta.wire.smtp import grammar
from twisted_mta.wire.smtp.parameter import MailParameters
from twisted_mta.wire.smtp.syntax import SyntaxFault


class PathTests(TestCase):
    def sender(self, path: str) -> Address | None:
        return grammar.mail_argument(f"FROM:{path}")[0]

    def recipient(self, path: str, smtputf8: bool = False) -> Address:
        return grammar.rcpt_argument(f"TO:{path}", smtputf8)[0]

    def refused(self, path: str, code: int = 501) -> None:
        for parse in (self.sender, self.recipient):
            with self.assertRaises(SyntaxFault, msg=path) as caught:
                parse(path)
            self.assertEqual(caught.exception.code, code)

    def test_mailbox(self) -> None:
        """A domain is lower-cased, a local part keeps its case."""
        for path, local, domain in (
            ("<Bob@Example.ORG>", "Bob", "example.org"),
            ("<a.b+c@x>", "a.b+c", "x"),
            ("<o'neil!#$%&*/=?^_`{|}~-@x.y>", "o'neil!#$%&*/=?^_`{|}~-", "x.y"),
            ('<"a b"@x.y>', "a b", "x.y"),
            ('<"a\\"b\\\\@c"@x.y>', 'a"b\\@c', "x.y"),
            ('<""@x.y>', "", "x.y"),
            ("<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
            ("<a@[IPv6:2001:DB8::1]>", "a", "[ipv6:2001:db8::1]"),
            ("<a@host_name.example>", "a", "host_name.example"),
            (" <a@b>", "a", "b"),
        ):
            self.assertEqual(self.recipient(path), Address(local, domain))
            self.assertEqual(self.sender(path), Address(local, domain))

    def test_null_reverse_path(self) -> None:
        """C{<>} is a sender, never a recipient."""
        self.assertIsNone(self.sender("<>"))
        with self.assertRaises(SyntaxFault):
            self.recipient("<>")

    def test_postmaster(self) -> None:
        """The bare postmaster is a recipient, never a sender."""
        self.assertEqual(self.recipient("<PostMaster>"), Address("postmaster", ""))
        with self.assertRaises(SyntaxFault):
            self.sender("<postmaster>")

    def test_h43_routes_and_tricks_stay_literal(self) -> None:
        """Source routes are dropped; percent, bang, pipes and expansions are
        parts of a name or refused."""
        self.assertEqual(self.recipient("<@a.b,@c.d:e@f.g>"), Address("e", "f.g"))
        self.assertEqual(self.recipient("<@a:e@f>"), Address("e", "f"))
        self.assertEqual(self.recipient("<a%b@c>"), Address("a%b", "c"))
        self.assertEqual(self.recipient("<a!b@c>"), Address("a!b", "c"))
        self.assertEqual(self.recipient("<|cmd@c>"), Address("|cmd", "c"))
        self.assertEqual(self.sender("<${run{x}}@x>"), Address("${run{x}}", "x"))
        for path in ("<|cmd>", "</etc/passwd>", "<a@b@c>", "<@a,b:c@d>", "<@a:>"):
            self.refused(path)

    def test_refused(self) -> None:
        """What is no mailbox is refused with the RFC's status."""
        for path in (
            "",
            "<",
            "<a@b",
            "a@b",
            "<a>",
            "<a@>",
            "<@b>",
            "<a..b@c>",
            "<.a@c>",
            "<a.@c>",
            "<a b@c>",
            '<"a@c>',
            '<"a"b@c>',
            "<a@-b>",
            "<a@b->",
            "<a@b..c>",
            "<a@b.>",
            "<a@[1.2.3]>",
            "<a@[300.1.1.1]>",
            "<a@[IPv6:::g]>",
            "<a@[x-tag:y]>",
            "<a@b>x",
            "<a@b>SIZE=1",
        ):
            self.refused(path)

    def test_lengths(self) -> None:
        """Local part 64, domain 255, label 63, path 256 octets."""
        domain = ".".join(["d" * 63] * 3)
        self.assertIsNotNone(self.recipient(f"<{'a' * 64}@{domain}>"))
        self.refused(f"<{'a' * 65}@b>")
        self.refused(f"<a@{'d' * 64}>")
        self.refused(f"<a@{domain}.{'d' * 63}.{'d' * 63}>")
        self.refused(f"<{'a' * 64}@{domain}.dd>")

    def test_smtputf8(self) -> None:
        """Above ASCII only with SMTPUTF8; a domain is normalised to NFC."""
        self.refused("<b\u00fcro@x>", 553)
        self.refused("<a@b\u00fccher.example>", 553)
        sender, _ = grammar.mail_argument("FROM:<a@bu\u0308cher.example> SMTPUTF8")
        self.assertEqual(sender, Address("a", "b\u00fccher.example"))
        self.assertEqual(
            self.recipient("<b\u00fcro@XN--BCHER-KVA.example>", True),
            Address("b\u00fcro", "xn--bcher-kva.example"),
        )

    def test_h42_no_reordering(self) -> None:
        """Marks that turn the reading direction are no part of an address."""
        for mark in "\u061c\u200e\u200f\u202a\u202e\u2066\u2069\u2028\x85":
            with self.assertRaises(SyntaxFault, msg=repr(mark)):
                self.recipient(f"<a{mark}b@x>", True)
            with self.assertRaises(SyntaxFault, msg=repr(mark)):
                self.recipient(f'<"a{mark}b"@x>', True)

    @given(st.text(max_size=40))
    @settings(max_examples=150, deadline=None)
    def test_h42_no_control_passes(self, text: str) -> None:
        """Whatever is between the brackets, an address that comes of it holds no
        control character and reads back as itself."""
        for path in (f"<{text}>", f'<"{text}"@x>', f"<a@{text}>"):
            try:
                address = self.recipient(path, True)
            except SyntaxFault:
                continue
            written = str(address)
            for character in written:
                self.assertGreaterEqual(character, " ")
                self.assertFalse("\x7f" <= character < "\xa0", written)
                self.assertNotIn(character, "\u2028\u2029")
            self.assertEqual(self.recipient(f"<{written}>", True), address)


class ParameterTests(TestCase):
    def parameters(self, text: str) -> MailParameters:
        """Without the words themselves."""
        found = grammar.mail_argument(f"FROM:<a@b> {text}")[1]
        words = {word.partition("=")[0].upper() for word in text.split()}
        self.assertEqual(found.keywords, words)
        return replace(found, keywords=frozenset())

    def asked(self, text: str) -> Notification:
        return grammar.rcpt_argument(f"TO:<a@b> {text}", True)[1].notification

    def refused(self, text: str, code: int) -> None:
        """Whatever verb it belongs to."""
        known = text.startswith(("NOTIFY", "ORCPT"))
        for argument in (
            lambda: grammar.rcpt_argument(f"TO:<a@b> {text}", True),
            lambda: grammar.mail_argument(f"FROM:<a@b> {text}"),
        )[:: 1 if known else -1][:1]:
            with self.assertRaises(SyntaxFault, msg=text) as caught:
                argument()
            self.assertEqual(caught.exception.code, code, text)

    def test_known(self) -> None:
        """Each is typed."""
        self.assertEqual(self.parameters(""), MailParameters())
        self.assertEqual(
            self.parameters("size=12  body=8bitmime SMTPUTF8 AUTH=<>"),
            MailParameters(12, Body.EIGHT_BIT, True),
        )
        self.assertEqual(self.parameters("BODY=7BIT "), MailParameters())
        self.assertEqual(
            self.parameters("RET=hdrs ENVID=QQ+2B+3D1"),
            MailParameters(ret=Return.HEADERS, envid="QQ+=1"),
        )
        self.assertEqual(
            self.parameters("BY=120;rt REQUIRETLS MT-PRIORITY=-9"),
            MailParameters(
                by=DeliverBy(120, True, True), require_tls=True, priority=-9
            ),
        )
        self.assertEqual(
            self.parameters("BY=-5;N HOLDFOR=60 SOLICIT=net.example:ADV,org.example"),
            MailParameters(
                by=DeliverBy(-5, False),
                hold_for=60,
                solicit=("net.example:adv", "org.example"),
            ),
        )
        self.assertEqual(
            self.parameters("HOLDUNTIL=1970-01-02T00:00:00Z PRDR"),
            MailParameters(hold_until=86400.0, prdr=True),
        )
        self.assertEqual(
            self.parameters("HOLDUNTIL=1970-01-02t01:00:00.5+01:00 BY=+9;N"),
            MailParameters(hold_until=86400.5, by=DeliverBy(9, False)),
        )

    def test_notifications(self) -> None:
        """RFC 3461 4.1 and 4.2, RFC 6533 3."""
        self.assertIs(self.asked(""), USUAL)
        self.assertEqual(self.asked("NOTIFY=never"), Notification(Notify.NEVER))
        self.assertEqual(
            self.asked("NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@Example.org"),
            Notification(
                Notify.SUCCESS | Notify.DELAY,
                OriginalRecipient("rfc822", "Bob+x@Example.org"),
            ),
        )
        bob = OriginalRecipient("utf-8", "böb@example.org")
        for spelt in ("böb@example.org", "b\\x{F6}b@example.org"):
            self.assertEqual(self.asked(f"ORCPT=UTF-8;{spelt}").original, bob)

    def test_refused(self) -> None:
        """Unknown ones get 555, wrong ones 501."""
        for text, code in (
            ("FOO", 555),
            ("SIZE", 501),
            ("SIZE=x", 501),
            ("SIZE=-1", 501),
            ("SIZE=123456789012345678901", 501),
            ("SIZE=1 SIZE=2", 501),
            ("BODY=TERNARY", 501),
            ("SMTPUTF8=1", 501),
            ("AUTH", 501),
            ("=", 555),
            ("RET=ALL", 501),
            ("ENVID=", 555),
            ("ENVID=+0A", 501),
            ("ENVID=+0a", 501),
            ("ENVID=" + "x" * 101, 501),
            ("BY=0;R", 501),
            ("BY=1234567890;N", 501),
            ("MT-PRIORITY=10", 501),
            ("HOLDFOR=1 HOLDUNTIL=1970-01-02T00:00:00Z", 501),
            ("HOLDUNTIL=1970-01-02T00:00:00", 501),
            ("HOLDUNTIL=soon", 501),
            ("HOLDUNTIL=19700102T000000Z", 501),
            ("HOLDUNTIL=1970-13-02T00:00:00Z", 501),
            ("HOLDFOR=0", 501),
            ("HOLDFOR=1234567890", 501),
            ("BY=++1;N", 501),
            ("SOLICIT=,", 501),
            ("NOTIFY=NEVER,SUCCESS", 501),
            ("NOTIFY=ALWAYS", 501),
            ("NOTIFY=SUCCESS NOTIFY=DELAY", 501),
            ("ORCPT=bob", 501),
            ("ORCPT=rfc822;", 501),
            ("ORCPT=rfc822;a+0D+0Ab", 501),
            ("ORCPT=utf-8;a\\x{0A}b", 501),
            ("ORCPT=utf-8;a\\x{D800}b", 501),
            ("ORCPT=rfc822;" + "x" * 500, 501),
        ):
            self.refused(text, code)

    def test_h03_chunk_sizes(self) -> None:
        """BDAT takes digits and LAST; huge and negative ones are refused."""
        self.assertEqual(grammar.bdat_argument("0 last"), (0, True))
        self.assertEqual(grammar.bdat_argument("12"), (12, False))
        for text in ("", "-1", "x", "1 2", "9" * 19, "0x10", "1 LAST LAST", "\u0661"):
            with self.assertRaises(SyntaxFault, msg=text):
                grammar.bdat_argument(text)

    def test_auth(self) -> None:
        """AUTH takes a mechanism and one initial response."""
        self.assertEqual(grammar.auth_argument("plain"), ("PLAIN", None))
        self.assertEqual(grammar.auth_argument("PLAIN ="), ("PLAIN", b"="))
        for text in ("", "PLAIN a b", "PL@IN", "A" * 21, "PLAIN \u00e4"):
            with self.assertRaises(SyntaxFault, msg=text):
                grammar.auth_argument(text)

    def test_h42_hello_names(self) -> None:
        """A name may be odd, but can be no header field or log line."""
        for name in ("x", "[127.0.0.1]", "[IPv6:::1]", "user_pc", "a" * 255):
            self.assertEqual(grammar.hello_name(f" {name} "), name)
        for name in ("", "a b", "a(b", "a;b", "a\r\nb", "\u00e4", "a" * 256, "\x1b["):
            with self.assertRaises(SyntaxFault, msg=name):
                grammar.hello_name(name)
