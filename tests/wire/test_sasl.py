"""L{twisted_mta.wire.sasl}: each side alone, and against the other."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.errors import AuthenticationFailed, MailError
from twisted_mta.wire import sasl
from twisted_mta.wire.sasl import Credentials, MalformedResponse
from twisted_mta.wire.saslclient import CramMd5Client, choose

_NAMES = st.text(
    st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"),
    min_size=1,
)
_PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80
)


SERVER = {"PLAIN": sasl.Plain, "LOGIN": sasl.Login}


class Base64Tests(unittest.TestCase):
    def test_equals_sign_is_an_empty_initial_response(self) -> None:
        """C{=} is an empty initial response, only there."""
        self.assertEqual(sasl.decode_initial(b"="), b"")
        self.assertRaises(MalformedResponse, sasl.decode, b"=")

    def test_empty_line_is_an_empty_response(self) -> None:
        """An empty line is a response of no octets."""
        self.assertEqual(sasl.decode(b""), b"")

    def test_h40_what_is_not_base64_is_refused(self) -> None:
        """Wrong letters, missing padding, padding or space within, and text
        after the end are malformed."""
        for line in (b"!", b"YQ", b"Y Q=", b"YQ==YQ==", b"YQ==x", b"*", b"YQ=\n="):
            with self.subTest(line=line):
                self.assertRaises(MalformedResponse, sasl.decode, line)

    def test_h40_a_megabyte_is_refused(self) -> None:
        """A response above 12288 octets (RFC 4954 section 4) is malformed."""
        self.assertEqual(len(sasl.decode(b"A" * 12288)), 9216)
        self.assertRaises(MalformedResponse, sasl.decode, b"A" * 12292)

    @given(st.binary(max_size=200))
    @settings(max_examples=50)
    def test_round_trip(self, octets: bytes) -> None:
        """What is encoded is decoded to the same, and has no line end."""
        line = sasl.encode(octets)
        self.assertNotIn(b"\n", line)
        self.assertEqual(sasl.decode(line), octets)


class PlainTests(unittest.TestCase):
    def test_with_and_without_initial_response(self) -> None:
        """The message comes with the command, or after an empty challenge."""
        expected = Credentials("tim", "tanstaaftanstaaf")
        self.assertEqual(sasl.Plain().next(b"\0tim\0tanstaaftanstaaf"), expected)
        plain = sasl.Plain()
        self.assertEqual(plain.next(None), b"")
        self.assertEqual(plain.next(b"\0tim\0tanstaaftanstaaf"), expected)

    def test_own_name_as_authorization_identity(self) -> None:
        """An authorization identity that is the name itself changes nothing."""
        self.assertEqual(sasl.Plain().next(b"a\0a\0p"), Credentials("a", "p"))

    def test_h40_other_users_authorization_identity(self) -> None:
        """To act for another fails as a wrong password does."""
        self.assertRaises(AuthenticationFailed, sasl.Plain().next, b"boss\0a\0p")

    def test_h40_malformed(self) -> None:
        """Too few and too many NULs, empty names and passwords, what is not
        UTF-8, and what is too long, are malformed."""
        for response in (
            b"",
            b"a",
            b"a\0b",
            b"\0a\0b\0",
            b"\0\0p",
            b"\0a\0",
            b"\0\xff\0p",
            b"\0a\0\xff",
            b"\0" + b"a" * 256 + b"\0p",
            b"\0a\0" + b"p" * 1025,
        ):
            with self.subTest(response=response[:9]):
                self.assertRaises(MalformedResponse, sasl.Plain().next, response)

    def test_h41_hostile_names(self) -> None:
        """A control character in a name is malformed; anything else is just a
        name that nobody has."""
        for name in (b"a\nb", b"a\rb", b"a\x1b[2J", b"a\x7f"):
            with self.subTest(name=name):
                response = b"\0" + name + b"\0p"
                self.assertRaises(MalformedResponse, sasl.Plain().next, response)
        for text in ("%s", "a'b", "../../etc/passwd", ";--", "*)(uid=*", "jürgen"):
            with self.subTest(name=text):
                made = sasl.Plain().next(f"\0{text}\0p".encode())
                self.assertEqual(made, Credentials(text, "p"))

    def test_password_is_not_shown(self) -> None:
        """The password does not get into a log by way of repr."""
        self.assertNotIn("secret", repr(Credentials("a", "secret")))


class LoginTests(unittest.TestCase):
    def test_exchange(self) -> None:
        """It asks for the name, then for the password."""
        login = sasl.Login()
        self.assertEqual(login.next(None), b"Username:")
        self.assertEqual(login.next(b"bob"), b"Password:")
        self.assertEqual(login.next(b"pw"), Credentials("bob", "pw"))

    def test_name_as_initial_response(self) -> None:
        """An initial response is the name."""
        login = sasl.Login()
        self.assertEqual(login.next(b"bob"), b"Password:")
        self.assertEqual(login.next(b"pw"), Credentials("bob", "pw"))

    def test_h40_malformed(self) -> None:
        """Empty answers, NUL, and what is not UTF-8 or too long are malformed."""
        for answer in (b"", b"a\0b", b"\xff", b"a" * 1025):
            with self.subTest(answer=answer[:9]):
                self.assertRaises(MalformedResponse, sasl.Login().next, answer)
                login = sasl.Login()
                login.next(b"bob")
                self.assertRaises(MalformedResponse, login.next, answer)


class GarbageTests(unittest.TestCase):
    @given(
        st.sampled_from(sorted(SERVER)),
        st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=4),
    )
    @settings(max_examples=100)
    def test_any_responses(self, name: str, responses: list[bytes | None]) -> None:
        """Whatever comes, a mechanism answers, ends, or raises a domain error."""
        mechanism = SERVER[name]()
        for response in responses:
            try:
                made = mechanism.next(response)
            except MailError:
                return
            if isinstance(made, Credentials):
                return
            self.assertIsInstance(made, bytes)


class BothSidesTests(unittest.TestCase):
    @given(st.sampled_from(sorted(SERVER)), _NAMES, _PASSWORDS)
    @settings(max_examples=50)
    def test_client_against_server(self, name: str, user: str, word: str) -> None:
        """What our client says, our server understands."""
        credentials = Credentials(user[:60], word)
        client = choose({name}, credentials)
        assert client is not None
        server = SERVER[client.name]()
        made = server.next(client.initial())
        while isinstance(made, bytes):
            made = server.next(client.next(made))
        self.assertEqual(made, credentials)

    def test_strongest_first(self) -> None:
        """What tells a server least goes first; without any there is none."""
        credentials = Credentials("a", "b")
        order = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]
        while order:
            chosen = choose({*order, "GSSAPI"}, credentials)
            assert chosen is not None
            self.assertEqual(chosen.name, order.pop(0))
        self.assertIsNone(choose({"GSSAPI"}, credentials))
        unprepared = Credentials("a", "\u0007")
        chosen = choose({"SCRAM-SHA-256", "PLAIN"}, unprepared)
        self.assertIsInstance(chosen, sasl.PlainClient)

    def test_cram_md5(self) -> None:
        """The example of RFC 2195 2."""
        client = CramMd5Client(Credentials("tim", "tanstaaftanstaaf"))
        self.assertIsNone(client.initial())
        challenge = b"<1896.697170952@postoffice.reston.mci.net>"
        answer = b"tim b913a602c7eda7a495b4e6e7334d3890"
        self.assertEqual(client.next(challenge), answer)
        self.assertRaises(MalformedResponse, client.next, challenge)

    def test_plain_after_a_challenge(self) -> None:
        """Where no initial response is possible, the empty challenge gets it."""
        client = sasl.PlainClient(Credentials("a", "b"))
        self.assertEqual(client.next(b""), b"\0a\0b")

    def test_server_that_asks_for_ever(self) -> None:
        """A server that goes on asking is broken off."""
        plain = sasl.PlainClient(Credentials("a", "b"))
        plain.initial()
        self.assertRaises(MalformedResponse, plain.next, b"again")
        login = sasl.LoginClient(Credentials("a", "b"))
        login.next(b"x")
        login.next(b"y")
        self.assertRaises(MalformedResponse, login.next, b"z")
