"""The commands: a table of how each is read, in which states it is allowed, and
which commands may not run at the same time.

An extension's command is one function in L{arguments
<twisted_mta.wire.imap.arguments>} and one row here, and one C{do_} in the session.
"""

from collections.abc import Callable
from enum import Flag, auto
from typing import NamedTuple, TypeAlias

from twisted_mta.wire.imap import arguments
from twisted_mta.wire.imap.lexer import Cursor
from twisted_mta.wire.imap.model import Command


class State(Flag):
    """States of a session (RFC 3501 3); sets of them, too."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
LOGGED_IN = State.AUTHENTICATED | State.SELECTED


class Trait(Flag):
    """What running a command touches (the idea is Dovecot's imap-commands.h).

    @cvar USES_SEQS: it names messages by sequence number, so EXPUNGE may not be
        told while it runs (RFC 3501 7.4.1) and no command that tells it may
        run beside it.
    @cvar BREAKS_SEQS: when it ends, the session may tell EXPUNGE.
    @cvar USES_MAILBOX: it works on the selected mailbox or on mailbox names.
    @cvar BREAKS_MAILBOX: it changes which mailbox is selected.
    @cvar REQUIRES_SYNC: every earlier command must have been answered.
    """

    USES_SEQS = auto()
    BREAKS_SEQS = auto()
    USES_MAILBOX = auto()
    BREAKS_MAILBOX = auto()
    REQUIRES_SYNC = auto()


_Parse: TypeAlias = Callable[[Cursor, bytes, str], Command]


class Spec(NamedTuple):
    """One row.

    @ivar name: the command's, C{"UID "} before it for UID forms.
    @ivar parse: reads the arguments, from the space before them to the end.
    """

    name: str
    parse: _Parse
    states: State
    traits: Trait


_LOGIN = State.NOT_AUTHENTICATED
_SELECTED = State.SELECTED
_NONE = Trait(0)
_SEQS = Trait.USES_SEQS | Trait.USES_MAILBOX
_SEQS_THEN_BREAK = _SEQS | Trait.BREAKS_SEQS
_BREAK = Trait.BREAKS_SEQS
_WITH_UIDS = Trait.BREAKS_SEQS | Trait.USES_MAILBOX
_NAMES = Trait.USES_MAILBOX
_LEAVE = Trait.BREAKS_MAILBOX

#: Every command, by its name.
COMMANDS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("CAPABILITY", arguments.bare, ANY, _NONE),
        Spec("NOOP", arguments.bare, ANY, _BREAK),
        Spec("LOGOUT", arguments.bare, ANY, _LEAVE),
        Spec("ID", arguments.client_id, ANY, _NONE),
        Spec("STARTTLS", arguments.bare, _LOGIN, Trait.REQUIRES_SYNC),
        Spec("AUTHENTICATE", arguments.authenticate, _LOGIN, Trait.REQUIRES_SYNC),
        Spec("LOGIN", arguments.login, _LOGIN, Trait.REQUIRES_SYNC),
        # RFC 5161 3.1 wants ENABLE before a mailbox is selected; Dovecot takes
        # it later too, and nothing that we offer depends on it.
        Spec("ENABLE", arguments.enable, LOGGED_IN, _NONE),
        Spec("NAMESPACE", arguments.bare, LOGGED_IN, _NONE),
        Spec("SELECT", arguments.mailbox, LOGGED_IN, _LEAVE),
        Spec("EXAMINE", arguments.mailbox, LOGGED_IN, _LEAVE),
        Spec("CREATE", arguments.create, LOGGED_IN, _NAMES),
        Spec("DELETE", arguments.mailbox, LOGGED_IN, _NAMES | _LEAVE),
        Spec("RENAME", arguments.rename, LOGGED_IN, _NAMES),
        Spec("SUBSCRIBE", arguments.mailbox, LOGGED_IN, _NAMES),
        Spec("UNSUBSCRIBE", arguments.mailbox, LOGGED_IN, _NAMES),
        Spec("LIST", arguments.list_mailboxes, LOGGED_IN, _NAMES),
        Spec("LSUB", arguments.lsub, LOGGED_IN, _NAMES),
        Spec("STATUS", arguments.status, LOGGED_IN, _NAMES | _BREAK),
        Spec("APPEND", arguments.append_without_literal, LOGGED_IN, _NAMES | _BREAK),
        Spec("IDLE", arguments.bare, LOGGED_IN, _BREAK | Trait.REQUIRES_SYNC),
        Spec("CHECK", arguments.bare, _SELECTED, _WITH_UIDS),
        Spec("CLOSE", arguments.bare, _SELECTED, _LEAVE),
        Spec("UNSELECT", arguments.bare, _SELECTED, _LEAVE),
        Spec("EXPUNGE", arguments.bare, _SELECTED, _WITH_UIDS),
        Spec("SEARCH", arguments.search_program, _SELECTED, _SEQS),
        Spec("FETCH", arguments.fetch_items, _SELECTED, _SEQS),
        Spec("STORE", arguments.store, _SELECTED, _SEQS),
        Spec("COPY", arguments.copy, _SELECTED, _SEQS_THEN_BREAK),
        Spec("MOVE", arguments.copy, _SELECTED, _SEQS_THEN_BREAK),
        Spec("UID SEARCH", arguments.search_program, _SELECTED, _WITH_UIDS),
        Spec("UID FETCH", arguments.fetch_items, _SELECTED, _WITH_UIDS),
        Spec("UID STORE", arguments.store, _SELECTED, _WITH_UIDS),
        Spec("UID COPY", arguments.copy, _SELECTED, _WITH_UIDS),
        Spec("UID MOVE", arguments.copy, _SELECTED, _WITH_UIDS),
        Spec("UID EXPUNGE", arguments.uid_expunge, _SELECTED, _WITH_UIDS),
    )
}
