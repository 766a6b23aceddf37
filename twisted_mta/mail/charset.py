"""Charset names as mail has them, to text.

The names come from strangers, so they never reach Python's codec search, which
imports by name and remembers each name it did not find. Only the codecs of the
table below are used: all are linear, and none runs code, guesses, or hides
markup (UTF-7 does, and is left out as browsers leave it out).
"""

import codecs
from encodings.aliases import aliases

_ACCEPTED = """
    ascii big5 big5hkscs cp037 cp437 cp737 cp775 cp850 cp852 cp855 cp857 cp858
    cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869 cp874 cp932 cp949 cp950
    cp1006 cp1026 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256
    cp1257 cp1258 euc_jp euc_jis_2004 euc_jisx0213 euc_kr gb2312 gbk gb18030 hz
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3
    iso2022_jp_ext iso2022_kr iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6
    iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_11 iso8859_13 iso8859_14
    iso8859_15 iso8859_16 latin_1 johab koi8_r koi8_t koi8_u kz1048 mac_cyrillic
    mac_greek mac_iceland mac_latin2 mac_roman mac_turkish ptcp154 shift_jis
    shift_jis_2004 shift_jisx0213 tis_620 utf_8 utf_8_sig utf_16 utf_16_be
    utf_16_le utf_32 utf_32_be utf_32_le
"""
_CODECS = frozenset(_ACCEPTED.split())

_NAMES = {
    **{codec: codec for codec in _CODECS},
    **{alias: codec for alias, codec in aliases.items() if codec in _CODECS},
    # Names of mail that Python has not, and those that RFC 1554's users and
    # the web read as a superset (WHATWG Encoding 4.2).
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "ks_c_5601_1987": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x_gbk": "gb18030",
    "x_sjis": "cp932",
    "x_euc_jp": "euc_jp",
    "x_mac_roman": "mac_roman",
    "x_mac_cyrillic": "mac_cyrillic",
    "cp_850": "cp850",
    "utf8mb4": "utf_8",
    "unknown_8bit": "ascii",
}

_NAME_MAX = 40  # octets; IANA allows no longer names (RFC 2978 2.3)


def codec(name: bytes) -> str | None:
    """The codec for a charset's name in any case, C{None} if it is not known."""
    if len(name) > _NAME_MAX:
        return None
    normal = name.strip(b" \t\"'").decode("latin-1").lower()
    return _NAMES.get(normal.replace("-", "_").replace(" ", "_").replace(".", "_"))


def guess(octets: bytes) -> str:
    """Text of which no one said what it is: UTF-8 if it can be, else Latin-1,
    in which every octet is something."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decode(octets: bytes, name: bytes | None) -> str:
    """Decode, whatever the octets and whatever the name.

    @param name: the charset; when it is C{None}, unknown, or ASCII (which mail
        says of everything), L{guess} does it.
    """
    found = codec(name) if name else None
    if found is None or found == "ascii":
        return guess(octets)
    try:
        return codecs.decode(octets, found, "replace")
    except (UnicodeError, ValueError):
        return guess(octets)  # a decoder that gave up in spite of "replace"
