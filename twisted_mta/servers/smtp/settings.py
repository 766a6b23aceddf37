"""How a listener speaks SMTP, as the sessions need it."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """What L{twisted_mta.config.schema.Smtp} says, for one listener.

    @ivar hostname: in the greeting, Received and Message-ID.
    @ivar listener: the listener's name.
    @ivar submission: who speaks must log in, and may then send anywhere (RFC
        6409); if not, mail comes for our own domains.
    @ivar plaintext_login: passwords may come without TLS.
    @ivar message_size: octets.
    @ivar header_size: octets of a header block.
    @ivar relay_from: who may send anywhere without a login; not on submission.
    @ivar check_sender: sender and From must be the login's.
    @ivar soft_error_delay_s: how late errors past C{soft_errors} are answered
        (Postfix smtpd_error_sleep_time: 1 s).
    @ivar junk_delay_s: how late the goodbye after C{junk_commands} is said: as long
        as the ten errors that Postfix would count.
    """

    hostname: str
    listener: str = ""
    submission: bool = False
    plaintext_login: bool = False
    message_size: int = 50 << 20
    header_size: int = 1 << 20
    recipients: int = 1000
    hops: int = 50
    soft_errors: int = 10
    hard_errors: int = 20
    junk_commands: int = 100
    idle_s: float = 300
    total_s: float = 6 * 3600
    relay_from: tuple[IPv4Network | IPv6Network, ...] = ()
    check_sender: bool = True
    soft_error_delay_s: float = 1.0
    junk_delay_s: float = 10.0

    def relays_from(self, host: str) -> bool:
        """Whether this address is in a network that may relay."""
        if not self.relay_from:
            return False
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(
            address.version == network.version and address in network
            for network in self.relay_from
        )
