"""Messages as people and machines write them, always the same ones.

A seeded generator: header fields as mail has them after some hops, text alone,
text with HTML beside it, or with a small attachment; 4 KB on average. Words have
the frequencies of a language, and each message has one that no other has.
"""

import base64
import random
import time
from collections.abc import Iterator

_SYLLABLES = "ba co di fa ge hi jo ku la me ni po qua re si ta vu wo xe zy"
_DAY_S = 86_400


class Letters:
    """The generator."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        chance = self._random
        words = ["".join(chance.choices(_SYLLABLES.split(), k=3)) for _ in range(5000)]
        weights = [1 / (rank + 2) for rank in range(len(words))]
        self._names = [word.capitalize() for word in words[200:600]]
        self._words = words
        # Paragraphs are made once and messages put together from them: the
        # generator must not be slower than the servers.
        self._paragraphs = [
            self._paragraph(chance.choices(words, weights, k=75)) for _ in range(3000)
        ]

    def _paragraph(self, words: list[str]) -> str:
        lines = [" ".join(words[at : at + 10]) for at in range(0, len(words), 10)]
        return "\r\n".join(lines) + ".\r\n\r\n"

    def word(self, rank: int) -> bytes:
        """A word of the language, by how common it is; those of 200 to 599 are
        names, too."""
        return self._words[rank].encode()

    def messages(self, count: int) -> Iterator[tuple[float, bytes]]:
        """Messages and their INTERNALDATE, the youngest of today, over two
        years."""
        chance = self._random
        now = time.time()
        for number in range(count):
            at = now - (count - number) / count * 730 * _DAY_S
            yield at, self._message(number, at, chance)

    def _message(self, number: int, at: float, chance: random.Random) -> bytes:
        sender, other = self._person(), self._person()
        date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(at))
        subject = " ".join(chance.choices(self._words, k=5))
        fields = [
            "Return-Path: <bounces@lists.example.net>",
            "Received: from mx.example.net (mx.example.net [192.0.2.7])\r\n"
            f"\tby mail.example.test with ESMTPS id {number:012x};\r\n\t{date}",
            "Received: from [198.51.100.3] by mx.example.net with ESMTPSA;\r\n"
            f"\t{date}",
            f"DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=s1;\r\n"
            f"\tbh={self._code(32)};\r\n\tb={self._code(128)}",
            f"Message-ID: <{number}.{at:.0f}@example.net>",
            f"Date: {date}",
            f"From: {sender}",
            f"To: {other}",
            f"Subject: {subject}",
            "MIME-Version: 1.0",
        ]
        if chance.random() < 0.4:
            fields.append(f"Cc: {self._person()},\r\n {self._person()}")
        if chance.random() < 0.5:
            fields.append(f"In-Reply-To: <{number - 1}.x@example.net>")
            fields.append(f"References: <{number - 2}.x@example.net>")
        if chance.random() < 0.3:
            fields.append("List-Id: talk <talk.lists.example.net>")
        text = "".join(chance.choices(self._paragraphs, k=chance.randint(1, 5)))
        text += f"unique{number}word\r\n"
        kind = chance.random()
        if kind < 0.5:
            fields.append("Content-Type: text/plain; charset=utf-8")
            body = text
        elif kind < 0.85:
            fields.append(self._multipart("alternative", number))
            html = "<html><body><p>" + text.replace("\r\n\r\n", "</p>\r\n<p>")
            body = self._parts(number, ["text/plain", text], ["text/html", html])
        else:
            fields.append(self._multipart("mixed", number))
            attached = base64.encodebytes(chance.randbytes(1500)).decode()
            attached = attached.replace("\n", "\r\n")
            kind_ = 'application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64'
            body = self._parts(number, ["text/plain", text], [kind_, attached])
        return ("\r\n".join(fields) + "\r\n\r\n" + body).encode("ascii")

    def _person(self) -> str:
        first, last = self._random.choices(self._names, k=2)
        return f"{first} {last} <{first.lower()}.{last.lower()}@example.net>"

    def _code(self, octets: int) -> str:
        return base64.b64encode(self._random.randbytes(octets)).decode()

    def _multipart(self, subtype: str, number: int) -> str:
        return f'Content-Type: multipart/{subtype}; boundary="=_{number}"'

    def _parts(self, number: int, *parts: list[str]) -> str:
        pieces = [
            f"--=_{number}\r\nContent-Type: {kind}\r\n\r\n{text}\r\n"
            for kind, text in parts
        ]
        return "".join(pieces) + f"--=_{number}--\r\n"
