"""What all readers of SMTP commands share: what a wrong one is, and characters."""

# Above ASCII everything but the C1 controls, line and paragraph separators and
# the marks that reorder text (Unicode's Bidi_Control): what makes a terminal or
# a reader of logs see something else. RFC 8264 disallows them in names anyway.
UTF8_NON_ASCII = (
    r"\u00a0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff"
    r"\ue000-\U0010ffff"
)


class SyntaxFault(ValueError):
    """A command is not what the grammar says.

    @ivar code: the reply code, C{status}: the RFC 3463 status that explain it.
    """

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
