"""Postfix, as a peer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.system.clients import ALICE, BOB
from tests.system.peers.base import DOMAINS, LATER, NAME, PEOPLE, SIZE, Peer, Plan

_MAIN = """
compatibility_level = 3.6
config_directory = {home}
queue_directory = /var/spool/postfix
data_directory = /var/spool/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
myhostname = {name}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtp_host_lookup = native
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
message_size_limit = {size}

virtual_mailbox_domains = {domains}
virtual_mailbox_maps = inline:{{ {people} }}
virtual_mailbox_base = {home}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}

smtpd_tls_security_level = may
smtpd_tls_cert_file = {pair.certificate}
smtpd_tls_key_file = {pair.key}
smtpd_tls_received_header = yes
smtpd_authorized_xforward_hosts = 127.0.0.1
smtpd_recipient_restrictions =
    check_policy_service unix:private/gate, permit_mynetworks, reject
debug_peer_list = 127.0.0.1

relayhost = [localhost]:{ours[smtp]}
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = hostname
smtp_tls_CAfile = {trust}
smtp_tls_loglevel = 1
smtp_send_xforward_command = yes
transport_maps = inline:{{ {{ lmtp.test = lmtp:unix:{lmtp} }} }}
sender_dependent_default_transport_maps = inline:{{
    {{ alice@example.test = scram:[localhost]:{ours[submission]} }}
    {{ bob@example.test = plain:[localhost]:{ours[submissions]} }} }}
smtp_sasl_password_maps = texthash:{home}/passwords
smtp_sasl_security_options = noanonymous
"""

_SERVICES = """
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
scram unix - - n - - smtp
    -o smtp_sasl_auth_enable=yes -o smtp_sasl_mechanism_filter=scram-sha-256
plain unix - - n - - smtp
    -o smtp_sasl_auth_enable=yes -o smtp_sasl_mechanism_filter=plain
    -o smtp_tls_wrappermode=yes
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
gate unix - n n - 0 spawn
    user=nobody argv=/bin/sh {home}/gate {gate}
postlog unix-dgram n - n - 1 postlogd
"""


# SMTPD_POLICY_README.
_GATE = """
while read -r line
do
    case $line in
        recipient={later}@*) [ -e "$1" ] || answer='450 4.2.0 Not yet' ;;
        '') printf 'action=%s\\n\\n' "${{answer:-DUNNO}}"; answer= ;;
    esac
done
"""


class Postfix(Peer):
    """Debian's. It logs every line of its dialogs with us."""

    tree = "postfix"
    binary = "usr/sbin/postfix"

    def prepare(self) -> Sequence[str]:
        ours = self.plan.ours
        self._write("main.cf", _main(self.plan, self.id_of("postman")))
        services = _SERVICES.format(port=self.port, home=self.home, gate=self.gate)
        self._write("master.cf", services)
        self._write("gate", _GATE.format(later=LATER))
        alice = f"[localhost]:{ours['submission']} {ALICE}:{self.plan.password}"
        bob = f"[localhost]:{ours['submissions']} {BOB}:{self.plan.password}"
        self._write("passwords", f"{alice}\n{bob}\n")
        (self.home / "spool/postfix").mkdir()
        (self.home / "spool/data").mkdir()
        self.give(self.home / "spool/data", "postfix")
        return ["postfix", "-c", str(self.home), "start-fg"]

    def dialog(self, program: str) -> list[str]:
        """What a program of its said and was told, a line each, with > or < first."""
        pattern = rf"postfix/{program}\[\d+\]: ([<>]) \S+ (.*)"
        return [" ".join(pair) for pair in re.findall(pattern, self.said)]

    def _write(self, name: str, text: str) -> None:
        Path(self.home, name).write_text(text)


def _main(plan: Plan, uid: int) -> str:
    """What main.cf says."""
    people = " ".join(
        f"{{ {local}@{domain} = mail/ }}" for domain in DOMAINS for local in PEOPLE
    )
    return _MAIN.format(
        **vars(plan),
        name=NAME,
        domains=" ".join(DOMAINS),
        people=people,
        uid=uid,
        size=SIZE,
    )
