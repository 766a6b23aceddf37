"""Mail that is sent again although it was accepted: once, where that can be had.

Between our commit and the moment at which the client has read the 250, the
connection may break or this process may die. Such a client sends its message again,
as it must (RFC 5321 4.5.4, and of the duplicates RFC 1047). So each message is noted
in the transaction that accepts it, by a fingerprint of client, envelope and content,
and the note is taken back once the client has gone on, for then it knows. What is sent
again while there is a note whose client is gone was accepted already: it is not
accepted anew, but noted once more, under the id of the first.

A note has an owner, the process whose session waits for the client to go on. It is
I{unseen} if that process is dead, or has written that the client is gone. All else is
a new message, however alike: two that come at the same time, on two connections or
to two processes, are two; so is one whose first was seen. Where it cannot be known
the message is new, since a copy too many is better than one too few.

A client may be gone and nobody tells us: its network has changed, or what was between
us has forgotten the connection. Then its system does not acknowledge the answer,
however often ours repeats it, and after some seconds it counts as gone. If it goes on
nevertheless, its message was seen.

The notes that are taken back leave with the next message that is accepted, at the
latest a second later, so that there are hardly more than connections: some pages
that every group of messages writes anyway. Kept for an hour by their fingerprint,
they would be spread over as many pages as the disk has room for. Measured in groups of
20 messages of 2 KB: 3.4 us of statements a message and 8 KB of log a group (of 56),
against 14 us and 105 to 200 KB.

BUGS: a client that is back within these seconds, or, at another worker, within the
milliseconds that the word of its end takes, is accepted twice. Of a process that was
killed, what clients saw in its last moments may not be noted: if one of those sends the
very same message again within the hour, on purpose, it is not accepted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mta.delivery.alarm import Alarm
from twisted_mta.delivery.claim import Claim, Key, Screen, take_back
from twisted_mta.errors import Temporary
from twisted_mta.interfaces import ILedger, ITransaction

# What clients have seen is noted within this time, if nothing is accepted meanwhile.
_NOTE_S = 1.0

# How long a client has said nothing when it is looked whether its system has the
# answer. Linux has sent it five times by then (RFC 6298: again after 0.2 s, and twice
# as long each time); who gives up a connection sooner is rare.
_HANGS_S = 6.0

# Notes that one message takes along, which the reactor's thread may write: 1 us each.
_ALONG = 64

# How often it is looked for notes that are too old, and how many one transaction
# removes, so that none is long.
_SWEEP_S = 60.0
_SWEPT = 500

# Notes at most, of some 90 octets: who leaves more clients in the dark than this in an
# hour has other troubles. Of more than these the oldest go. The greylist has a million.
_MOST = 100_000


class Resends:
    """What clients know of what this process accepted for them.

    @param within_s: how long a note is good.
    @param most: how many notes there are at most, but for those since they were
        last counted.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: ILedger,
        within_s: float,
        most: int = _MOST,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._within_s = within_s
        self._most = most
        # Notes to be taken back, and those whose clients are gone, by id. The writer's
        # thread looks whether an id is among the latter.
        self._seen: list[Key] = []
        # Clients that have said nothing since they were told, the oldest first.
        self._silent: dict[int, tuple[float, bytes, Callable[[], bool]]] = {}
        self._lost: dict[int, bytes] = {}
        self._screen = Screen(ledger, within_s, self._lost)
        self._alarm = Alarm(clock)
        self._swept_at = 0.0
        self._stopping = False
        self._loop: Deferred[None] | None = None

    # --- for the intake ---

    def claim(self, fingerprint: bytes, id: int) -> Claim:
        """A message that is about to be accepted.

        @param id: L{Envelope.id <twisted_mta.mail.envelope.Envelope>}.
        """
        along, self._seen = self._seen, []
        if len(along) > _ALONG:
            along, self._seen = along[:_ALONG], along[_ALONG:]
        return Claim(self._screen, fingerprint, id, self._clock.seconds(), along)

    def give_back(self, claim: Claim) -> None:
        """It was not accepted, and nothing was noted."""
        self._seen += claim.seen

    def promised(self, fingerprint: bytes, id: int, heard: Callable[[], bool]) -> None:
        """See L{IIntake.promised <twisted_mta.interfaces.IIntake.promised>}."""
        self._silent[id] = self._clock.seconds(), fingerprint, heard

    def seen(self, fingerprint: bytes, id: int) -> None:
        """See L{IIntake.seen <twisted_mta.interfaces.IIntake.seen>}."""
        self._silent.pop(id, None)
        self._lost.pop(id, None)
        self._seen.append((fingerprint, id))

    def unseen(self, fingerprint: bytes, id: int) -> None:
        """See L{IIntake.unseen <twisted_mta.interfaces.IIntake.unseen>}."""
        self._silent.pop(id, None)
        self._lost[id] = fingerprint
        self._alarm.wake()

    # --- beside ---

    async def start(self) -> None:
        """Begin to note what clients saw."""
        self._loop = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """End, with all noted."""
        self._stopping = True
        self._alarm.wake()
        if self._loop is not None:
            await self._loop
            await self._guarded(self._note())

    async def _run(self) -> None:
        while not self._stopping:
            now = self._clock.seconds()
            if now - self._swept_at >= _SWEEP_S:
                self._swept_at = now
                await self._guarded(self._sweep())
            self._look_for_hung(now)
            if not await self._guarded(self._note()):
                self._alarm = Alarm(self._clock)  # not woken by what waits already
            await self._alarm.wait(_NOTE_S)

    def _look_for_hung(self, now: float) -> None:
        """Note clients that must be gone. Each is looked at once."""
        while self._silent:
            id, (at, fingerprint, heard) = next(iter(self._silent.items()))
            if now - at < _HANGS_S:
                return
            del self._silent[id]
            if not heard():
                self._lost[id] = fingerprint

    async def _guarded(self, work: Awaitable[None]) -> bool:
        """@return: whether it was done; if not, it is done later."""
        try:
            await work
        except Temporary as error:
            self._log.warn("what clients saw is not noted yet: {why}", why=error.text)
            return False
        except CancelledError:
            raise
        except Exception:
            self._log.failure("what clients saw cannot be noted")
            return False
        return True

    async def _note(self) -> None:
        """Write what is news."""
        seen, lost = self._seen, [(key, id) for id, key in self._lost.items()]
        if not (seen or lost):
            return
        self._seen = []

        def unit(transaction: ITransaction) -> None:
            take_back(transaction, seen)
            transaction.executemany(
                "UPDATE accepted SET owner = '' WHERE fingerprint = ? AND id = ?", lost
            )

        try:
            await self._ledger.write(unit, brief=len(seen) + len(lost) <= _ALONG)
        except BaseException:
            self._seen = seen + self._seen
            raise
        for _, id in lost:
            self._lost.pop(id, None)

    async def _sweep(self) -> None:
        """Remove notes that are too old, or too many."""
        before = self._clock.seconds() - self._within_s

        def query(transaction: ITransaction) -> list[Key]:
            old = "SELECT fingerprint, id FROM accepted WHERE at < ? LIMIT ?"
            found = list(transaction.execute(old, (before, _SWEPT)))
            if found:
                return [(bytes(fingerprint), id) for fingerprint, id in found]
            ((count,),) = transaction.execute("SELECT COUNT(*) FROM accepted")
            oldest = "SELECT fingerprint, id FROM accepted ORDER BY at LIMIT ?"
            most = max(0, min(count - self._most, _SWEPT))
            found = list(transaction.execute(oldest, (most,)))
            return [(bytes(fingerprint), id) for fingerprint, id in found]

        while not self._stopping and (keys := await self._ledger.read(query)):
            await self._ledger.write(partial(take_back, keys=keys))
