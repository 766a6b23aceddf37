"""SEARCH with an index: the same answers, whatever the index knows."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.servers.imapdrive import RECEIVED_AT, Server, now
from tests.servers.test_imap_search import DAY, ENCODED, mail
from twisted_mta.interfaces import IMailbox, ISearchable
from twisted_mta.mail.criterion import Found
from twisted_mta.mail.placement import Part
from twisted_mta.servers.imap import search
from twisted_mta.store.memory import MemoryStore
from twisted_mta.testing.search_contract import matches

KEYS = (
    *("TEXT needle", "BODY needle", "SUBJECT n", 'HEADER X-Empty ""', "FROM ann"),
    *("SINCE 3-Jan-2024", "BEFORE 3-Jan-2024", "ON 3-Jan-2024", "SEEN", "2:3"),
    *("SENTSINCE 1-Jan-2002", "LARGER 1000", 'TEXT ""', "TEXT noon", "ALL"),
)
PROGRAMS = st.recursive(
    st.sampled_from(KEYS),
    lambda inner: st.one_of(
        inner.map("NOT ({})".format),
        st.tuples(inner, inner).map(lambda two: "OR ({}) ({})".format(*two)),
        st.tuples(inner, inner).map(lambda two: "({}) ({})".format(*two)),
    ),
    max_leaves=6,
)


@implementer(IMailbox, ISearchable)
class Indexed:
    """A mailbox with an index that knows more or less, as it is told.

    @ivar knowledge: gives what the index does with each message: C{0}: it knows,
        C{1}: it must be looked at; and C{9} for a criterion: it says nothing.
    @ivar asked: how many criteria it was asked.
    """

    def __init__(self, mailbox, knowledge) -> None:
        self._mailbox = mailbox
        self._knowledge = knowledge
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self._mailbox, name)

    async def find(self, criteria):
        self.asked += len(criteria)
        rows = (await self._mailbox.changes()).rows
        parts = frozenset({Part.OCTETS})
        messages = await self._mailbox.fetch([row.uid for row in rows], parts)
        return [self._found(criterion, messages) for criterion in criteria]

    def _found(self, criterion, messages):
        if self._knowledge() == 9:
            return None
        unsure = {message.uid for message in messages if self._knowledge() == 1}
        sure = {
            message.uid
            for message in messages
            if matches(message.octets, message.received_at, criterion)
        }
        return Found(frozenset(sure - unsure), frozenset(unsure))


class SearchIndexTests(TestCase):
    """L{ISearchable} as sessions use it."""

    def setUp(self) -> None:
        self.patch(search, "_FEW", 0)
        self.patch(search, "_CRITERIA", 2)
        self.server = server = Server(MemoryStore())
        server.put(mail("lunch", "At noon?"), flags=["\\Seen", "\\Answered"])
        server.put(ENCODED, flags=["\\Flagged", "$Junk"], at=RECEIVED_AT + DAY)
        server.put(mail("dinner", "x" * 3000), flags=["\\Deleted", "\\Draft"])
        server.put(mail("late", "NEEDLE in a haystack", "X-Empty:\r\n"))
        server.put(mail("needle", "none"), flags=["\\Seen"], at=RECEIVED_AT - DAY)
        self.looking = server.select()
        self.knowledge = lambda: 0
        account = server.account()
        opened = Indexed(now(account.open("INBOX")), lambda: self.knowledge())
        self.indexed = opened

        async def open_indexed(self_, name):
            return opened

        self.patch(type(account), "open", open_indexed)
        self.client = server.select()

    def found(self, client, program: str) -> list[int]:
        client.send(f"s SEARCH {program}\r\n".encode())
        lines = client.received().decode().split("\r\n")
        self.assertEqual(lines[1], "s OK Search completed", program)
        return [int(word) for word in lines[0].split()[2:]]

    @settings(max_examples=150)
    @given(PROGRAMS, st.integers(0, 1 << 32))
    def test_same_answers(self, program, seed) -> None:
        """Whatever the program, and whatever the index knows and does not."""
        chance = Random(seed)
        self.knowledge = lambda: chance.choice((0, 0, 0, 1, 9))
        expected = self.found(self.looking, program)
        self.assertEqual(self.found(self.client, program), expected, program)

    def test_nothing_is_read(self) -> None:
        """What the index decides is not read."""
        self.patch(search, "_try_rows", None)
        for program, expected in {
            "TEXT needle": [4, 5],
            "UNSEEN BODY needle": [4],
            "NOT TEXT needle": [1, 2, 3],
            "OR SUBJECT lunch ON 1-Jan-2024": [1, 5],
            "SENTSINCE 1-Jan-2002": [2],
        }.items():
            self.assertEqual(self.found(self.client, program), expected, program)

    def test_few_messages_are_looked_at(self) -> None:
        """If the view leaves few messages, the index is not asked."""
        self.patch(search, "_FEW", 2)
        self.assertEqual(self.found(self.client, "4 TEXT needle"), [4])
        self.assertEqual(self.indexed.asked, 0)
        self.assertEqual(self.found(self.client, "2:4 TEXT needle"), [4])
        self.assertEqual(self.indexed.asked, 1)

    def test_many_criteria(self) -> None:
        """When answers have become too much to be held, the rest is looked for."""
        self.patch(search, "_ANSWERED_UIDS", 3)
        program = "OR TEXT needle OR TEXT noon OR TEXT haystack OR BODY none TEXT zz"
        self.assertEqual(self.found(self.client, program), [1, 4, 5])
        self.assertEqual(self.indexed.asked, 4)
