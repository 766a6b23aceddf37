"""How the arguments of each command are read.

It knows the grammar of RFC 3501 9 and of the extensions named in the docstrings,
and nothing of states or of what the commands do. Each function reads from the
space before the arguments to the end of the command.
"""

import re
from collections.abc import Callable

from twisted_mta.mail.placement import FlagChange
from twisted_mta.wire import sasl
from twisted_mta.wire.imap import fetch, search
from twisted_mta.wire.imap.lexer import Cursor
from twisted_mta.wire.imap.model import (
    Append,
    Authenticate,
    Command,
    Copy,
    Create,
    Enable,
    Fetch,
    Id,
    List,
    Login,
    Lsub,
    MailboxCommand,
    Rename,
    Search,
    Status,
    Store,
    UidExpunge,
)


def bare(cursor: Cursor, tag: bytes, name: str) -> Command:
    cursor.end()
    return Command(tag, name)


def login(cursor: Cursor, tag: bytes, name: str) -> Login:
    cursor.space()
    user = cursor.text()
    cursor.space()
    password = cursor.text()
    cursor.end()
    return Login(tag, name, user, password)


def authenticate(cursor: Cursor, tag: bytes, name: str) -> Authenticate:
    """With an initial response (RFC 4959)."""
    cursor.space()
    mechanism = cursor.word()
    if cursor.ended():
        return Authenticate(tag, name, mechanism, None)
    cursor.space()
    try:
        initial = sasl.decode_initial(cursor.octets[cursor.at :])
    except sasl.MalformedResponse:
        cursor.fail("Invalid base64")
    return Authenticate(tag, name, mechanism, initial)


#: RFC 2971 3.3: at most 30 fields; names up to 30 octets, values up to 1024.
_ID_FIELDS = 30


def client_id(cursor: Cursor, tag: bytes, name: str) -> Id:
    """ID (RFC 2971)."""
    cursor.space()
    fields: list[tuple[str, str | None]] = []
    if not cursor.accept(b"("):
        if cursor.nil_or_text() is not None:
            cursor.fail("Expected NIL or a list")
    elif not cursor.accept(b")"):
        fields.append(_id_field(cursor))
        while cursor.accept(b" "):
            if len(fields) == _ID_FIELDS:
                cursor.fail("Too many fields")
            fields.append(_id_field(cursor))
        if not cursor.accept(b")"):
            cursor.fail("Expected the end of the list")
    cursor.end()
    return Id(tag, name, tuple(fields))


def _id_field(cursor: Cursor) -> tuple[str, str | None]:
    field = cursor.string()
    cursor.space()
    value = cursor.nil_or_text()
    if len(field) > 30 or len(value or "") > 1024:
        cursor.fail("Field is too long")
    return field.decode("utf-8", "replace").lower(), value


def enable(cursor: Cursor, tag: bytes, name: str) -> Enable:
    """ENABLE (RFC 5161)."""
    cursor.space()
    names = [cursor.word()]
    while cursor.accept(b" "):
        names.append(cursor.word())
    cursor.end()
    return Enable(tag, name, tuple(dict.fromkeys(names)))


def mailbox(cursor: Cursor, tag: bytes, name: str) -> MailboxCommand:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.end()
    return MailboxCommand(tag, name, mailbox)


_ATTRIBUTE = re.compile(rb"\\[A-Za-z]{1,32}")


def create(cursor: Cursor, tag: bytes, name: str) -> Create:
    """CREATE, with USE (RFC 6154 3)."""
    cursor.space()
    mailbox = cursor.mailbox()
    uses: list[str] = []
    if cursor.accept(b" "):
        if not cursor.accept(b"(") or cursor.word() != "USE":
            cursor.fail("Unknown CREATE parameter")
        cursor.space()
        uses = _listed(cursor, _attribute)
        if not cursor.accept(b")"):
            cursor.fail("Expected the end of the parameters")
    cursor.end()
    return Create(tag, name, mailbox, tuple(dict.fromkeys(uses)))


def _attribute(cursor: Cursor) -> str:
    octets = cursor.token(_ATTRIBUTE, "an attribute")
    return "\\" + octets[1:].decode("ascii").capitalize()


def rename(cursor: Cursor, tag: bytes, name: str) -> Rename:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    target = cursor.mailbox()
    cursor.end()
    return Rename(tag, name, mailbox, target)


def _listed(cursor: Cursor, one: Callable[[Cursor], str]) -> list[str]:
    """A list in parentheses, perhaps empty."""
    if not cursor.accept(b"("):
        cursor.fail("Expected a list")
    if cursor.accept(b")"):
        return []
    found = [one(cursor)]
    while cursor.accept(b" "):
        found.append(one(cursor))
    if not cursor.accept(b")"):
        cursor.fail("Expected the end of the list")
    return found


_SELECTION = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
_RETURNS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})
#: RFC 5258 sets no bound; each pattern is tried on every mailbox (ours).
_MOST_PATTERNS = 100


def list_mailboxes(cursor: Cursor, tag: bytes, name: str) -> List:
    """LIST (RFC 3501 6.3.8), with the options of RFC 5258 and RFC 6154."""
    cursor.space()
    extended = cursor.octets.startswith(b"(", cursor.at)
    selection: frozenset[str] = frozenset()
    if extended:
        selection = _options(cursor, _SELECTION)
        if selection in ({"RECURSIVEMATCH"}, {"RECURSIVEMATCH", "REMOTE"}):
            cursor.fail("RECURSIVEMATCH needs a selection to match")
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    if cursor.octets.startswith(b"(", cursor.at):
        extended = True
        patterns = _listed(cursor, Cursor.list_mailbox)
        if not 1 <= len(patterns) <= _MOST_PATTERNS:
            cursor.fail("No patterns, or too many")
    else:
        patterns = [cursor.list_mailbox()]
    returns: frozenset[str] = frozenset()
    if cursor.accept(b" "):
        extended = True
        if cursor.word() != "RETURN":
            cursor.fail("Expected RETURN")
        cursor.space()
        returns = _options(cursor, _RETURNS)
    cursor.end()
    unique = tuple(dict.fromkeys(patterns))
    return List(tag, name, reference, unique, selection, returns, extended)


def _options(cursor: Cursor, known: frozenset[str]) -> frozenset[str]:
    options = frozenset(_listed(cursor, Cursor.word))
    if options - known:
        cursor.fail("Unknown LIST option")
    return options


def lsub(cursor: Cursor, tag: bytes, name: str) -> Lsub:
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    pattern = cursor.list_mailbox()
    cursor.end()
    return Lsub(tag, name, reference, pattern)


_STATUS_ITEMS = frozenset({"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"})


def status(cursor: Cursor, tag: bytes, name: str) -> Status:
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    items = tuple(dict.fromkeys(_listed(cursor, Cursor.word)))
    if not items or not _STATUS_ITEMS.issuperset(items):
        cursor.fail("Unknown STATUS item")
    cursor.end()
    return Status(tag, name, mailbox, items)


def append(cursor: Cursor, tag: bytes, name: str, size: int, waits: bool) -> Append:
    """APPEND up to the literal, of which only the announcement has arrived; the
    cursor's octets end before it."""
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    flags: tuple[str, ...] = ()
    if cursor.octets.startswith(b"(", cursor.at):
        flags = cursor.flags()
        cursor.space()
    received_at = None
    if cursor.octets.startswith(b'"', cursor.at):
        received_at = cursor.date_time()
        cursor.space()
    cursor.end()
    return Append(tag, name, mailbox, flags, received_at, size, waits)


def append_without_literal(cursor: Cursor, tag: bytes, name: str) -> Command:
    cursor.fail("APPEND needs a literal")


def search_program(cursor: Cursor, tag: bytes, name: str) -> Search:
    cursor.space()
    return Search(tag, name, search.program(cursor), name == "UID SEARCH")


def fetch_items(cursor: Cursor, tag: bytes, name: str) -> Fetch:
    cursor.space()
    numbers = cursor.numbers()
    cursor.space()
    items = fetch.items(cursor)
    uid = name == "UID FETCH"
    if uid and fetch.UID not in items:
        items = (fetch.UID, *items)
    return Fetch(tag, name, numbers, items, uid)


_CHANGES = {
    change + silent: (kind, bool(silent))
    for change, kind in (
        ("FLAGS", FlagChange.REPLACE),
        ("+FLAGS", FlagChange.ADD),
        ("-FLAGS", FlagChange.REMOVE),
    )
    for silent in ("", ".SILENT")
}


def store(cursor: Cursor, tag: bytes, name: str) -> Store:
    cursor.space()
    numbers = cursor.numbers()
    cursor.space()
    found = _CHANGES.get(cursor.word())
    if found is None:
        cursor.fail("Unknown STORE item")
    cursor.space()
    listed = cursor.octets.startswith(b"(", cursor.at)
    flags = cursor.flags() if listed else cursor.bare_flags()
    cursor.end()
    change, silent = found
    return Store(tag, name, numbers, change, silent, flags, name == "UID STORE")


def copy(cursor: Cursor, tag: bytes, name: str) -> Copy:
    cursor.space()
    numbers = cursor.numbers()
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.end()
    return Copy(tag, name, numbers, mailbox, name.startswith("UID "))


def uid_expunge(cursor: Cursor, tag: bytes, name: str) -> UidExpunge:
    cursor.space()
    numbers = cursor.numbers()
    cursor.end()
    return UidExpunge(tag, name, numbers)
