"""A strict reader of what RFC 3501 9 allows in envelope, body and bodystructure.

It is an oracle: it takes nothing that the grammar does not, and shares no code
with what it checks.
"""

from typing import Any

NIL = None


class Syntax(AssertionError):
    """The octets are not what the grammar allows."""


class _Reader:
    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def peek(self) -> bytes:
        return self.octets[self.at : self.at + 1]

    def take(self, wanted: bytes) -> None:
        if not self.octets.startswith(wanted, self.at):
            raise Syntax(f"{wanted!r} at {self.octets[self.at : self.at + 40]!r}")
        self.at += len(wanted)

    def number(self) -> int:
        start = self.at
        while self.peek().isdigit():
            self.at += 1
        if start == self.at:
            raise Syntax(f"a number at {self.octets[start : start + 40]!r}")
        return int(self.octets[start : self.at])

    def string(self) -> bytes:
        if self.peek() == b"{":
            self.take(b"{")
            size = self.number()
            self.take(b"}\r\n")
            literal = self.octets[self.at : self.at + size]
            if len(literal) != size or b"\0" in literal:
                raise Syntax("a literal that is cut or has a NUL")
            self.at += size
            return literal
        self.take(b'"')
        out = bytearray()
        while (octet := self.peek()) != b'"':
            if octet == b"\\":
                self.at += 1
                octet = self.peek()
                if octet not in (b'"', b"\\"):
                    raise Syntax("a backslash before something else")
            if octet in (b"", b"\r", b"\n", b"\0") or octet > b"\x7f":
                raise Syntax(f"{octet!r} in a quoted string")
            out += octet
            self.at += 1
        self.at += 1
        return bytes(out)

    def nil(self) -> bool:
        if self.octets.startswith(b"NIL", self.at):
            self.at += 3
            return True
        return False

    def nstring(self) -> bytes | None:
        return NIL if self.nil() else self.string()

    def addresses(self) -> list[tuple[bytes | None, ...]] | None:
        if self.nil():
            return NIL
        self.take(b"(")
        out = []
        while not out or self.peek() == b"(":
            self.take(b"(")
            fields = [self.nstring()]
            for _ in range(3):
                self.take(b" ")
                fields.append(self.nstring())
            self.take(b")")
            out.append(tuple(fields))
        self.take(b")")
        return out

    def envelope(self) -> list[Any]:
        self.take(b"(")
        out: list[Any] = [self.nstring()]
        self.take(b" ")
        out.append(self.nstring())
        for _ in range(6):
            self.take(b" ")
            out.append(self.addresses())
        for _ in range(2):
            self.take(b" ")
            out.append(self.nstring())
        self.take(b")")
        return out

    def parameters(self) -> dict[bytes, bytes] | None:
        if self.nil():
            return NIL
        out = {}
        self.take(b"(")
        while True:
            name = self.string()
            self.take(b" ")
            out[name] = self.string()
            if self.peek() == b")":
                self.take(b")")
                return out
            self.take(b" ")

    def extension(self) -> list[Any]:
        """body-fld-dsp, body-fld-lang and body-fld-loc, all of them."""
        out: list[Any] = []
        self.take(b" ")
        if self.nil():
            out.append(NIL)
        else:
            self.take(b"(")
            kind = self.string()
            self.take(b" ")
            out.append((kind, self.parameters()))
            self.take(b")")
        self.take(b" ")
        if self.peek() == b"(":
            self.take(b"(")
            tags = [self.string()]
            while self.peek() == b" ":
                self.take(b" ")
                tags.append(self.string())
            self.take(b")")
            out.append(tags)
        else:
            out.append(self.nstring())
        self.take(b" ")
        out.append(self.nstring())
        return out

    def body(self, extended: bool) -> dict[str, Any]:
        self.take(b"(")
        out: dict[str, Any] = {}
        if self.peek() == b"(":
            children = []
            while self.peek() == b"(":
                children.append(self.body(extended))
            self.take(b" ")
            out = {"type": b"multipart", "subtype": self.string(), "parts": children}
            if extended:
                self.take(b" ")
                out["parameters"] = self.parameters()
                out["extension"] = self.extension()
            self.take(b")")
            return out
        out["type"] = self.string()
        self.take(b" ")
        out["subtype"] = self.string()
        self.take(b" ")
        out["parameters"] = self.parameters()
        self.take(b" ")
        out["id"] = self.nstring()
        self.take(b" ")
        out["description"] = self.nstring()
        self.take(b" ")
        out["encoding"] = self.string()
        self.take(b" ")
        out["size"] = self.number()
        message = (out["type"].lower(), out["subtype"].lower()) == (
            b"message",
            b"rfc822",
        )
        if message:
            self.take(b" ")
            out["envelope"] = self.envelope()
            self.take(b" ")
            out["body"] = self.body(extended)
        if message or out["type"].lower() == b"text":
            self.take(b" ")
            out["lines"] = self.number()
        if extended:
            self.take(b" ")
            out["md5"] = self.nstring()
            out["extension"] = self.extension()
        self.take(b")")
        return out


def envelope(octets: bytes) -> list[Any]:
    """Read an envelope; raises L{Syntax}."""
    reader = _Reader(octets)
    out = reader.envelope()
    if reader.at != len(octets):
        raise Syntax("something behind it")
    return out


def body(octets: bytes, extended: bool) -> dict[str, Any]:
    """Read a body, or a bodystructure if C{extended}; raises L{Syntax}."""
    reader = _Reader(octets)
    out = reader.body(extended)
    if reader.at != len(octets):
        raise Syntax("something behind it")
    return out
