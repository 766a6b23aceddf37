"""SASLprep (RFC 4013): a name or password in the one form that all clients send."""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The prepared form; unassigned code points stay as they are (a query, RFC 3454
    7).

    @raise ValueError: it has characters that cannot be, or none are left.
    """
    if text.isascii() and text.isprintable() and text:
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(
        prohibited(char) for char in prepared for prohibited in _PROHIBITED
    ):
        raise ValueError("not a name or password")
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    if any(right_to_left):  # RFC 3454 6
        mixed = any(map(stringprep.in_table_d2, prepared))
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            raise ValueError("mixed directions")
    return prepared
