"""The delivery agents that are built in beside SMTP's, as the config has them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from twisted_mta import carriers
from twisted_mta.app import part_problems
from twisted_mta.config import agentmanual, check, load, manual
from twisted_mta.config.load import Document
from twisted_mta.config.schema import Config
from twisted_mta.delivery.fixed import Fixed
from twisted_mta.delivery.pipe.agent import PipeAgent
from twisted_mta.delivery.several import Several
from twisted_mta.delivery.smtp.agent import SmtpAgent
from twisted_mta.delivery.smtp.settings import Tls
from twisted_mta.errors import ConfigError
from twisted_mta.interfaces import IDeliveryAgent
from twisted_mta.mail.route import Result
from twisted_mta.parts import Parts
from twisted_mta.plugin import IChecksNextHop, IPlugin, IUsesAgents
from twisted_mta.wire.sasl import Credentials

_BASE = """
hostname: mail.example.test
directory: /tmp/x
domains: {example.test: {}}
postmaster: pm@example.test
listeners: [{name: smtp, protocol: smtp, endpoints: ["tcp:25"]}]
"""

Agents = Mapping[str, Any]


def parsed(more: str, base: str = _BASE) -> tuple[Document, Config]:
    return check.parse("mta.yaml", base + more)


def built(more: str, share: int = 1) -> Agents:
    """The agents of a config."""
    document, config = parsed(more)
    nothing: Any = None
    return Parts(document, config, tuple).agents(
        reactor=Clock(),
        resolver=nothing,
        ledger=nothing,
        rates=nothing,
        share=lambda whole: whole // share,
    )


def problems(more: str, base: str = _BASE) -> list[str]:
    """What is wrong with a config, without the file's name."""
    try:
        document, config = parsed(more, base)
    except ConfigError as error:
        found = error.problems
    else:
        found = part_problems(document, config)
    return [one.removeprefix("mta.yaml:") for one in found]


class AgentTests(TestCase):
    """Each kind's settings arrive where they are meant."""

    def test_plugins(self) -> None:
        """They are what plugins are."""
        for plugin in carriers.carriers(tuple):
            verifyObject(IPlugin, plugin)
        verifyObject(IChecksNextHop, carriers.LmtpAgentPlugin(tuple))
        verifyObject(IUsesAgents, carriers.SeveralAgentPlugin())

    def test_lmtp(self) -> None:
        password = Path(self.mktemp())
        password.write_text("secret\n")
        agents = built(
            f"""
agents:
  plain: {{kind: lmtp}}
  all:
    kind: lmtp
    port: 2003
    tls: encrypt
    user: us
    password_file: {password}
    recipients: 7
    without: [CHUNKING]
    xforward: true
    connect_timeout: 3s
    reply_timeout: 4s
"""
        )
        agent = agents["plain"]
        assert isinstance(agent, SmtpAgent)
        settings = agent._settings
        self.assertTrue(settings.lmtp)
        self.assertEqual((settings.port, settings.tls), (24, Tls.MAY))
        settings = agents["all"]._settings
        self.assertEqual((settings.port, settings.tls), (2003, Tls.ENCRYPT))
        self.assertEqual(settings.credentials, Credentials("us", "secret"))
        self.assertEqual(settings.recipients, 7)
        self.assertEqual(settings.without, {"CHUNKING"})
        self.assertTrue(settings.xforward)
        timeouts = settings.timeouts
        self.assertEqual((timeouts.connect_s, timeouts.rcpt_s), (3, 4))

    def test_pipe(self) -> None:
        agents = built(
            """
agents:
  plain: {kind: pipe, argv: [/bin/cat], user: nobody}
  all:
    kind: pipe
    argv: [/bin/cat, "{recipient}"]
    user: nobody
    directory: /tmp
    environment: {HOME: /nowhere, LANG: C}
    runs: message
    from_line: true
    return_path: false
    delivered_to: false
    line_end: crlf
    subaddress: "-"
    null_sender: nobody
    timeout: 5s
    output: 1K
    concurrency: 9
""",
            share=3,
        )
        agent = agents["plain"]
        assert isinstance(agent, PipeAgent)
        plain = agent._settings
        self.assertEqual(plain.concurrency, 6)
        self.assertEqual(set(plain.environment), {"PATH", "LANG"})
        settings = agents["all"]._settings
        for field in attrs.fields(carriers.PipeAgentConfig):
            self.assertIn(field.name, agentmanual.PIPE)
        self.assertEqual(settings.concurrency, 3)
        self.assertEqual(settings.arguments.program, "/bin/cat")
        self.assertEqual(settings.user, "nobody")
        self.assertEqual(settings.directory, "/tmp")
        self.assertEqual(settings.environment["LANG"], "C")
        self.assertEqual(settings.environment["HOME"], "/nowhere")
        self.assertEqual(settings.spelling.separator, "-")
        self.assertEqual(settings.spelling.null_sender, "nobody")
        flags = ("each", "return_path", "delivered_to", "line_feed", "from_line")
        for name in flags:
            self.assertNotEqual(getattr(settings, name), getattr(plain, name), name)
        self.assertEqual((settings.timeout_s, settings.output), (5, 1024))
        if os.geteuid() != 0:
            self.flushLoggedErrors()

    def test_fixed(self) -> None:
        agents = built(
            """
agents:
  bin: {kind: discard, text: Gone}
  no: {kind: error, status: 5.1.6, text: Moved}
  later: {kind: error, status: 4.2.1, text: Later}
"""
        )
        for name, result, status, text in (
            ("bin", Result.DELIVERED, "2.0.0", "Gone"),
            ("no", Result.FAILED, "5.1.6", "Moved"),
            ("later", Result.DEFERRED, "4.2.1", "Later"),
        ):
            agent = agents[name]
            assert isinstance(agent, Fixed)
            verifyObject(IDeliveryAgent, agent)
            said = agent._outcome
            self.assertEqual(
                (said.result, said.status, said.diagnostic), (result, status, text)
            )

    def test_several(self) -> None:
        """It has the agents that it names, in whatever order the config has them."""
        agents = built(
            """
agents:
  out:
    kind: several
    ways: [{agent: inner, next_hop: x, weight: 3}, {agent: smtp}]
    fallback: [{agent: bin}]
    fallback_on: any
    pause: 5s
  inner: {kind: several, ways: [{agent: bin}]}
  bin: {kind: discard}
"""
        )
        agent = agents["out"]
        assert isinstance(agent, Several)
        for name in ("inner", "smtp", "bin"):
            self.assertIs(agent._agents[name], agents[name])
        ways = [(way.agent, way.next_hop, way.weight) for way in agent._ways]
        self.assertEqual(ways, [("inner", "x", 3), ("smtp", None, 1)])
        self.assertEqual([way.agent for way in agent._fallback], ["bin"])
        self.assertTrue(agent._on_any)
        self.assertEqual(agent._pause_s, 5)
        self.assertFalse(agents["inner"]._on_any)

    def test_manual(self) -> None:
        """etc/mta.yaml explains each setting, in the words of its class."""
        for text, cls in (
            (agentmanual.LMTP, carriers.LmtpAgentConfig),
            (agentmanual.PIPE, carriers.PipeAgentConfig),
            (agentmanual.DISCARD, carriers.DiscardAgentConfig),
            (agentmanual.ERROR, carriers.ErrorAgentConfig),
            (agentmanual.SEVERAL, carriers.SeveralAgentConfig),
            (agentmanual.WAY, carriers.Way),
        ):
            self.assertEqual(text.splitlines(), manual.settings(cls, "#   "))
            self.assertIn(text, manual.text())


class RefusalTests(TestCase):
    """What cannot work is told when the config is read, with its place."""

    def refused(self, more: str, *told: str, base: str = _BASE) -> None:
        found = problems(more, base)
        self.assertEqual(len(found), len(told), found)
        for one, expected in zip(found, told, strict=True):
            self.assertRegex(one, expected)

    def test_agents(self) -> None:
        """Each kind's own settings."""
        for settings, told in (
            ("kind: lmtp, port: 25", "port: must be 1 to 65535, and not 25"),
            ("kind: lmtp, user: us", "need each other"),
            ("kind: lmtp, recipients: 0", "recipients: must be more than 0"),
            ("kind: lmtp, trust: /no/such", "trust: /no/such"),
            ("kind: pipe", "argv"),
            ("kind: pipe, argv: [cat]", "argv: must begin with the whole path"),
            ("kind: pipe, argv: [/no/such]", "argv: /no/such is no program"),
            ("kind: pipe, argv: [/bin]", "argv: /bin is no program"),
            ("kind: pipe, argv: [/bin/cat, '{x}']", "argv: nothing is called {x}"),
            ("kind: pipe, argv: [/bin/cat], user: no-such", "nobody is called"),
            ("kind: pipe, argv: [/bin/cat], user: root", "that run as root"),
            ("kind: pipe, argv: [/bin/cat], directory: /no/such", "no such directory"),
            ("kind: pipe, argv: [/bin/cat], environment: {'a b': c}", "'a b' cannot"),
            ("kind: pipe, argv: [/bin/cat], environment: {a: 1}", "environment"),
            ("kind: pipe, argv: [/bin/cat], subaddress: '++'", "one character"),
            ("kind: pipe, argv: [/bin/cat], null_sender: -x", "null_sender"),
            ("kind: pipe, argv: [/bin/cat], timeout: 0s", "timeout: must be more"),
            ("kind: pipe, argv: [/bin/cat], concurrency: 0", "concurrency: must be"),
            ("kind: error, status: 2.0.0", "status: must be such as"),
            ("kind: error, status: '5.1'", "status: must be such as"),
            ('kind: error, text: "a\\nb"', "text: must be a line"),
            ("kind: several, ways: []", "ways: is empty"),
            ("kind: several, ways: [{agent: smtp, weight: 0}]", "weight: must be more"),
            ("kind: several, ways: [{agent: smtp}], pause: -1s", "pause"),
        ):
            self.refused(f"agents: {{x: {{{settings}}}}}", told)

    def test_ways(self) -> None:
        """Ways lead to agents that there are, and where those can go."""
        self.refused(
            """
agents:
  x:
    kind: several
    ways:
      - {agent: nobody}
      - {agent: smtp, next_hop: "[x]:0"}
    fallback:
      - agent: inner
  inner: {kind: lmtp}
""",
            r"^12:10: agents.x.ways\[0\].agent: no agent 'nobody'; known are inner,",
            r"^13:23: agents.x.ways\[1\].next_hop: .*not a port: 0",
            r"^15:9: agents.x.fallback\[0\].*: .*needs a 'next_hop'",
        )

    def test_circles(self) -> None:
        """No way leads back to where it began."""
        self.refused(
            """
agents:
  a: {kind: several, ways: [{agent: b}]}
  b: {kind: several, ways: [{agent: smtp}], fallback: [{agent: c}]}
  c: {kind: several, ways: [{agent: a}]}
  d: {kind: several, ways: [{agent: d}]}
  e: {kind: several, ways: [{agent: a}, {agent: smtp}]}
""",
            r"^11:30: agents.c.ways\[0\].agent: leads in a circle: a -> b -> c -> a;",
            r"^12:30: agents.d.ways\[0\].agent: leads in a circle: d -> d;",
        )

    def test_routes(self) -> None:
        """Routes say for what they are, and where an agent can go."""
        self.refused(
            """
agents: {inner: {kind: lmtp}, out: {kind: pipe, argv: [/bin/cat]}}
routes:
  - {agent: out}
  - {domain: example.test, agent: out}
  - {domain: "a b"}
  - {recipient: example.test}
  - {sender: "a b@c"}
  - {login: "<>"}
  - {domain: there.test, agent: gone}
""",
            r"^10:5: routes\[0\]: fits nothing",
            r"^11:6: routes\[1\].domain: is one of 'domains'; .*deliver: out",
            r"^12:6: routes\[2\].domain: must be a domain",
            r"^13:6: routes\[3\].recipient: must be an address",
            r"^14:6: routes\[4\].sender: must be .*or <> for bounces",
            r"^15:6: routes\[5\].login: must be an address, a domain, .domain, \*$",
            r"^16:26: routes\[6\].agent: no agent 'gone'",
        )
        self.refused(
            """
agents: {inner: {kind: lmtp}}
routes:
  - {domain: there.test, agent: inner}
  - {domain: there.test, agent: inner, next_hop: "[x]:25"}
  - {domain: there.test, next_hop: "[x]:0"}
  - {recipient: a@example.test}
  - {recipient: a@there.test}
""",
            r"^10:5: routes\[0\]: .*needs a 'next_hop'",
            r"^11:40: routes\[1\].next_hop: LMTP is not spoken on port 25",
            r"^12:26: routes\[2\].next_hop: .*not a port: 0",
            r"^13:5: routes\[3\]: agent 'smtp' needs a 'next_hop': .* this server",
        )

    def test_domains(self) -> None:
        """So do domains that others deliver."""
        for domain, told in (
            ("next_hop: x", "next_hop: needs 'deliver'"),
            ("recipients: ask", "recipients: needs 'deliver'"),
            ("recipient_file: /x", "recipient_file: needs 'deliver'"),
            ("deliver: gone", "deliver: no agent 'gone'"),
            ("deliver: inner, recipients: listed, next_hop: x", "need each other"),
            ("deliver: inner, next_hop: 'x:25'", "next_hop: LMTP is not"),
            ("deliver: inner", "needs a 'next_hop'"),
            ("deliver: smtp", "needs a 'next_hop': the domain's own is this server"),
            ("deliver: pipe, recipients: ask", "recipients: agent 'pipe' cannot be"),
            ("deliver: pipes, recipients: ask", "recipients: agent 'pipes' cannot be"),
            ("deliver: out", "agent 'out' needs a 'next_hop': .* this server"),
            (
                "deliver: smtp, next_hop: x, recipients: any, catch_all: a@b.test",
                "catch_all: gets nothing with 'recipients: any'",
            ),
            (
                "deliver: inner, next_hop: x, recipients: listed,"
                " recipient_file: /no/such",
                "recipient_file: /no/such cannot be read",
            ),
        ):
            base = _BASE.replace("example.test: {}", f"example.test: {{{domain}}}")
            agents = (
                "agents: {inner: {kind: lmtp}, pipe: {kind: pipe, argv: [/bin/cat]},"
                " out: {kind: several, ways: [{agent: smtp}]},"
                " pipes: {kind: several, ways: [{agent: pipe}]}}"
            )
            self.refused(agents, told, base=base)

    def test_good(self) -> None:
        """What is right is no problem."""
        base = _BASE.replace(
            "example.test: {}",
            "example.test: {deliver: inner, recipients: ask,"
            ' next_hop: "unix:/run/lmtp"}',
        )
        more = """
agents: {inner: {kind: lmtp}}
routes:
  - {recipient: a@example.test, agent: inner, next_hop: "[::1]"}
  - {sender: "<>", next_hop: "[x]:25"}
  - {login: "*", domain: .there.test}
  - {sender: bücher.test}
"""
        self.assertEqual(problems(more, base), [])


class ReadTests(TestCase):
    """The manual's text of a setting with a table is one that can be read."""

    def test_environment(self) -> None:
        document = load.read("x", "{argv: [/bin/cat], environment: {}}")
        config = load.structure(document, carriers.PipeAgentConfig)
        self.assertEqual(config.environment, {})
        self.assertIn("environment: {}", agentmanual.PIPE)
