"""Domains as the DNS names them (A-labels, RFC 5890)."""

import idna


def ascii_domain(domain: str) -> str:
    """A domain as A-labels, in lower case.

    @raise ValueError: no domain can have this name.
    """
    if domain.isascii():
        return domain.lower()
    return idna.encode(domain, uts46=True).decode("ascii")


def known_as(domain: str) -> str:
    """The same, or the domain as it is if none can have this name."""
    try:
        return ascii_domain(domain)
    except ValueError:
        return domain
