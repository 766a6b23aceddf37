"""The annotated configuration, made from the schema: C{etc/mta.yaml}.

C{python -m twisted_mta.config.manual > etc/mta.yaml} writes it anew. The comment
above a field of the schema becomes the text above the setting; what has a
default is commented out and shows it. What agents of the kind smtp take is not
of the schema: the agent is a plugin, which this floor does not know, so its
manual stands here, and a test keeps it true.
"""

import inspect
import re
from typing import Any

import attrs

from twisted_mta.config import agentmanual, schema, units

_HEAD = """\
# The configuration of twisted-mta. This file is its manual too: it is made
# from the comments of the schema. What is commented out shows the default.
#
#   twisted-mta check FILE     says everything that is wrong with it
#   twistd -n mta --config FILE
#
# Times are written 90s, 5m, 4h, 5d; sizes 64K, 50M, 1G.
"""

# What stands in the example where there is no default to show.
_EXAMPLES = {
    "hostname": "mail.example.org",
    "directory": "/var/lib/twisted-mta",
    "domains": "\n  example.org:",
    "certificates": """
  - certificate: /etc/twisted-mta/tls/fullchain.pem
    key: /etc/twisted-mta/tls/privkey.pem""",
    "listeners": """
  - {name: smtp, protocol: smtp, endpoints: ["tcp:25"], tls: starttls}
  - {name: submission, protocol: submission, endpoints: ["tcp:587"], tls: starttls}
  - {name: submissions, protocol: submission, endpoints: ["tcp:465"], tls: implicit}
  - {name: imap, protocol: imap, endpoints: ["tcp:143"], tls: starttls}
  - {name: imaps, protocol: imap, endpoints: ["tcp:993"], tls: implicit}
  - {name: pop3, protocol: pop3, endpoints: ["tcp:110"], tls: starttls}
  - {name: pop3s, protocol: pop3, endpoints: ["tcp:995"], tls: implicit}""",
    "postmaster": "admin@example.org",
}
_ASIDE = {
    "routes": """
  - {domain: partner.example, next_hop: "[192.0.2.25]:25"}
  - {recipient: support@example.org, agent: tickets}
  - {domain: "*", agent: smarthost, next_hop: "[smtp.provider.example]:587"}""",
    "agents": """
  smarthost:
    {kind: smtp, tls: verify, user: us, password_file: /etc/twisted-mta/password}
  tickets: {kind: pipe, user: tickets, argv: [/bin/cat]}""",
    "relay_domains": """
  example.net: {next_hop: "[mail.example.net]:25", recipients: callout}""",
    "policies": """
  - {kind: refuse_helo, names: [localhost]}""",
    "plugin_path": " [/etc/twisted-mta/plugins]",
}

# settings(SmtpAgentConfig, "#   "); tests/test_builtin.py compares. Those of the other
# agents are in L{twisted_mta.config.agentmanual}.
SMTP_AGENT = """\
#   # Where next hops without a port of their own listen.
#   port: 25
#   # none; may: with anybody if it works; encrypt: with anybody, or no mail; dane: with
#   # whom the DNS says (TLSA records, see dns: validating), where it says nothing as
#   # may; dane-only: where it says nothing no mail; verify: only with a valid
#   # certificate of the host's name. As Postfix's smtp_tls_security_level.
#   tls: dane
#   # Keep to what domains ask for by MTA-STS (RFC 8461), with may, encrypt and dane.
#   mta_sts: true
#   # When a host had TLS in the last 30 days and has none now, with may and dane: none;
#   # warn in the log; or defer its mail, for
#   tls_memory: warn
#   # so long at most since its TLS was first missed.
#   tls_memory_wait: 1d
#   # TLS from the first octet (port 465).
#   implicit_tls: false
#   # A PEM file of the authorities to believe in verify and for mail exchangers of
#   # domains with MTA-STS. None: the system's.
#   trust: null
#   # For AUTH at a smarthost, with the password in the file's first line. It
#   # goes out under TLS only, unless tls is none.
#   user: null
#   password_file: null
#   # Or a token (OAUTHBEARER, XOAUTH2), read for each login, so that another
#   # program can write it anew before it ends.
#   token_file: null
#   # Our certificate for servers that ask for one, and its key. Without user it
#   # logs in (EXTERNAL) where the server offers that.
#   certificate: null
#   key: null
#   # Our addresses to connect from, at most one of each family. Empty: the
#   # system chooses.
#   sources: []
#   # Connections at the same time from each of our addresses, of all workers
#   # together; at least one for each worker. None: any number.
#   connections: null
#   # The most messages in a time from them together, such as 600/m, of all workers;
#   # for a rate of each address make an agent for each. None: any number.
#   rate: null
#   # More names of this server in the DNS, beside hostname, such as that of a
#   # router that passes port 25 on to it: an MX of that name is never tried.
#   own_names: []
#   # An MX may be on the loopback. For tests.
#   loopback: false
#   # Extensions that are not used even if they are offered, such as [CHUNKING].
#   # Postfix: smtp_discard_ehlo_keywords.
#   without: []
#   # Tell a server that offers XFORWARD, such as a content filter, where each
#   # message came from.
#   xforward: false
#   # How long a connection may take to come about. Postfix: 30 s.
#   connect_timeout: 30s
#   # How long each reply may take. None: as RFC 5321 4.5.3.2 asks, 2 to 10
#   # minutes.
#   reply_timeout: null
"""
_BEFORE = {
    "agents": [
        "# Settings of the kind smtp:",
        *SMTP_AGENT.splitlines(),
        *agentmanual.lines(),
    ]
}

_FIELD = re.compile(r"    (\w+): ")


def comments(cls: type) -> dict[str, list[str]]:
    """The lines of comment above each field of a schema class."""
    found: dict[str, list[str]] = {}
    above: list[str] = []
    for line in inspect.getsource(cls).splitlines():
        match = _FIELD.match(line)
        if line.startswith("    # "):
            above.append(line.strip())
        elif match:
            found[match[1]] = above
            above = []
        else:
            above = []
    return found


def text() -> str:
    """The annotated configuration."""
    lines = [_HEAD]
    about = comments(schema.Config)
    for field in attrs.fields(schema.Config):
        lines += about[field.name]
        lines += _entry(field)
        lines.append("")
    return "\n".join(lines)


def _entry(field: Any) -> list[str]:
    name = field.name
    inner = _inner(field.type)
    origin = getattr(field.type, "__origin__", None)
    listed = origin is tuple or (origin is dict and name in _ASIDE)
    if listed and inner:
        lines = ["# Settings of each:", *settings(inner, "#   ")]
    else:
        lines = []
    if name in _EXAMPLES:
        lines += _lines(name, _EXAMPLES[name])
        return lines if listed or not inner else lines + settings(inner, "    #")
    if name in _ASIDE:
        lines += _BEFORE.get(name, [])
        return lines + [f"#{line}" for line in _lines(name, _ASIDE[name])]
    if inner is None:
        return [f"#{name}: {_default(field)}"]
    return [f"{name}:", *settings(inner, "  #")]


def _lines(name: str, value: str) -> list[str]:
    space = "" if value[0].isspace() else " "
    return f"{name}:{space}{value}".splitlines()


def _inner(kind: Any) -> type | None:
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if attrs.has(candidate):
            return candidate
    return None


def settings(cls: type, margin: str) -> list[str]:
    """The manual of a class of settings.

    @param margin: what stands before each line; C{#} at its end is for
        settings, not for comments.
    """
    lines = []
    about = comments(cls)
    for field in attrs.fields(cls):
        lines += [_beside(margin) + line for line in about[field.name]]
        lines.append(f"{margin}{field.name}: {_default(field)}")
    return lines


def _beside(margin: str) -> str:
    """Where the comment of a setting stands."""
    return margin.removesuffix("#")


def _default(field: Any) -> str:
    value = field.default
    if value is attrs.NOTHING:
        return "..."
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        return "{}"
    if field.type is units.Octets:
        return units.written_octets(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return {None: "null", "": '""'}.get(value, units.written(value))


if __name__ == "__main__":
    print(text(), end="")
