"""The manual of the agents beside SMTP's, for C{etc/mta.yaml}.

They are plugins, which this floor does not know, so their manual stands here; a test
(C{tests/test_carriers.py}) keeps it true to the comments of their settings.
"""

from collections.abc import Iterator

LMTP = """\
#   # Where next hops without a port of their own listen. Not 25 (RFC 2033 5).
#   port: 24
#   # none; may: if it works; encrypt: or no mail; verify: only with a valid
#   # certificate of the host's name. Over a unix socket there is none in any case.
#   tls: may
#   # A PEM file of the authorities to believe in verify. None: the system's.
#   trust: null
#   # For AUTH, with the password in the file's first line. It goes out under TLS
#   # only, unless tls is none.
#   user: null
#   password_file: null
#   # Recipients of one message that are given at once. Postfix: 50.
#   recipients: 50
#   # Extensions that are not used even if they are offered.
#   without: []
#   # Tell a server that offers XFORWARD where each message came from.
#   xforward: false
#   # How long a connection may take to come about. Postfix: 30 s.
#   connect_timeout: 30s
#   # How long each reply may take. None: 2 to 10 minutes, as for SMTP.
#   reply_timeout: null
"""

PIPE = """\
#   # The program's path and its arguments; no shell. Within an argument are replaced:
#   # {recipient}, and its {local}, {detail} and {domain}; {sender}; {id}, the queue id;
#   # {next_hop}; {size}; {client} and {login}, where it came from. {{ and }} are
#   # braces. An address that begins with '-' is not put where an argument begins: its
#   # mail is returned.
#   argv: ...
#   # Who the program runs as. Needed if this server runs as root, else it runs as
#   # this server does. Not root.
#   user: null
#   # Where it runs.
#   directory: /
#   # Its environment beside PATH and LANG, such as {HOME: /var/lib/tickets}.
#   environment: {}
#   # recipient: a run for each; message: one for all recipients of a message that
#   # take this way, up to 50; an argument with something of a recipient is there once
#   # for each of them.
#   runs: recipient
#   # Begin with mbox's line "From SENDER  DATE". Lines of the message that look like
#   # it stay as they are.
#   from_line: false
#   # Begin with Return-Path, with the sender.
#   return_path: true
#   # Begin with Delivered-To, with the recipient, and return mail that has it already.
#   # Only where each recipient has a run.
#   delivered_to: true
#   # lf, as programs expect; or crlf, as mail has it on its way.
#   line_end: lf
#   # What separates a local part from its {detail}.
#   subaddress: +
#   # What {sender} is for bounces, which have none. Postfix: MAILER-DAEMON.
#   null_sender: MAILER-DAEMON
#   # How long a run may take; then its processes get SIGTERM, and SIGKILL 5 s later.
#   # Postfix: 1000 s.
#   timeout: 1000s
#   # How much a program may say before it is ended. The first 2K are for the log, and
#   # for a bounce.
#   output: 1M
#   # Runs at the same time, over all workers; each has one at least. Postfix: 20.
#   concurrency: 20
"""

DISCARD = """\
#   # What the log says.
#   text: Discarded
"""

ERROR = """\
#   # RFC 3463: 5.x.x for good, 4.x.x for now.
#   status: 5.7.1
#   # What the sender reads.
#   text: Mail for this address is not taken
"""

SEVERAL = """\
#   # Ways that share the mail, such as [{agent: smtp, next_hop: "[relay]:25",
#   # weight: 3}, ...]. A message keeps its way for later attempts, unless that is
#   # down.
#   ways: ...
#   # Ways that are tried in this order, in the same attempt, if nobody was reached.
#   fallback: []
#   # unreachable: no connection, no TLS or login that is asked for, no DNS, or a
#   # greeting that says to come later. any: also if a recipient was deferred.
#   fallback_on: unreachable
#   # How long a way is passed over once nobody was reached there. Postfix:
#   # transport_retry_time 60 s.
#   pause: 1m
"""

WAY = """\
#   # The agent, see agents.
#   agent: ...
#   # Where that one takes it, as in a route.
#   next_hop: null
#   # Its share: of weights 3 and 1 it has three quarters.
#   weight: 1
"""

_KINDS = {
    "the kind lmtp": LMTP,
    "the kind pipe": PIPE,
    "the kind discard": DISCARD,
    "the kind error": ERROR,
    "the kind several": SEVERAL,
    "each of its ways": WAY,
}


def lines() -> Iterator[str]:
    """All of it."""
    for kind, text in _KINDS.items():
        yield f"# Settings of {kind}:"
        yield from text.splitlines()
