"""Messages for the tests of MIME: well formed, malformed, and made at random."""

from email.message import Message
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

from hypothesis import strategies as st

NESTED = b"""\
From: alice@example.test\r
To: bob@example.test\r
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=outer\r
\r
preamble\r
--outer\r
\r
plain\r
text\r
--outer\r
Content-Type: message/rfc822\r
Content-Description: forwarded\r
\r
From: carol@example.test\r
Subject: inner\r
Content-Type: multipart/alternative; boundary="inner one"\r
\r
--inner one\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: base64\r
\r
SGFsbG8gV2VsdA==\r
--inner one  \r
Content-Type: text/html\r
\r
<b>Hallo</b>\r
\r
--inner one--\r
inner epilogue\r
--outer\r
Content-Type: image/png; name=x.png\r
Content-Disposition: attachment; filename=x.png\r
\r
\x89PNG\r
--outer--\r
epilogue\r
"""

MALFORMED = (
    # No end, ends at once, ends twice, no line end behind it.
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b--\nx\n--b\ny",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\n\nx\n--b--\n--b--\n",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\r\n--b\r\n--b--",
    # No boundary, an empty one, one of white space, none that occurs.
    b"Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n----\r\n",
    b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\nx\r\n----\r\n',
    b'Content-Type: multipart/mixed; boundary=" "\r\n\r\n-- \r\n\r\nx\r\n-- --\r\n',
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--a\r\n\r\nx\r\n--a--\r\n",
    # The same boundary within itself, and one that starts like another.
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
    b"--b\r\n\r\ny\r\n--b--\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: multipart/mixed; boundary=b-c\r\n\r\n--b-c\r\n\r\nx\r\n--b-c--\r\n"
    b"--b\r\n\r\ny\r\n--b--\r\n",
    b"Content-Type: multipart/mixed; boundary=bcd\r\n\r\n--bcd\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--bcd\r\n"
    b"--b\r\n\r\ny\r\n--bcd--\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: multipart/mixed; boundary=b--\r\n\r\n--b--\r\n\r\nx\r\n--b----\r\n",
    # A boundary written as RFC 2231 has it, one that would break lines.
    b"Content-Type: multipart/mixed; boundary*=us-ascii''b%2D\r\n\r\n--b-\r\n\r\nx",
    b"Content-Type: multipart/mixed; boundary*=us-ascii''b%0Ac\r\n\r\n--b\nc\r\n\r\nx",
    # A boundary inside a header, a header that does not end, no header.
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n--b\r\n\r\n--b--",
    b"Content-Type: multipart/mixed; boundary=b\r\nA: b",
    b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
    # A digest, a message within at the root, and encoded or empty ones.
    b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\n"
    b"y\r\n--b\r\nContent-Type: text/plain\r\n\r\nz\r\n--b\r\n\r\n--b--\r\n",
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n\r\nx",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nYTo=",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n"
    b"\nSubject: x\n--b\n\ny\n--b--\n",
    # Line ends: bare LF, bare CR, mixtures; almost a boundary; nothing at all.
    b"A: b\rContent-Type: multipart/mixed; boundary=b\r\r--b\r\rx\r--b--\r",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\n\nx\r\r\n--b\r\n\nx\n\r--b",
    b"Content-Type: multipart/mixed; boundary=boundary\r\n\r\n--bound\r\n-\r\n--\r\n"
    b"--boundaryx\r\n\r\ny\r\n--boundary -- \r\n--boundary-\r\n\r\nz",
    b"",
    b"\n",
    b"\r",
    b"\r\n",
    b"A",
)

_TOKENS = (
    *(b"\r\n", b"\r\n", b"\n", b"\r", b"-", b"--", b" ", b"x", b"A: b\r\n"),
    *(b"\r\n--a", b"\r\n--ab", b"\n--a--", b"\r\n--b\r\n", b"--b--", b"\r\n\r\n"),
    b"Content-Type: multipart/mixed; boundary=a\r\n\r\n",
    b"Content-Type: multipart/digest; boundary=ab\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=b\n\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Type: text/html\r\n",
)

SOUP = st.lists(st.sampled_from(_TOKENS), max_size=25).map(b"".join)
"""Pieces of multiparts in any order."""


def _leaf(text: str) -> Message:
    return MIMEText(text, _charset="utf-8")


def _attachment(octets: bytes) -> Message:
    part = MIMEBase("application", "octet-stream")
    part.set_payload(octets.hex())
    part.add_header("Content-Disposition", "attachment", filename="ä b.bin")
    return part


def _multipart(children: list[Message]) -> Message:
    part = MIMEMultipart("mixed")
    for child in children:
        part.attach(child)
    return part


MESSAGES = st.recursive(
    st.text(max_size=30).map(_leaf) | st.binary(max_size=20).map(_attachment),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(_multipart) | inner.map(MIMEMessage)
    ),
    max_leaves=6,
)
"""Well-formed messages, as the standard library makes them."""
