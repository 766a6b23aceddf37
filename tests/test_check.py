"""C{twisted-mta check}: what it says of a config."""

import io
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from twisted.trial.unittest import TestCase

from twisted_mta.cli import main
from twisted_mta.cli.checking import check
from twisted_mta.errors import ConfigError
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair

GOOD = """\
hostname: mail.example.test
directory: /tmp/mta
domains: {example.test: }
postmaster: pm@example.test
listeners:
  - {name: smtp, protocol: smtp, endpoints: ["tcp:1025"]}
"""


class CheckTests(TestCase):
    """Everything at once, each at its place."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.file = self.directory / "mta.yaml"

    def said(self, text: str) -> list[str]:
        """What is said of a config, without the file's name."""
        self.file.write_text(text)
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                status = check(main.parser().parse_args(["check", str(self.file)]))
        except ConfigError as error:
            return [one.removeprefix(f"{self.file}:") for one in error.problems]
        self.assertEqual(0, status)
        return out.getvalue().splitlines()

    def assertSaid(self, text: str, expected: list[str]) -> None:
        """Each problem begins so, and there are no others."""
        said = self.said(text)
        self.assertEqual(len(expected), len(said), said)
        for begin, one in zip(expected, said, strict=True):
            self.assertEqual(begin, one[: len(begin)])

    def test_ok(self) -> None:
        """Nothing is wrong."""
        self.assertEqual(["ok"], self.said(GOOD))

    def test_every_kind_at_once(self) -> None:
        """What cannot be read, what does not fit, plugins, endpoints and
        certificates are told together, in the order of the file."""
        pair = Pair(self.directory / "c.pem", self.directory / "k.pem")
        self_signed(pair, ("localhost",))
        junk = self.directory / "junk.pem"
        junk.write_text("junk")
        text = (
            GOOD.replace("example.test: }", "Example.test: }")
            + f"""\
  - {{name: two, protocol: imap, endpoints: ["fax:1"], tls: implicit, colour: red}}
certificates:
  - {{certificate: {pair.certificate}, key: {pair.key}}}
  - {{certificate: {junk}, key: {pair.key}}}
  - {{certificate: {pair.certificate}, key: {self.directory / "none.pem"}}}
queue: {{give_up_afer: 5d, growth_percent: 10}}
routes:
  - {{domain: a.example, agent: fax}}
  - {{domain: b.example, next_hop: "[b]:99999"}}
agents:
  house: {{kind: smtp, user: us}}
  other: {{kind: smpt}}
  third: {{kind: smtp, user: us, password_file: {self.directory / "none"}}}
policies: [{{kind: mood}}, 3]
plugin_path: [{self.directory / "nowhere"}]
web: {{trust: {junk}}}
"""
        )
        self.assertSaid(
            text,
            [
                "3:11: domains.Example.test: write it in lower case",
                "7:45: listeners[1].endpoints[0]: 'fax:1' is no endpoint",
                "7:70: listeners[1].colour: no setting 'colour'",
                f"10:5: certificates[1]: {junk}: holds no PEM certificate",
                f"11:5: certificates[2]: {self.directory / 'none.pem'}: cannot be read",
                "12:9: queue.give_up_afer: no setting 'give_up_afer'",
                "12:27: queue.growth_percent: must be at least 100",
                "14:25: routes[0].agent: no agent 'fax'",
                "15:25: routes[1].next_hop: must be [HOST]:PORT: not a port: 99999",
                "17:3: agents.house: 'user' needs 'password_file' or 'token_file'",
                "18:11: agents.other.kind: no agent of kind 'smpt'; did you mean",
                "19:3: agents.third: password_file: cannot be read",
                "20:13: policies[0].kind: no policy of kind 'mood'",
                "20:26: policies[1]: must be a table",
                "21:15: plugin_path[0]: no such directory",
                f"22:7: web.trust: {junk}: holds no PEM certificates",
            ],
        )

    def test_dane_only(self) -> None:
        """An agent that would deliver nothing is told."""
        agent = "agents: {strict: {kind: smtp, tls: dane-only}}\n"
        said = "agents.strict.tls: dane-only needs servers that validate"
        self.assertSaid(GOOD + agent, [f"7:31: {said}"])
        self.assertSaid(GOOD + agent + "dns: {validating: true}\n", ["ok"])

    def test_ports(self) -> None:
        """An endpoint has a port that there is, wherever it names it."""
        for endpoint in (
            "tcp:65536",
            "tcp6:-1",
            "tcp:interface=127.0.0.1:port=99999999",
        ):
            (problem,) = self.said(GOOD.replace("tcp:1025", endpoint))
            self.assertRegex(
                problem, r"^6:46: .* is no endpoint: not a port: .*; write one such"
            )
        for endpoint in ("tcp:65535", "tcp:0", "unix:/run/mta.sock"):
            self.assertEqual(["ok"], self.said(GOOD.replace("tcp:1025", endpoint)))

    def test_what_must_be_there(self) -> None:
        """A setting that must be there and is not hides no other problem."""
        self.assertSaid(
            GOOD.replace("hostname: mail.example.test\n", "").replace(
                "pm@example.test", "me"
            )
            + "  - {name: two, endpoints: []}\nsmtp: {hops: 0}\n",
            [
                "1:1: 'hostname' is missing; add it",
                "3:1: postmaster: not an address",
                "6:5: listeners[1]: 'protocol' is missing; add it",
                "7:8: smtp.hops: must be more than 0",
            ],
        )

    def test_nothing_follows_from_an_error(self) -> None:
        """What cannot be read is not told a second time as missing."""
        tls = GOOD.replace('"]}', '"], tls: starttls}')
        self.assertSaid(
            tls + "certificates: [{certificate: 5, key: /k}]\n",
            ["7:17: certificates[0].certificate: must be text"],
        )
        self.assertSaid(
            GOOD + "agents: 5\nroutes: [{domain: '*', agent: house}]\n",
            ["7:1: agents: must be a table"],
        )

    def test_hopeless(self) -> None:
        """Whatever the document is, there is an answer."""
        for text in ("", "3", "[]", "listeners: {}", "domains: [1]", "smtp: [[]]"):
            with self.subTest(text=text):
                self.assertNotEqual(["ok"], self.said(text))
