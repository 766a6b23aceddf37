"""What ends an IMAP command, or the session, for reasons of IMAP alone.

How domain errors read is in L{twisted_mta.servers.errors}.
"""


class Refused(Exception):
    """A command that is answered with NO or BAD for reasons of IMAP alone.

    @ivar condition: C{b"NO"} or C{b"BAD"}.
    """

    def __init__(self, text: str, code: bytes = b"", condition: bytes = b"NO") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.condition = condition


class Leave(Exception):
    """The session is over.

    @ivar goodbye: octets to write before the connection closes, if any.
    """

    def __init__(self, goodbye: bytes = b"") -> None:
        super().__init__("the session is over")
        self.goodbye = goodbye
