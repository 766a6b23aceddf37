"""Replies as octets, and those that never change made once."""

import re

from twisted_mta.mail.reply import Reply


def render(reply: Reply) -> bytes:
    """A reply as it goes out, the enhanced status on each line (RFC 2034 4)."""
    status = f"{reply.status} " if reply.status else ""
    *first, last = reply.lines
    lines = [f"{reply.code}-{status}{line}\r\n" for line in first]
    return ("".join(lines) + f"{reply.code} {status}{last}\r\n").encode()


def made(code: int, status: str, text: str) -> bytes:
    """A reply of one line."""
    return render(Reply(code, status, (text,)))


_ENHANCED = re.compile(rb"(?m)^([245]\d\d[ -])[245]\.\d{1,3}\.\d{1,3} ")


def plain(answer: bytes) -> bytes:
    """Replies without their enhanced statuses, for who was not offered any."""
    return _ENHANCED.sub(rb"\1", answer)


_REFUSAL = re.compile(rb"(?m)^[45]\d\d .*(?=\r$)")


def signed(answer: bytes, session: str) -> bytes:
    """Refusals with the name under which the log says more of them."""
    return _REFUSAL.sub(rb"\g<0> (%b)" % session.encode(), answer)


OK = made(250, "2.0.0", "Ok")
SENDER_OK = made(250, "2.1.0", "Ok")
RECIPIENT_OK = made(250, "2.1.5", "Ok")
BYE = made(221, "2.0.0", "Bye")
HELP = made(214, "2.0.0", "See RFC 5321; ask postmaster for anything else")
CANNOT_VERIFY = made(252, "2.0.0", "Cannot verify, but will try to deliver")
NO_EXPANSION = made(502, "5.5.1", "Lists are not expanded here")
BEGIN_TLS = made(220, "2.0.0", "Begin TLS")
LOGGED_IN = made(235, "2.7.0", "Authentication succeeded")

NOT_OFFERED = made(555, "5.5.4", "A parameter that is not offered here")
NO_TLS_TO_REQUIRE = made(530, "5.7.10", "REQUIRETLS needs TLS: say STARTTLS first")
HELD_TOO_LONG = made(501, "5.5.4", "That is longer than a message may be held here")
HELD_UNTIL_PAST = made(501, "5.5.4", "HOLDUNTIL is past")
HELD_PAST_BY = made(501, "5.5.4", "It would be held until it is too late (BY)")
NO_SOLICITING = made(550, "5.7.1", "Solicitations of that class are not taken here")
BINARY_IN_CHUNKS = made(503, "5.5.1", "Binary content comes with BDAT")
NO_CHUNKING = made(502, "5.5.1", "BDAT is not offered here")
SAY_LHLO = made(500, "5.5.1", "This port speaks LMTP: say LHLO")
NO_LMTP = made(500, "5.5.1", "This port speaks SMTP: say EHLO")
NO_ETRN = made(502, "5.5.1", "ETRN is not offered here")
NO_SUCH_NODE = made(459, "4.7.1", "Not for that domain")
NOTHING_WAITS = made(251, "2.0.0", "No messages wait for that domain")
NO_SUCH_LOGIN = made(550, "5.1.1", "There is no account for that LOGIN")
NO_XCLIENT = made(550, "5.7.1", "Not from your address")
HELLO_FIRST = made(503, "5.5.1", "Say EHLO first")
MAIL_FIRST = made(503, "5.5.1", "Say MAIL first")
NESTED_MAIL = made(503, "5.5.1", "A transaction is under way")
CHUNKS_STARTED = made(503, "5.5.1", "Go on with BDAT, or say RSET")
CHUNK_FAILED = made(503, "5.5.1", "A chunk was refused: say RSET")
NO_RECIPIENTS = made(554, "5.5.1", "No valid recipients")
NO_RECIPIENTS_LMTP = made(503, "5.5.1", "No valid recipients")  # RFC 2033 4.2
TOO_MANY_RECIPIENTS = made(452, "4.5.3", "Too many recipients; send these later")
EACH_FOLLOWS = made(353, "", "An answer for each recipient follows")
SOMEBODY_TOOK_IT = made(250, "2.0.0", "Ok, for those with 250")
NOBODY_YET = made(450, "4.0.0", "Nobody took the message; please try again later")
NOBODY_TOOK_IT = made(550, "5.0.0", "Nobody took the message")
TOO_LARGE = made(552, "5.3.4", "The message is larger than the limit")
LOGIN_FIRST = made(530, "5.7.0", "Authentication required")
NOT_YOUR_SENDER = made(553, "5.7.1", "That sender address is not yours")
# Postfix: 5.1.0; there is no status for a sender whose mailbox does not exist (RFC
# 3463 3.2: 5.1.8 is of its domain).
NOBODYS_SENDER = made(550, "5.1.0", "Nobody here has that sender address")
# RFC 6409 4.2 says 554; Postfix: 504 5.5.2.
SENDER_UNQUALIFIED = made(554, "5.1.8", "The sender's domain is not fully qualified")
RECIPIENT_UNQUALIFIED = made(
    554, "5.1.2", "The recipient's domain is not fully qualified"
)
# Postfix: verp requires non-null sender address.
NO_SENDER_TO_VARY = made(501, "5.5.4", "XVERP needs a sender to write recipients into")
RETURNS_ONLY = made(
    550, "5.7.1", "That is a return address (SRS): only bounces, from <>, go there"
)
NO_AUTH = made(502, "5.5.1", "AUTH is not offered here")
TLS_FIRST = made(538, "5.7.11", "Passwords only under TLS: say STARTTLS first")
LOGGED_IN_ALREADY = made(503, "5.5.1", "Already authenticated")
NO_TLS = made(502, "5.5.1", "TLS is not offered now")
OUT_OF_STEP = made(554, "5.5.0", "You spoke before the answer; closing")
BUG = made(421, "4.3.0", "Internal error; please try again later")
TOO_MANY_ERRORS = made(421, "4.7.0", "Too many errors; closing")
TOO_MUCH_JUNK = made(421, "4.7.0", "Too many commands without mail; closing")
TIMEOUT = made(421, "4.4.2", "Timeout; closing")
TOO_SLOW = made(421, "4.4.2", "The message comes too slowly; closing")
STOPPING = made(421, "4.3.2", "The server is stopping; please try again")
