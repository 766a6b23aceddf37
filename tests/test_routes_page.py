"""The examples of docs/operations.rst on routes, loaded."""

import re
import textwrap
from pathlib import Path

from twisted.trial.unittest import TestCase

from twisted_mta.app import part_problems
from twisted_mta.config import check

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.rst"

_BASE = """
hostname: mail.example.org
directory: /tmp/x
postmaster: pm@example.org
listeners: [{name: smtp, protocol: smtp, endpoints: ["tcp:25"]}]
"""
_DOMAINS = "domains: {example.org: {}}\n"
_BLOCK = re.compile(r"::\n\n((?:    .*\n|\n)+)")


def examples() -> list[str]:
    """The literal blocks of the chapter."""
    chapter = PAGE.read_text().partition("\nRoutes\n======\n")[2]
    chapter = re.split(r"\n\S.*\n====+\n", chapter)[0]
    return [textwrap.dedent(block) for block in _BLOCK.findall(chapter)]


class ExampleTests(TestCase):
    def test_load(self) -> None:
        """Each is a config that can be used, where its program, user and file are
        there."""
        listed = Path(self.mktemp())
        listed.write_text("bob\n")
        found = examples()
        self.assertEqual(len(found), 4)
        for example in found:
            for name, there in (
                ("/usr/local/bin/tickets", "/bin/cat"),
                ("user: tickets", "user: nobody"),
                ("/etc/twisted-mta/example.net", str(listed)),
            ):
                example = example.replace(name, there)
            domains = "" if "domains:" in example else _DOMAINS
            text = _BASE + domains + example
            document, config = check.parse("operations.rst", text)
            self.assertEqual(list(part_problems(document, config)), [], example)
            self.assertTrue(config.agents)
