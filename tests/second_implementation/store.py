"""What a store keeps: frames of the journal, chunks of ticks, checkpoints, checksums (section 10).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batches import Batch, Snapshot
from game import Game
from packing import zstd_unpack, zstd_write
from primitives import U32, U48, U64, ProtocolError, Reader, integer, integers, text
from values import read_whole
from xxh3 import xxh3_64

BATCH, CHANCE, TAKEN = 1, 2, 4
REASONS = ("left", "timeout", "kicked")
LARGEST_CHUNK = 256 * 2**20

# Nothing was said, or it was accepted, or a code and a detail.
Verdict = None | bool | tuple[str, str]


@dataclass(frozen=True)
class Kind:
    """How a field of what a room took is read and written."""

    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]


def _blob(reader: Reader) -> bytes:
    return reader.take(reader.integer())


def _users(reader: Reader) -> list[bytes]:
    return [reader.take(16) for _ in range(reader.count(each=16))]


def sized(data: bytes) -> bytes:
    return integer(len(data)) + data


USER = Kind(lambda reader: reader.take(16), lambda value: value)
TEXT = Kind(lambda reader: reader.text(), text)
NUMBER = Kind(lambda reader: reader.integer(), integer)
SHORT = Kind(lambda reader: reader.integer(U32), integer)
REASON = Kind(lambda reader: reader.integer(len(REASONS) - 1), integer)
BYTES = Kind(_blob, sized)
USERS = Kind(_users, lambda value: integer(len(value)) + b"".join(value))

_COMMAND = {"user": USER, "command": SHORT, "kind": NUMBER}

# What a room took, by number; a verdict stands behind each.
TAKEN_KINDS: tuple[tuple[str, dict[str, Kind]], ...] = (
    ("join", {"user": USER, "name": TEXT}),
    ("leave", {"user": USER, "reason": REASON}),
    ("command", {**_COMMAND, "value": BYTES}),
    ("reset", {"label": TEXT, "tick": SHORT, "users": USERS, "state": TEXT}),
    ("undoing", {"seq": NUMBER, "changes": TEXT}),
    ("return", {"user": USER}),
    ("command seen", {**_COMMAND, "seen": NUMBER, "value": BYTES}),
    ("event", {"name": TEXT, "fact": TEXT}),
)


@dataclass(frozen=True)
class Taken:
    number: int
    fields: dict[str, Any]
    verdict: Verdict

    @property
    def name(self) -> str:
        return TAKEN_KINDS[self.number][0]

    @staticmethod
    def read(reader: Reader) -> Taken:
        number = reader.integer(len(TAKEN_KINDS) - 1)
        fields = {name: kind.read(reader) for name, kind in TAKEN_KINDS[number][1].items()}
        given = reader.integer(2)
        verdict: Verdict = (None, True)[given] if given < 2 else (reader.text(64), reader.text(256))
        return Taken(number, fields, verdict)

    def write(self) -> bytes:
        kinds = TAKEN_KINDS[self.number][1]
        out = integer(self.number) + b"".join(kind.write(self.fields[name]) for name, kind in kinds.items())
        if isinstance(self.verdict, tuple):
            return out + b"\2" + text(self.verdict[0], 64) + text(self.verdict[1], 256)
        return out + (b"\1" if self.verdict else b"\0")

    def value(self, game: Game) -> Any:
        """The command's value; what a player sent may be none, and is then refused."""
        return read_whole(game.command(self.fields["kind"])[1], self.fields["value"])


@dataclass(frozen=True)
class Tick:
    tick: int
    next_serial: int
    batch: Batch | None = None
    chance: bytes | None = None
    taken: list[Taken] | None = None

    @staticmethod
    def read(reader: Reader, game: Game) -> Tick:
        tick, flags, serial = reader.tick(), reader.byte(), reader.integer(U48 + 1)
        if flags > 7:
            raise ProtocolError(f"flags {flags}")
        batch = Batch.read(reader.sub(reader.integer()), game) if flags & BATCH else None
        if batch and batch.tick != tick:
            raise ProtocolError(f"a batch of tick {batch.tick} in tick {tick}")
        chance = _blob(reader) if flags & CHANCE else None
        taken = [Taken.read(reader) for _ in range(reader.count(each=2))] if flags & TAKEN else None
        return Tick(tick, serial, batch, chance, taken)

    @property
    def flags(self) -> int:
        return sum(1 << bit for bit, part in enumerate((self.batch, self.chance, self.taken)) if part is not None)

    def write_head(self) -> bytes:
        return integer(self.tick) + bytes([self.flags]) + integer(self.next_serial)

    def write(self, game: Game) -> bytes:
        out = self.write_head()
        if self.batch is not None:
            out += sized(self.batch.write(game))
        if self.chance is not None:
            out += sized(self.chance)
        if self.taken is not None:
            out += integer(len(self.taken)) + b"".join(taken.write() for taken in self.taken)
        return out


@dataclass(frozen=True)
class Texts:
    facts: list[str]
    refusals: list[str]

    @staticmethod
    def read(reader: Reader) -> Texts:
        facts, refusals = ([reader.text() for _ in range(reader.count())] for _ in range(2))
        return Texts(facts, refusals)

    def write(self) -> bytes:
        return write_texts(self.facts) + write_texts(self.refusals)


def write_texts(items: list[str]) -> bytes:
    return integer(len(items)) + b"".join(text(item) for item in items)


Ticks = list[tuple[Tick, Texts]]


@dataclass(frozen=True)
class JournalFrame:
    """A row of SQLite's journal: the ticks of each room, by its number."""

    rooms: list[tuple[int, Ticks]]

    @staticmethod
    def read(data: bytes, game: Game) -> JournalFrame:
        reader = Reader(data)
        rooms = []
        for _ in range(reader.count(each=2)):
            number = reader.integer()
            rooms.append((number, read_ticks_with_texts(reader.sub(reader.integer()), game)))
        reader.done()
        return JournalFrame(rooms)

    def write(self, game: Game) -> bytes:
        out = integer(len(self.rooms))
        for number, ticks in self.rooms:
            out += integer(number) + sized(write_ticks_with_texts(ticks, game))
        return out


def read_ticks_with_texts(reader: Reader, game: Game) -> Ticks:
    """What stands behind a room's size in SQLite, and is the whole frame in PostgreSQL."""
    found: Ticks = []
    while reader.left:
        found.append((Tick.read(reader, game), Texts.read(reader)))
    return found


def write_ticks_with_texts(ticks: Ticks, game: Game) -> bytes:
    return b"".join(tick.write(game) + texts.write() for tick, texts in ticks)


def read_ticks(data: bytes, game: Game) -> list[Tick]:
    """A chunk of ticks, unpacked: each is one later than the one before, for those without a batch are there too."""
    reader = Reader(data)
    found: list[Tick] = []
    while reader.left:
        tick = Tick.read(reader, game)
        if found and tick.tick != found[-1].tick + 1:
            raise ProtocolError(f"tick {tick.tick} follows {found[-1].tick}")
        found.append(tick)
    return found


def write_ticks(ticks: list[Tick], game: Game) -> bytes:
    return b"".join(tick.write(game) for tick in ticks)


def unpack_chunk(payload: bytes) -> bytes:
    reader = Reader(payload)
    size = reader.integer(LARGEST_CHUNK)
    return zstd_unpack(reader.rest(), size)


def pack_chunk(data: bytes) -> bytes:
    return integer(len(data)) + zstd_write(data)


@dataclass(frozen=True)
class Checkpoint:
    tick: int
    last_batch: int
    next_seq: int
    next_serial: int
    chance: bytes
    commands: list[tuple[bytes, int]]
    snapshot: Snapshot

    @staticmethod
    def read(data: bytes, game: Game) -> Checkpoint:
        reader = Reader(data)
        tick, last, seq, serial = reader.tick(), reader.tick(), reader.integer(), reader.integer(U48 + 1)
        chance = _blob(reader)
        # A number may be 2^32 more than a command's: nothing of that user was taken since it joined.
        commands = [(reader.take(16), reader.integer(2 * U32 + 1)) for _ in range(reader.count(each=17))]
        found = Checkpoint(tick, last, seq, serial, chance, commands, Snapshot.read(reader, game))
        if found.snapshot.tick != tick or last > tick or found.snapshot.next_seq != seq:
            raise ProtocolError("a standing and its snapshot differ")
        return found

    def write_standing(self) -> bytes:
        out = integers(self.tick, self.last_batch, self.next_seq, self.next_serial) + sized(self.chance)
        return out + integer(len(self.commands)) + b"".join(user + integer(last) for user, last in self.commands)

    def write(self, game: Game) -> bytes:
        return self.write_standing() + self.snapshot.write(game)


def place_seed(*numbers: int) -> int:
    seed = 0
    for number in numbers:
        seed = (seed * 31 + number) & U64
    return seed


def checksum(data: bytes, seed: int) -> int:
    """As a column of SQLite holds it: with sign."""
    value = xxh3_64(data, seed)
    return value - (1 << 64) if value >> 63 else value


def journal_sum(frame: bytes) -> int:
    return checksum(frame, 0)


def chunk_sum(payload: bytes, seqs: tuple[int, int], ticks: tuple[int, int], fingerprint: int) -> int:
    return checksum(payload, place_seed(*seqs, *ticks, fingerprint))


def checkpoint_sum(payload: bytes, fingerprint: int, tick: int, resumed: bool) -> int:
    return checksum(payload, (fingerprint + 2 * tick + resumed) & U64)


def room_sum(chain: bytes, fingerprint: int, sealed_tick: int | None, sealed_seq: int | None) -> int:
    """What is NULL counts as 0, and what is not by one more than it is."""
    places = [0 if place is None else place + 1 for place in (sealed_tick, sealed_seq)]
    return checksum(chain, place_seed(fingerprint, *places))
