"""Every setting of the server. The comment above a field is its manual entry:
C{etc/mta.yaml} is generated from it (L{twisted_mta.config.manual}).

A class here is data. What it means is decided where it is used; that settings
fit each other is checked in L{twisted_mta.config.check}.
"""

import os
from pathlib import Path
from typing import Any, Literal, get_args

from attrs import field, frozen

from twisted_mta.config.units import Octets, Rate, Seconds

#: Workers. They write to one ledger, one at a time: a machine with more processors
#: than this waits for that.
WORKERS_MOST = 64
#: How long a message can be held: RFC 4865 has nine digits.
HOLD_MOST_S = 999_999_999


def _time(seconds: float) -> Any:
    return field(default=Seconds(float(seconds)))


def _size(octets: int) -> Any:
    return field(default=Octets(octets))


#: The extensions of SMTP that can be switched off.
ExtensionName = Literal[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "DELIVERBY",
    "FUTURERELEASE",
    "MT-PRIORITY",
    "NO-SOLICITING",
    "REQUIRETLS",
    "PRDR",
    "LIMITS",
    "ETRN",
    "VRFY",
    "EXPN",
    "XCLIENT",
    "XFORWARD",
    "XVERP",
    "STARTTLS",
    "AUTH",
]


#: How somebody can log in.
MechanismName = Literal[
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "EXTERNAL",
    "OAUTHBEARER",
    "XOAUTH2",
    "PLAIN",
    "LOGIN",
]


@frozen(kw_only=True)
class Domain:
    """A domain whose mail ends here."""

    # Who gets mail for addresses of this domain that nobody has. Nobody: the
    # sender is told at once.
    catch_all: str | None = None
    # What separates a local part from its detail: bob+lists@ is bob's. Empty:
    # no details.
    subaddress: str = "+"
    # The agent that carries its mail, see agents, instead of mailboxes here: to a
    # server behind this one (lmtp, smtp) or to a program (pipe). Aliases are followed
    # all the same.
    deliver: str | None = None
    # Where that agent takes it, as next_hop of a route.
    next_hop: str | None = None
    # Who is there, if an agent delivers. accounts: who has an account here. listed:
    # who stands in recipient_file. ask: whom the next server takes at RCPT; it is
    # asked before mail is taken (Postfix: reject_unverified_recipient). any:
    # everybody. But for 'accounts', who has an account here keeps his mailbox here.
    recipients: Literal["accounts", "listed", "ask", "any"] = "accounts"
    # A file with one of its addresses or local parts in each line, and comments after
    # #. Read again when it changes.
    recipient_file: Path | None = None


@frozen(kw_only=True)
class Certificate:
    """A certificate and its key, both PEM."""

    # The certificate, then the intermediate ones.
    certificate: Path
    # The private key.
    key: Path


@frozen(kw_only=True)
class Listener:
    """Where clients connect."""

    # Its name in logs and errors.
    name: str
    # smtp takes mail from anyone for the domains above; submission takes mail
    # to anywhere from those who log in; imap and pop3 let them read it.
    # lmtp takes it from a mail server of ours, with an answer for each recipient.
    protocol: Literal["smtp", "submission", "lmtp", "imap", "pop3"]
    # Twisted endpoint strings: tcp:25, tcp:25:interface=127.0.0.1,
    # tcp6:25:interface=\:\:1, unix:/run/mta.sock, systemd:domain=INET:index=0.
    endpoints: tuple[str, ...]
    # none; starttls: offered within the protocol; implicit: from the first
    # octet (the ports 465, 993 and 995).
    tls: Literal["none", "starttls", "implicit"] = "none"
    # Passwords may come without TLS. Only for networks that nobody else hears, and
    # for submission, imap and pop3: nobody logs in at the others.
    plaintext_login: bool = False
    # Networks of proxies whose connections begin with a PROXY header (versions 1 and
    # 2), which says who the client is. Others may not send one.
    proxies: tuple[str, ...] = ()
    # Extensions of SMTP that are not offered here, such as [CHUNKING].
    without: tuple[ExtensionName, ...] = ()
    # The SASL mechanisms that may be used here. null: those of 'login'.
    mechanisms: tuple[MechanismName, ...] | None = None


@frozen(kw_only=True)
class Storage:
    """The disk with the ledger."""

    # What new mail leaves free of it, so that mail can still be read and deleted
    # and the queue goes on. Below it SMTP answers 452 4.3.1. Postfix: 1.5 times
    # the largest message, here 75M; the ledger's log takes 64M. 0: fill it up.
    reserve: Octets = _size(256 << 20)


@frozen(kw_only=True)
class Connections:
    """How many connections there may be at once, over all listeners."""

    # In all. Dovecot: 1000 per login service.
    most: int = 2000
    # From one address (IPv6: one /64). Postfix: 50.
    most_per_address: int = 50


@frozen(kw_only=True)
class Without:
    """Extensions of SMTP that some clients get wrong."""

    # The clients' networks, such as 192.0.2.0/24.
    networks: tuple[str, ...]
    # What they are not offered, such as [PIPELINING, CHUNKING].
    extensions: tuple[ExtensionName, ...]


@frozen(kw_only=True)
class Verp:
    """Mail that goes out with the recipient's name in its sender."""

    # The sender, such as owner-list@example.org. null: any.
    sender: str | None = None
    # Who logged in. null: anybody, and who may relay.
    account: str | None = None
    # What stands behind the sender's name, and in the place of the recipient's @:
    # owner+bob=example.net@example.org. Two of + - =. Postfix:
    # default_verp_delimiters.
    delimiters: str = "+="


@frozen(kw_only=True)
class Login:
    """How people and programs log in, to submission, IMAP and POP3."""

    # The SASL mechanisms that may be used, as far as they are possible: -PLUS under
    # TLS, EXTERNAL with a certificate, OAUTHBEARER and XOAUTH2 with 'tokens'. Without
    # PLAIN and LOGIN, IMAP's LOGIN and POP3's USER and PASS are off as well. The two
    # -PLUS are left out: Debian's mutt 2.2 chooses them wherever they are offered,
    # and cannot do them. Add them where you know your clients.
    mechanisms: tuple[MechanismName, ...] = tuple(
        name for name in get_args(MechanismName) if not name.endswith("-PLUS")
    )
    # A PEM file of the authorities whose client certificates log in their owners
    # (EXTERNAL). If their lists of revoked certificates (CRL) are in it, too, each has
    # to have one that is not too old. Read again on SIGHUP. null: nobody is asked for
    # one.
    authorities: Path | None = None
    # What of a certificate is the account's address: email, its mail addresses (RFC
    # 5280: rfc822Name); common_name, its subject's common name.
    certificate_name: Literal["email", "common_name"] = "email"


@frozen(kw_only=True)
class Smtp:
    """Limits of SMTP and submission."""

    # The largest message. Gmail takes 25 MB, Postfix 10 MB, others 50.
    message_size: Octets = _size(50 << 20)
    # Recipients of one message. RFC 5321 4.5.3.1.8 asks for 100; Postfix: 1000.
    recipients: int = 1000
    # The largest header block; less than 2M. Postfix cuts at 100 KB.
    header_size: Octets = _size(1 << 20)
    # The longest line of a message. RFC 5321 4.5.3.1.6 says 998, but much good
    # mail has longer ones. null: any length, as Postfix.
    line_length: Octets | None = None
    # The longest command line. RFC 5321 4.5.3.1.4 asks for 512 and what
    # extensions add; Postfix: 2048.
    command_length: Octets = _size(2048)
    # Received fields before a message counts as looping. Postfix: 50.
    hops: int = 50
    # Errors of a client before each further one is answered late. Postfix: 10.
    soft_errors: int = 10
    # Errors of a client before it is sent away. Postfix: 20.
    hard_errors: int = 20
    # Commands without effect (NOOP, RSET, VRFY) before it is sent away.
    # Postfix: 100.
    junk_commands: int = 100
    # How long a client may take for each command or piece of data. RFC 5321
    # 4.5.3.2.7 asks for 5 minutes.
    idle: Seconds = _time(300)
    # How long one connection may last.
    total: Seconds = _time(6 * 3600)
    # How much of a message has to come in each second, on average over the time of
    # 'idle' or up to twice as much; shorter ones may come as slowly as they like. 0:
    # all may. Postfix: smtpd_min_data_rate.
    min_data_rate: Octets = _size(500)
    # How long clients from elsewhere wait for the greeting; who speaks before it is
    # no mail server, and is sent away. 0: not at all. Postfix (postscreen): 6 s.
    greeting_pause: Seconds = _time(0)
    # A CR or LF on its own in a message from elsewhere: refuse it, or make it
    # a line end. Both keep smuggled messages out; refusing keeps signatures
    # right.
    bare_newline: Literal["refuse", "normalise"] = "refuse"
    # The same for submission, where the client may be an old script.
    submission_bare_newline: Literal["refuse", "normalise"] = "normalise"
    # Networks that may relay without logging in, such as 192.0.2.0/24. Name
    # as few as you can.
    relay_from: tuple[str, ...] = ()
    # Submission: whether sender and From must be addresses of the login. strict:
    # others are refused; warn: they are logged; none: anything goes.
    check_sender: Literal["strict", "warn", "none"] = "strict"
    # Mail from elsewhere: whether a sender in one of our domains must be an address
    # that somebody here has. strict: others are refused; warn: they are logged;
    # none: anything goes, such as what a service sends in our name as noreply@.
    # Postfix: smtpd_reject_unlisted_sender.
    check_local_sender: Literal["strict", "warn", "none"] = "strict"
    # Submission: messages that an account may send in an hour. null: any number.
    messages_per_hour: int | None = None
    # The same in a day. Fastmail: 4000.
    messages_per_day: int | None = None
    # Recipients of all that it sends in an hour.
    recipients_per_hour: int | None = None
    # The same in a day. Gmail: 500.
    recipients_per_day: int | None = None
    # For how long it is remembered that a client never saw our answer to a message
    # that was accepted, since its connection or this server broke: when it sends the
    # same again, it is told so, and there is no second copy. 0: not at all. RFC 5321
    # 4.5.4.1 has clients come back after half an hour.
    resent_within: Seconds = _time(3600)
    # Submission: how long a client may ask to have a message held before it goes on
    # its way (FUTURERELEASE). Stalwart: 7 days. 0: not at all.
    future_release: Seconds = _time(30 * 86400)
    # The highest priority (MT-PRIORITY, -9 to 9) that mail of those who log in, or
    # of relay_from, may have in the queue. Others' mail goes before nobody's.
    highest_priority: int = 9
    # Classes of solicitation that are not taken (RFC 3865), such as
    # net.example:ADV.
    no_soliciting: tuple[str, ...] = ()
    # Networks that may ask with VRFY and EXPN who is here.
    verify_from: tuple[str, ...] = ()
    # Domains whose waiting mail anybody may have tried at once (ETRN): their servers
    # do when they are on line again.
    etrn: tuple[str, ...] = ()
    # Networks of filters and proxies that may say for whom they speak (XCLIENT): the
    # rest of the session is that client's. Name none that you do not run.
    xclient_from: tuple[str, ...] = ()
    # The same for where mail came from, for the log (XFORWARD).
    xforward_from: tuple[str, ...] = ()
    # Extensions that clients of some networks are not offered, for those that get
    # them wrong. A listener's own 'without' is for all its clients.
    without: tuple[Without, ...] = ()
    # Mail of those who log in, or of relay_from, that goes out with the recipient's
    # name in its sender (VERP), so that a bounce says whose address it is about; the
    # first that fits. They may ask for it themselves, too (XVERP). Such as
    # [{sender: owner@example.org}] or [{account: news@example.org, delimiters: "-="}].
    verp: tuple[Verp, ...] = ()


@frozen(kw_only=True)
class Imap:
    """Limits of IMAP."""

    # How long a client may be silent once logged in. RFC 3501 5.4 asks for at
    # least 30 minutes.
    idle: Seconds = _time(1860)
    # The same before. Dovecot: 1 minute.
    login_idle: Seconds = _time(60)
    # Bad commands before the connection ends. Dovecot: 20.
    bad_commands: int = 20
    # The largest message that APPEND takes.
    append_size: Octets = _size(256 << 20)


@frozen(kw_only=True)
class Pop3:
    """Limits of POP3."""

    # How long a client may be silent. RFC 1939 3 asks for at least 10 minutes.
    idle: Seconds = _time(600)
    # Bad commands before the connection ends. Dovecot: 20.
    bad_commands: int = 20


@frozen(kw_only=True)
class Site:
    """A site: where mail for one domain, or for many, is taken by the same hosts."""

    # A domain whose mail exchangers it is, with all other domains that have the same;
    # or .example.net: all sites whose hosts are all below it are one.
    domain: str
    # The most attempts at the same time. null: concurrency_per_hop.
    connections: int | None = None
    # The most messages in a time, such as 600/m. null: rate_per_site.
    rate: Rate | None = None


@frozen(kw_only=True)
class Queue:
    """Mail for elsewhere that waits."""

    # When a failed attempt is first repeated. Postfix: 300 s.
    first_retry: Seconds = _time(300)
    # By how much the wait grows each time, in percent.
    growth_percent: int = 200
    # The longest wait between attempts. RFC 5321 4.5.4.1 speaks of two to three
    # hours.
    longest_retry: Seconds = _time(7200)
    # When the sender is told that the message is late.
    warn_after: Seconds = _time(4 * 3600)
    # When the message is returned. RFC 5321 4.5.4.1: 4 to 5 days at least.
    give_up_after: Seconds = _time(5 * 86400)
    # Attempts at the same time. Postfix: 100 processes.
    concurrency: int = 100
    # The same to one site: a next hop, with all others that have the same mail
    # exchangers. Postfix: 20.
    concurrency_per_hop: int = 20
    # The same to begin with: it grows as a site answers, and shrinks as it does not.
    # Postfix: 5.
    initial_concurrency: int = 5
    # The most messages to one site in a time, such as 600/m. null: any number.
    rate_per_site: Rate | None = None
    # Other limits for some sites; the first that fits. Such as
    # [{domain: gmail.com, connections: 10, rate: 600/m}]; .outlook.com stands for
    # all sites whose hosts are below it, together.
    sites: tuple[Site, ...] = ()
    # How long it can be seen what became of a message, once it is done with: every
    # attempt, and what operators did. It takes some 160 octets a message, and 200 for
    # each attempt. 0: not at all.
    history: Seconds = _time(7 * 86400)


@frozen(kw_only=True)
class Route:
    """Which way mail goes; the first route that fits, in all that it says."""

    # A recipient's domain; .example.org for all below it; * for any. Not one of ours:
    # those say 'deliver' themselves.
    domain: str | None = None
    # A recipient's whole address. It may be in a domain of ours, and comes before
    # accounts and aliases there; with a detail it is the same.
    recipient: str | None = None
    # Who sends it: an address, a domain, .example.org, * for anybody, or <> for
    # bounces. A route by sender or login takes no mail from our own domains unless it
    # names a recipient.
    sender: str | None = None
    # Who submitted it: the address he logged in as, its domain, or * for anybody who
    # logged in.
    login: str | None = None
    # The agent that carries it, see agents.
    agent: str = "smtp"
    # [host]:port of a smarthost, or as the agent has it. None: the recipient's domain,
    # whose mail exchangers agents of the kind smtp look for.
    next_hop: str | None = None
    # Keep it in the queue, held, until an operator releases it.
    hold: bool = False


@frozen(kw_only=True)
class Forwarding:
    """Mail that an address here sends on elsewhere: an alias, a catch-all."""

    # A sender who is none of us becomes a return address of ours (SRS), since other
    # servers take mail in his name from his own servers alone (SPF). Bounces to it
    # are sent on to him.
    srs: bool = True
    # The domain of return addresses, one of 'domains'. null: that of the address
    # which sends on.
    domain: str | None = None


@frozen(kw_only=True)
class RelayDomain:
    """A domain whose mail another server has; ours takes it while that one is away."""

    # HOST:PORT or [HOST]:PORT of that server. null: where 'routes' say, or the
    # domain's mail exchangers that come before us.
    next_hop: str | None = None
    # The agent that carries it to next_hop, see agents.
    agent: str = "smtp"
    # Who exists there. callout: its server is asked, and what it says remembered;
    # [FILE, ...]: who stands in files, an address a line, read again on SIGHUP; any:
    # everybody, so that mail for nobody is taken and has to be returned.
    recipients: Literal["any", "callout"] | tuple[Path, ...] = "callout"


@frozen(kw_only=True)
class Suppression:
    """Whom nothing is sent to any more. See twisted-mta suppression."""

    # After how many messages that its server refused for good, since nobody has it
    # (5.1.1 and the like), an address is put on the list. null: never. Mailgun, SES: 1.
    hard_bounces: int | None = None
    # Within which time those are counted.
    within: Seconds = _time(30 * 86400)
    # How long it stays there. SES: 14 days at most; others for ever.
    keep: Seconds = _time(90 * 86400)
    # What an address here sends on is not sent to who is on the list, either.
    forwarded: bool = False
    # Addresses in our domains to which providers report complaints (RFC 5965); who
    # complained is put on the list.
    complaints: tuple[str, ...] = ()
    # Networks from which such reports are believed, as the providers name them.
    complaints_from: tuple[str, ...] = ()


@frozen(kw_only=True)
class Search:
    """Searching in mail."""

    # Keep an index of the words in mail, so that IMAP's SEARCH does not read the
    # messages. It takes some 900 octets a message, and a process of low priority.
    index: bool = True


@frozen(kw_only=True)
class Dns:
    """Where names are looked up."""

    # HOST:PORT of recursive servers. Empty: those of /etc/resolv.conf.
    servers: tuple[str, ...] = ()
    # How long one server may take.
    timeout: Seconds = _time(5)
    # The servers validate (DNSSEC), and nobody can come between them and us, as with
    # an unbound on this machine. Needed for DANE.
    validating: bool = False


@frozen(kw_only=True)
class Web:
    """How this server itself uses the Web: for policies of domains (MTA-STS) and
    reports to them."""

    # A PEM file of the authorities to believe. null: the system's.
    trust: Path | None = None
    # HOST:PORT of a proxy, where the Web cannot be reached without. null: none.
    proxy: str | None = None


@frozen(kw_only=True)
class TlsReports:
    """Reports to domains that ask for them (RFC 8460), once a day. Those by mail are
    not signed (DKIM): who insists on that does not read them."""

    # The address that reports come from; where they are not taken they come back to it.
    # null: nothing is counted, nothing reported.
    sender: str | None = None
    # Whom to ask about them, such as mailto:postmaster@example.org. Empty: sender.
    contact: str = ""
    # The name of the organization that reports. Empty: hostname.
    organization: str = ""


@frozen(kw_only=True)
class Config:
    """The whole configuration."""

    # The server's name on the Internet: in greetings, Received and bounces.
    # It should resolve to this machine, and the machine's address to it.
    hostname: str
    # Where the ledger is: accounts, mail, queue. Made if missing, readable by
    # the server alone.
    directory: Path
    # The domains whose mail ends here.
    domains: dict[str, Domain]
    # Who gets the mail of postmaster@ and abuse@ of every domain that has no
    # such account or alias. RFC 5321 4.5.1 asks that somebody reads it.
    postmaster: str
    # Where clients connect.
    listeners: tuple[Listener, ...]
    # Certificates for TLS; a client gets the one for the name it asks for, else
    # the first. Read again on SIGHUP.
    certificates: tuple[Certificate, ...] = ()
    # The disk with the ledger.
    storage: Storage = Storage()
    # How many processes serve. Each is a Python interpreter, and computes on one
    # processor at a time. null: one for each processor that this server may use.
    workers: int | None = None
    # How many connections there may be at once.
    connections: Connections = Connections()
    # How people and programs log in.
    login: Login = Login()
    # SMTP and submission.
    smtp: Smtp = Smtp()
    # IMAP.
    imap: Imap = Imap()
    # POP3.
    pop3: Pop3 = Pop3()
    # Mail for elsewhere that waits.
    queue: Queue = Queue()
    # Which way mail for elsewhere goes, or for whole addresses of ours; the first
    # that fits. None fits: to the domain's own mail exchangers.
    routes: tuple[Route, ...] = ()
    # Mail that an address here sends on elsewhere.
    forwarding: Forwarding = Forwarding()
    # Domains whose mail another server has, and we for it while it is away (backup
    # MX).
    relay_domains: dict[str, RelayDomain] = field(factory=dict)
    # Whom nothing is sent to any more.
    suppression: Suppression = Suppression()
    # Delivery agents by name, each with its kind and that kind's own settings.
    # The agent "smtp", of the kind smtp, is there in any case.
    agents: dict[str, Any] = field(factory=dict)
    # Policies, asked in this order, each with its kind and that kind's own
    # settings.
    policies: tuple[Any, ...] = ()
    # Who says whose a token is (OAUTHBEARER, XOAUTH2), each with its kind and that
    # kind's own settings.
    tokens: tuple[Any, ...] = ()
    # Searching in mail.
    search: Search = Search()
    # Where names are looked up.
    dns: Dns = Dns()
    # How this server uses the Web.
    web: Web = Web()
    # Reports to other domains of how TLS went.
    tls_reports: TlsReports = TlsReports()
    # Directories with drop-in plugin modules.
    plugin_path: tuple[Path, ...] = ()

    @property
    def worker_count(self) -> int:
        """How many processes serve."""
        return self.workers or min(WORKERS_MOST, len(os.sched_getaffinity(0)))
