"""Exim, as a peer."""

from __future__ import annotations

from collections.abc import Sequence

from tests.system.clients import ALICE
from tests.system.peers.base import DOMAINS, LATER, NAME, PASSWORD, SIZE, USER, Peer

_CONFIG = """
primary_hostname = {name}
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = {home}/spool/exim4
log_file_path = {home}/spool/exim4/log/%slog
log_selector = +all
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
disable_ipv6
dns_ipv4_lookup = *
message_size_limit = {size}
accept_8bitmime = true
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
prdr_enable
tls_advertise_hosts = *
tls_certificate = {home}/cert.pem
tls_privatekey = {home}/key.pem
pipelining_connect_advertise_hosts = *
domainlist mine = {domains}
trusted_users = Debian-exim
acl_smtp_rcpt = rcpt
acl_smtp_data = accept_all
acl_smtp_data_prdr = accept_all

begin acl
rcpt:
  defer message = 4.2.0 Not yet
        local_parts = {later}
        condition = ${{if !exists{{{gate}}}}}
  deny message = 5.7.1 Log in first
       domains = login.test
       !authenticated = *
  deny message = 5.1.1 Nobody of that name
       domains = +mine
       !local_parts = postman : {later} : pöstman
  accept domains = +mine
  accept hosts = 127.0.0.1
accept_all:
  accept

begin routers
here:
  driver = accept
  domains = +mine
  transport = maildir
lmtp:
  driver = manualroute
  domains = lmtp.test
  route_list = * localhost
  self = send
  transport = lmtp
submission:
  driver = manualroute
  senders = {alice}
  route_list = * localhost byname
  self = send
  transport = submission
elsewhere:
  driver = manualroute
  route_list = * localhost byname
  self = send
  transport = smtp

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {home}/mail
  create_directory = false
  user = postman
  group = postman
  delivery_date_add
  envelope_to_add
  return_path_add
smtp:
  driver = smtp
  port = {ours[smtp]}
  hosts_require_tls = *
  hosts_try_prdr = *
  tls_verify_certificates = {trust}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
submission:
  driver = smtp
  port = {ours[submission]}
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {trust}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
lmtp:
  driver = lmtp
  socket = {lmtp}
  batch_max = 100
  user = Debian-exim

begin retry
* * F,5d,1s

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth2:$auth3}}{{{user}:{their_password}}}}}
  server_set_id = $auth2
  client_send = ^{alice}^{password}
"""


class Exim(Peer):
    """Debian's, the heavy one."""

    tree = "exim"
    binary = "usr/sbin/exim4"

    def prepare(self) -> Sequence[str]:
        plan = self.plan
        text = _CONFIG.format(
            **vars(plan),
            name=NAME,
            size=SIZE,
            domains=" : ".join(DOMAINS),
            later=LATER,
            gate=self.gate,
            alice=ALICE,
            user=USER,
            their_password=PASSWORD,
        )
        config = self.home / "etc/exim4/exim4.conf"
        config.parent.mkdir()
        config.write_text(text)
        spool = self.home / "spool/exim4"
        (spool / "log").mkdir(parents=True)
        for name, path in (
            ("cert.pem", plan.pair.certificate),
            ("key.pem", plan.pair.key),
        ):
            (self.home / name).write_bytes(path.read_bytes())
            (self.home / name).chmod(0o600)
            self.give(self.home / name, "Debian-exim")
        for path in (spool, spool / "log"):
            self.give(path, "Debian-exim")
        return ["exim4", "-bdf", "-q1s"]

    @property
    def _lines(self) -> str:
        """All that is in its log."""
        path = self.home / "spool/exim4/log/mainlog"
        return path.read_text(errors="replace") if path.exists() else ""

    def mark(self) -> None:
        self._read = len(self._lines)

    @property
    def said(self) -> str:
        return self._lines[self._read :]
