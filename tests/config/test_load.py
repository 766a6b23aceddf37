"""From text to settings."""

import unittest
from pathlib import Path

from twisted_mta.config import check, load, manual, schema, units
from twisted_mta.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent

SMALL = """\
hostname: mail.example.test
directory: /tmp/mta
domains: {example.test: }
postmaster: pm@example.test
listeners:
  - {name: smtp, protocol: smtp, endpoints: ["tcp:1025"]}
"""


def problems(text: str) -> tuple[str, ...]:
    """What is wrong with a config."""
    try:
        check.parse("mta.yaml", text)
    except ConfigError as error:
        return error.problems
    return ()


class Loading(unittest.TestCase):
    """Good configs, and each kind of error."""

    def test_small(self) -> None:
        """What is not said has its default."""
        _, config = check.parse("mta.yaml", SMALL)
        self.assertEqual(config.hostname, "mail.example.test")
        self.assertEqual(config.directory, Path("/tmp/mta"))
        self.assertEqual(config.domains, {"example.test": schema.Domain()})
        self.assertEqual(config.queue.give_up_after, 5 * 86400)
        self.assertEqual(config.listeners[0].endpoints, ("tcp:1025",))

    def test_misspelt(self) -> None:
        """A setting that does not exist is told with the one probably meant."""
        text = SMALL + "queue:\n  give_up_afer: 5d\n"
        self.assertEqual(
            problems(text),
            (
                "mta.yaml:8:3: queue.give_up_afer: no setting 'give_up_afer';"
                " did you mean 'give_up_after'?",
            ),
        )

    def test_all_at_once(self) -> None:
        """Every error is told, in the order of the file, each at its place."""
        text = SMALL + (
            "queue:\n"
            "  warn_after: soon\n"
            "smtp: {message_size: big, recipients: '3', check_sender: 1}\n"
            "imap: 3\n"
            "routes: [{domain: '*', agent: 7}]\n"
        )
        self.assertEqual(
            [problem.split(": ")[0:2] for problem in problems(text)],
            [
                ["mta.yaml:8:3", "queue.warn_after"],
                ["mta.yaml:9:8", "smtp.message_size"],
                ["mta.yaml:9:27", "smtp.recipients"],
                ["mta.yaml:9:44", "smtp.check_sender"],
                ["mta.yaml:10:1", "imap"],
                ["mta.yaml:11:24", "routes[0].agent"],
            ],
        )

    def test_missing(self) -> None:
        """What must be said and is not is named."""
        self.assertEqual(
            problems(SMALL.replace("hostname: mail.example.test\n", "")),
            ("mta.yaml:1:1: 'hostname' is missing; add it",),
        )

    def test_twice(self) -> None:
        """A setting that stands twice is an error, not a choice."""
        self.assertEqual(
            problems(SMALL + "hostname: other.example\n"),
            ("mta.yaml:7:1: hostname: stands here a second time; remove one",),
        )

    def test_not_yaml(self) -> None:
        """Broken YAML is told with its place."""
        (problem,) = problems("hostname: [a\nb: c\n")
        self.assertRegex(problem, r"^mta\.yaml:2:\d+: .*; mend the YAML$")

    def test_empty_and_odd_documents(self) -> None:
        """Whatever the document is, the answer is a list of problems."""
        for text in ("", "3", "[]", "a: !!python/object:os.system x", "? [1]\n: 2"):
            with self.subTest(text=text):
                self.assertTrue(problems(text))

    def test_unreadable(self) -> None:
        """A file that is not there is told like any error."""
        with self.assertRaises(ConfigError) as caught:
            check.load(Path("/nonexistent/mta.yaml"))
        self.assertEqual(
            caught.exception.problems,
            ("/nonexistent/mta.yaml:1:1: cannot be read: No such file or directory",),
        )


class Fitting(unittest.TestCase):
    """Settings that do not fit each other."""

    def assertProblem(self, text: str, expected: str) -> None:
        """Exactly this is wrong with the small config and C{text}."""
        found = problems(SMALL + text)
        self.assertEqual([problem.split(": ", 1)[1] for problem in found], [expected])

    def test_tls_without_certificates(self) -> None:
        """A listener with TLS needs a certificate."""
        found = problems(SMALL.replace('"]}', '"], tls: starttls}'))
        self.assertEqual(len(found), 1)
        self.assertIn("listeners[0].tls: needs certificates", found[0])

    def test_unknown_agent(self) -> None:
        """A route leads to an agent that exists."""
        self.assertProblem(
            "routes: [{domain: '*', agent: fax}]\n",
            "routes[0].agent: no agent 'fax'; known are smtp",
        )

    def test_holding(self) -> None:
        """The agent of mail that is held is the server's own, nothing is held longer
        than can be said, and nothing goes before the first."""
        self.assertProblem(
            "agents: {release: {kind: smtp}}\n",
            "agents.release: this name is the server's own; choose another",
        )
        self.assertProblem(
            "smtp: {highest_priority: 10}\n",
            "smtp.highest_priority: must be 0 to 9",
        )
        self.assertProblem(
            "smtp: {future_release: 11575d}\n",
            "smtp.future_release: must be at most 11574d",
        )

    def test_addresses_and_networks(self) -> None:
        """Names, addresses and networks are of their form."""
        self.assertEqual(
            problems(SMALL.replace("pm@example.test", "me")),
            (
                "mta.yaml:4:1: postmaster: not an address: 'me'; write one such as"
                " bob@example.org",
            ),
        )
        self.assertProblem(
            "dns: {servers: [localhost]}\n",
            "dns.servers[0]: must be HOST:PORT, not 'localhost'",
        )
        self.assertProblem(
            "web: {proxy: localhost}\n",
            "web.proxy: must be HOST:PORT, not 'localhost'",
        )
        self.assertProblem(
            "tls_reports: {sender: me}\n",
            "tls_reports.sender: not an address: 'me'; write one such as"
            " bob@example.org",
        )
        self.assertProblem(
            "smtp: {relay_from: [10.0.0.1/8]}\n",
            "smtp.relay_from[0]: is no network: 10.0.0.1/8 has host bits set; write"
            " one such as 10.0.0.0/8",
        )

    def test_names(self) -> None:
        """What is no name is told with how one looks."""
        for text, expected in (
            (
                SMALL.replace("mail.example.test", "mail_1"),
                "1:1: hostname: 'mail_1' is not a host name; write one such as"
                " mail.example.org",
            ),
            (
                SMALL.replace("{example.test:", "{-x:"),
                "3:11: domains.-x: is not a domain name; write one such as example.org",
            ),
        ):
            self.assertEqual(problems(text), (f"mta.yaml:{expected}",))

    def test_sites(self) -> None:
        """A site is a domain, and its limits are more than nothing."""
        for site, said in (
            ("{domain: Gmail.com}", "[0].domain: write it in lower case: gmail.com"),
            ("{domain: 'a b'}", "[0].domain: must be a domain, or .domain"),
            (
                "{domain: a.test, connections: 0}",
                "[0].connections: must be more than 0",
            ),
            (
                "{domain: a.test, rate: 5}",
                "[0].rate: must be a rate such as 10/s, 600/m or 1000/h",
            ),
        ):
            self.assertProblem(f"queue: {{sites: [{site}]}}\n", f"queue.sites{said}")

    def test_nothing_is_zero(self) -> None:
        """A limit of nothing would refuse everything."""
        self.assertProblem("smtp: {hops: 0}\n", "smtp.hops: must be more than 0")

    def test_no_login(self) -> None:
        """Some way to log in is left, everywhere."""
        why = "is empty: nobody could log in; name some, or leave it out"
        self.assertProblem("login: {mechanisms: []}\n", f"login.mechanisms: {why}")
        found = problems(SMALL.replace('"]}', '"], mechanisms: []}'))
        self.assertEqual(len(found), 1)
        self.assertIn(f"listeners[0].mechanisms: {why}", found[0])

    def test_login_where_there_is_none(self) -> None:
        """Mechanisms of a listener that has no login are a mistake."""
        (found,) = problems(SMALL.replace('"]}', '"], mechanisms: [PLAIN]}'))
        self.assertIn("listeners[0].mechanisms: nobody logs in at smtp", found)

    def test_passwords_where_nobody_logs_in(self) -> None:
        """A login in the clear is said only of listeners where there are logins."""
        for protocol in ("smtp", "lmtp"):
            text = SMALL.replace("protocol: smtp", f"protocol: {protocol}")
            found = problems(text.replace('"]}', '"], plaintext_login: true}'))
            why = f"nobody logs in at {protocol}; remove it"
            where = "mta.yaml:6:59: listeners[0].plaintext_login"
            self.assertEqual(found, (f"{where}: {why}",))
            self.assertEqual(
                problems(text.replace('"]}', '"], plaintext_login: no}')), ()
            )

    def test_workers(self) -> None:
        """At least one process serves, and not more than can write to a ledger."""
        for count in (0, -1, 65):
            self.assertProblem(f"workers: {count}\n", "workers: must be 1 to 64")

    def test_kinds(self) -> None:
        """An agent and a policy say their kind."""
        self.assertProblem(
            "agents: {fax: {speed: 3}}\n", "agents.fax: 'kind' is missing; add it"
        )
        self.assertProblem(
            "policies: [3]\n", "policies[0]: must be a table of 'setting: value'"
        )


class Units(unittest.TestCase):
    """Quantities."""

    def test_times(self) -> None:
        """A number alone is seconds; a unit says otherwise."""
        for text, value in ((300, 300), ("90s", 90), ("1.5h", 5400), ("5d", 432000)):
            self.assertEqual(units.seconds(text), value)
        for bad in ("", "5", "5x", "-1s", -1, True, None, "5d5d"):
            with self.subTest(bad=bad), self.assertRaises(ValueError):
                units.seconds(bad)

    def test_sizes(self) -> None:
        """Powers of 1024."""
        for text, value in (
            (10, 10),
            ("64K", 65536),
            ("50MiB", 50 << 20),
            ("1g", 1 << 30),
        ):
            self.assertEqual(units.octets(text), value)
        for bad in ("", "5X", "-1", True, None, 1.5):
            with self.subTest(bad=bad), self.assertRaises(ValueError):
                units.octets(bad)

    def test_rates(self) -> None:
        """So many in a second, minute, hour or day."""
        for text, count, seconds in (
            ("10/s", 10, 1),
            ("600 / m", 600, 60),
            ("1000/h", 1000, 3600),
            ("5000/d", 5000, 86400),
        ):
            rate = units.rate(text)
            self.assertEqual((rate.count, rate.seconds), (count, seconds))
            self.assertEqual(units.rate(str(rate)), rate)
        for bad in ("", "5", 5, "0/m", "5/w", "-1/s", True, None, "1.5/s"):
            with self.subTest(bad=bad), self.assertRaises(ValueError):
                units.rate(bad)

    def test_written(self) -> None:
        """What is written reads as the same."""
        for value in (1.0, 90.0, 300.0, 7200.0, 432000.0, 0.5):
            self.assertEqual(units.seconds(units.written(value)), value)
        for size in (1, 1000, 65536, 50 << 20):
            self.assertEqual(units.octets(units.written_octets(size)), size)


class Manual(unittest.TestCase):
    """The annotated config in etc/."""

    def test_is_current(self) -> None:
        """etc/mta.yaml is what the schema says (else: python -m
        twisted_mta.config.manual > etc/mta.yaml)."""
        self.assertEqual((ROOT / "etc" / "mta.yaml").read_text("utf-8"), manual.text())

    def test_loads(self) -> None:
        """It is a config."""
        self.assertEqual(problems(manual.text()), ())

    def test_defaults_load(self) -> None:
        """Each default that it shows can be written as shown."""
        text = manual.text().split("# Which way mail")[0]
        shown = "\n".join(
            line.replace("#", "", 1)
            if line.startswith("  #") and not line.startswith(("  # ", "  #  "))
            else line
            for line in text.splitlines()
        )
        document = load.read("etc", shown)
        config = load.structure(document, schema.Config)
        for section in ("connections", "login", "smtp", "imap", "pop3", "queue"):
            settings = getattr(config, section)
            self.assertEqual(settings, type(settings)())

    def test_every_setting_is_explained(self) -> None:
        """No setting without a comment."""
        for cls in (schema.Config, schema.Smtp, schema.Queue, schema.Listener):
            for name, lines in manual.comments(cls).items():
                with self.subTest(setting=f"{cls.__name__}.{name}"):
                    self.assertTrue(lines)
