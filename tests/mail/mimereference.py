"""A second scanner, slow and plain: line by line over a whole message.

It states what L{twisted_mta.mail.mime} must find, without its limits, pieces
and searches.
"""

from typing import Any

from twisted_mta.mail import content, parameter
from twisted_mta.mail.structure import Kind


class Open:
    def __init__(self, start: int, default: content.Content) -> None:
        self.start = self.body = start
        self.end = -1
        self.kind = Kind.LEAF
        self.content = default
        self.boundary: bytes | None = None
        self.children: list[Open] = []


def scan(octets: bytes) -> list[Any]:
    """The tree as C{[header_start, body_start, end, kind, lines, children]}."""
    root = Open(0, content.PLAIN)
    stack = [root]
    in_header = True
    at = 0

    def end_header(body: int) -> None:
        part = stack[-1]
        part.body = max(body, part.start)
        part.content = content.parse(octets[part.start : part.body], part.content)

    def close(level: int, end: int) -> None:
        while len(stack) > level:
            part = stack.pop()
            end = part.end = max(end, part.body)
            if stack:
                stack[-1].children.append(part)

    for line in _lines(octets):
        start, at = at, at + len(line)
        fitting = [
            (len(part.boundary), depth)
            for depth, part in enumerate(stack)
            if part.boundary and line.startswith(b"--" + part.boundary)
        ]
        if fitting:
            size, depth = max(fitting)
            end = start
            if octets[:end].endswith(b"\n"):
                end -= 1
                if octets[:end].endswith(b"\r"):
                    end -= 1
            if in_header:
                end_header(end)
            close(depth + 1, end)
            in_header = not line[2 + size :].startswith(b"--")
            if in_header:
                digest = stack[-1].content.subtype == b"digest"
                default = content.DIGEST if digest else content.PLAIN
                stack.append(Open(at, default))
            else:
                stack[-1].boundary = None
        elif in_header and line in (b"\n", b"\r\n"):
            end_header(at)
            in_header = _descend(stack)
    if in_header:
        end_header(len(octets))
    close(0, len(octets))
    return _tree(root, octets)


def _lines(octets: bytes) -> list[bytes]:
    pieces = octets.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + (
        [pieces[-1]] if pieces[-1] else []
    )


def _descend(stack: list[Open]) -> bool:
    """Whether what follows is a header again: that of a message within."""
    part = stack[-1]
    if part.content.type == b"multipart":
        found = parameter.octets(part.content.parameters, b"boundary") or b""
        boundary = found.rstrip()
        if boundary and b"\n" not in boundary:
            part.boundary = boundary
            part.kind = Kind.MULTIPART
        return False
    encoded = part.content.encoding in (b"base64", b"quoted-printable")
    if part.content[:2] != (b"message", b"rfc822") or encoded:
        return False
    part.kind = Kind.MESSAGE
    stack.append(Open(part.body, content.PLAIN))
    return True


def _tree(part: Open, octets: bytes) -> list[Any]:
    return [
        part.start,
        part.body,
        part.end,
        part.kind if part.children else Kind.LEAF,
        octets[part.body : part.end].count(b"\n"),
        [_tree(child, octets) for child in part.children],
    ]
