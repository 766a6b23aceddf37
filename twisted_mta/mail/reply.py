"""A reply of the SMTP kind: a code, an enhanced status, lines of text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answers (RFC 5321 4.2, RFC 2034).

    @ivar code: three digits.
    @ivar status: the RFC 3463 status such as C{"5.1.1"}, empty where the reply
        has none (3yz, the greeting, EHLO).
    @ivar lines: the text, without codes and line ends; at least one.
    """

    code: int
    status: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines as one, for logs and DSNs."""
        return " ".join(self.lines)

    @property
    def positive(self) -> bool:
        """2yz."""
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        """5yz."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        status = f" {self.status}" if self.status else ""
        return f"{self.code}{status} {self.text}"
