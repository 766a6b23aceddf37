"""OpenSMTPD, as a peer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.system.clients import ALICE
from tests.system.peers.base import DOMAINS, LATER, NAME, SIZE, USER, Peer

# Its table of who may log in has hashes only; this is of base.PASSWORD.
_HASH = (
    "$6$twistedmta$jI4VD1QBTuxl7xeaODPaOVm6sBXKj72ivClYWlaS8HTRim"
    "6WpFfzeY6r/tzlSoOfR1DJOZHsupblf6YRpAYno1"
)

_CONFIG = """
pki peer cert "{home}/cert.pem"
pki peer key "{home}/key.pem"
smtp max-message-size {size}

table logins {{ {user} = "{hash}" }}
table ours {{ alice = "{alice}:{password}" }}
table people {{ {people} }}

filter later proc-exec "/bin/sh {home}/later {gate}"
listen on 127.0.0.1 port {port} tls pki peer hostname {name} \\
    auth-optional <logins> filter later

action here maildir "{home}/mail" virtual <people>
action "lmtp" relay host lmtp://localhost:{ours[lmtp]}
action us relay host smtp+tls://localhost:{ours[smtp]} helo {name}
action "login" relay host smtp+tls://alice@localhost:{ours[submission]} auth <ours> \\
    helo {name}

match from any for domain lmtp.test action "lmtp"
match auth from any for domain login.test action here
match from any for domain {{ peer.test plain.test }} action here
match from any mail-from "{alice}" for any action "login"
match from any for any action us
"""

# smtpd-filters(7).
_FILTER = """
while IFS='|' read -r kind said time system phase session token recipient
do
    if [ "$kind" = config ] && [ "$said" = ready ]
    then printf '%s\\n' 'register|filter|smtp-in|rcpt-to' 'register|ready'
    elif [ "$kind" = filter ]
    then
        answer=proceed
        case $recipient in
            {later}@*) [ -e "$1" ] || answer='reject|450 4.2.0 Not yet' ;;
        esac
        echo "filter-result|$session|$token|$answer"
    fi
done
"""


class OpenSmtpd(Peer):
    """Debian's.

    BUGS: Debian 12's 6.8 offers STARTTLS and cannot do it, with OpenSSL 3
    (OpenSMTPD/OpenSMTPD issue 1239); so nobody can log in at it, either.
    """

    tree = "opensmtpd"
    binary = "usr/sbin/smtpd"
    tls = "may"

    def prepare(self) -> Sequence[str]:
        plan = self.plan
        people = (f"{a}@{b}" for a in ("postman", LATER) for b in DOMAINS)
        text = _CONFIG.format(
            **vars(plan),
            name=NAME,
            size=SIZE,
            gate=self.gate,
            alice=ALICE,
            user=USER,
            hash=_HASH,
            people=", ".join(f'"{one}" = postman' for one in people),
        )
        (self.home / "smtpd.conf").write_text(text)
        (self.home / "later").write_text(_FILTER.format(later=LATER))
        for name, path in (
            ("cert.pem", plan.pair.certificate),
            ("key.pem", plan.pair.key),
        ):
            (self.home / name).write_bytes(path.read_bytes())
            (self.home / name).chmod(0o600)
        # Whom it believes is compiled in.
        trust = self.home / "etc/ssl/certs/ca-certificates.crt"
        trust.parent.mkdir(parents=True)
        trust.write_bytes(plan.trust.read_bytes())
        traced = ("-v", "-T", "smtp", "-T", "mta")
        return ["smtpd", "-d", *traced, "-f", str(self.home / "smtpd.conf")]

    def dialog(self, program: str) -> list[str]:
        """What it said and was told as C{smtp} (the server) or C{mta} (the client), a
        line each, with > or < first."""
        pattern = rf"(?m)^{program}: 0x[0-9a-f]+: ([<>])\1\1 (.*)$"
        return [" ".join(pair) for pair in re.findall(pattern, self.said)]

    def hurry(self) -> None:
        # After a 4xx it would wait for 400 seconds. Installed, smtpctl is setgid.
        group = self.id_of("opensmtpq", "group")
        setgid = ("setpriv", f"--regid={group}", "--clear-groups")
        self.command(*setgid, "smtpctl", "schedule", "all")
