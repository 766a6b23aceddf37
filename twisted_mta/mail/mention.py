"""What some reader may take for an address in a field of addresses.

Programs read a From that is not well formed in different ways: of C{a@x <b@y>} some
see the first. Here is everything that any of them may see outside of quoted strings and
comments (RFC 5322 3.2), for whoever has to be sure of all of them. It trusts nothing,
and is linear.
"""

import re

#: Stands for a local part that is quoted.
QUOTED = b"\0"

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OUTSIDE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[^"()\\]++|[()]', re.DOTALL)
_IN_COMMENT = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)
# As programs write it before a name: [List] Somebody.
_LABEL = re.compile(rb"(?<!@)\[[^\[\]@<>,;:]*+\]")
_ADDRESS = re.compile(rb"[^\s<>,;:@]*+@[^\s<>,;:]*+")


def addresses(value: bytes) -> list[tuple[bytes, bytes]] | None:
    """Local parts, or L{QUOTED}, and domains.

    @param value: unfolded.
    @return: C{None} if it cannot be said.
    """
    bare = _bare(value)
    if bare is None or b"[" in (bare := _LABEL.sub(b" ", bare)):
        return None
    found = []
    for text in _ADDRESS.findall(bare):
        local, _, domain = text.partition(b"@")
        whole = local == QUOTED or QUOTED not in text
        if not (local and domain and whole) or b"@" in domain:
            return None
        found.append((local, domain))
    return found


def _bare(value: bytes) -> bytes | None:
    """A value with a space for each comment and L{QUOTED} for each quoted string."""
    if _CONTROL.search(value):
        return None
    pieces: list[bytes] = []
    at = depth = 0
    while at < len(value):
        found = (_IN_COMMENT if depth else _OUTSIDE).match(value, at)
        if found is None or (found[0] == b")" and not depth):
            return None
        at = found.end()
        if found[0] in (b"(", b")"):
            depth += 1 if found[0] == b"(" else -1
            pieces.append(b" ")
        elif not depth:
            pieces.append(QUOTED if found[0][:1] == b'"' else found[0])
    return None if depth else b"".join(pieces)
