"""The parameters of MIME fields (RFC 2045 5.1, RFC 2231), as octets.

C{text/plain; charset=utf-8; name*0*=utf-8''a; name*1*=b} becomes a token and
pairs. It is read as mail programs write it rather than as the grammar has it:
spaces and parentheses in values that should have been quoted, quotes that do
not end, parameters that are empty. Nothing raises, and the work is linear.
"""

import re
from itertools import islice
from urllib.parse import quote_from_bytes, unquote_to_bytes

PARAMETERS_MAX = 128
"""Parameters of one field that are understood (Dovecot: 128)."""

Parameters = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values without their quotes."""

_TOKEN = re.compile(rb"[^\s;(]++")
_PARAMETER = re.compile(
    rb";\s*+([^\s=;\"]++)\s*+="
    rb"\s*+(?:\"((?:[^\"\\]++|\\.)*+)\"?|([^;]*+))",
    re.DOTALL,
)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"(?:^|[ \t])\(")
_CONTINUED = re.compile(rb"([^*]+)\*([0-9]{1,3})(\*?)")


def _plain(value: bytes) -> bytes:
    """A value that was not quoted, without a comment behind it. A parenthesis
    inside it stays: C{name=photo(1).jpg} is common."""
    comment = _COMMENT.search(value)
    return (value[: comment.start()] if comment else value).strip()


def _unquoted(value: bytes) -> bytes:
    return _PAIR.sub(rb"\1", value) if b"\\" in value else value


def _join(pairs: list[tuple[bytes, bytes]]) -> Parameters:
    """Put the continuations of RFC 2231 3 together, as Dovecot does: what has
    an extended piece gets the name C{x*} and keeps its percent encoding."""
    names: dict[bytes, bytes] = {}
    pieces: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    for name, value in pairs:
        continued = _CONTINUED.fullmatch(name)
        if continued is None:
            names.setdefault(name, value)
            continue
        base, number, star = continued.groups()
        found = pieces.setdefault(base, {})
        found.setdefault(int(number), (value, star == b"*"))
        names.setdefault(base + b"*0", b"")  # keeps its place in the order
    joined: dict[bytes, bytes] = {}
    for name, value in names.items():
        base = name[:-2]
        if name.endswith(b"*0") and base in pieces:
            if 0 not in pieces[base]:
                continue
            name, value = _continued(base, pieces[base])
        joined.setdefault(name, value)
    return tuple(joined.items())


def _continued(
    base: bytes, pieces: dict[int, tuple[bytes, bool]]
) -> tuple[bytes, bytes]:
    """One parameter from its pieces, up to the first gap."""
    run: list[tuple[bytes, bool]] = []
    while (piece := pieces.get(len(run))) is not None:
        run.append(piece)
    if not any(extended for value, extended in run):
        return base, b"".join(value for value, extended in run)
    return base + b"*", b"".join(
        value if extended else quote_from_bytes(value).encode("ascii")
        for value, extended in run
    )


def parse(value: bytes) -> tuple[bytes, Parameters]:
    """Split an unfolded value into its leading token and its parameters.

    @return: the token as written, C{b""} if there is none, and at most
        L{PARAMETERS_MAX} parameters, the first of each name.
    """
    if b"=" not in value:
        found = _TOKEN.match(value.lstrip())
        return (found[0] if found else b""), ()
    head, semicolon, rest = value.partition(b";")
    found = _TOKEN.match(head.lstrip())
    pairs = []
    for match in islice(_PARAMETER.finditer(semicolon + rest), PARAMETERS_MAX):
        name, quoted, plain = match.groups()
        value = _plain(plain) if quoted is None else _unquoted(quoted)
        pairs.append((name.lower(), value))
    return (found[0] if found else b""), _join(pairs)


def _extended(value: bytes) -> bytes:
    """Undo RFC 2231 4: the octets, without their charset and language."""
    _, second, encoded = value.partition(b"'")[2].partition(b"'")
    return unquote_to_bytes(encoded if second else value)


def octets(parameters: Parameters, name: bytes) -> bytes | None:
    """A parameter's value for programs, such as a boundary or a charset.

    @param name: in lower case, without a star.
    @return: C{None} when there is none.
    """
    values = dict(parameters)
    if name in values:
        return values[name]
    extended = values.get(name + b"*")
    return None if extended is None else _extended(extended)
