"""What a host says: the messages of section 4.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batches import Batch, Private
from game import Game
from packing import Sequence, lz4_unpack, lz4_write
from primitives import U32, U64, ProtocolError, Reader, integer, integers, little, text
from values import TEXT, U32_VALUE, Enum, ListOf, Optional, Text, Tuple, read_whole
from xxh3 import xxh3_64

PIECE = 16 * 1024
LARGEST = 256 * 2**20
LARGEST_MESSAGE = 263_168
MOST_LISTED = 256
ROOM_KINDS = ("open", "at rest", "made on demand")

REJECTION = Tuple((Text(64), Text(256)))
NAMES = ListOf(Tuple((TEXT, TEXT, U32_VALUE)))
REFUSAL = Enum(
    {
        "protocol": (NAMES,),
        "no room": (TEXT,),
        "rejected": REJECTION.fields,
        "closed": (TEXT,),
        "kicked": (TEXT,),
        "full": (),
        "shutting down": (),
        "elsewhere": (TEXT,),
    }
)
VERDICTS = ListOf(Tuple((U32_VALUE, Optional(REJECTION))))


@dataclass(frozen=True)
class Welcome:
    last_command: int
    epoch: int
    resumed: bool
    room: bytes
    user: bytes
    name: str


@dataclass(frozen=True)
class Refused:
    """A name without anything, or a name and what it carries."""

    refusal: Any


@dataclass(frozen=True)
class Chunk:
    """A piece of a snapshot or of a difference: its bytes unpacked, and what packed them, if anything did."""

    size: int
    at: int
    data: bytes
    packed: bytes | None = None
    difference: bool = False

    @property
    def last(self) -> bool:
        return self.at + len(self.data) == self.size


@dataclass(frozen=True)
class Verdicts:
    tick: int
    verdicts: list[Any]


@dataclass(frozen=True)
class Durable:
    tick: int


@dataclass(frozen=True)
class Speed:
    """In hundredths of 20 ticks a second."""

    speed: int


@dataclass(frozen=True)
class Listed:
    name: str
    taken: int
    seats: int
    kind: int


@dataclass(frozen=True)
class Rooms:
    prefix: str
    total: int
    rooms: list[Listed]


Message = Welcome | Refused | Chunk | Batch | Verdicts | Durable | Private | Speed | Rooms


def read(data: bytes, game: Game) -> Message:
    if len(data) > LARGEST_MESSAGE:
        raise ProtocolError(f"a message of {len(data)} bytes")
    reader = Reader(data)
    kind = reader.byte()
    found: Message
    if kind == 1:
        found = _read_welcome(reader)
    elif kind == 2:
        found = Refused(read_whole(REFUSAL, reader.rest()))
    elif kind in (3, 8):
        found = _read_chunk(reader, kind == 8)
    elif kind == 4:
        found = Batch.read(reader, game)
    elif kind == 5:
        found = Verdicts(reader.tick(), read_whole(VERDICTS, reader.rest()))
    elif kind == 6:
        found = Durable(reader.tick())
    elif kind == 7:
        found = Private.read(reader, game)
    elif kind == 9:
        found = Speed(reader.integer(400))
    elif kind == 10:
        found = _read_rooms(reader)
    else:
        raise ProtocolError(f"a host says nothing of kind {kind}")
    reader.done()
    return found


def _read_welcome(reader: Reader) -> Welcome:
    # Any byte but 0 stands for a 1 in a welcome.
    last, epoch, resumed = reader.integer(U32), reader.little(8), reader.byte() != 0
    return Welcome(last, epoch, resumed, reader.take(16), reader.take(16), reader.text(96))


def _read_chunk(reader: Reader, difference: bool) -> Chunk:
    """A piece has 16 KiB, or what is left of the whole if that is less."""
    size, at, packed = reader.integer(LARGEST), reader.integer(), reader.integer(PIECE)
    due = min(PIECE, size - at)
    if at % PIECE or due <= 0:
        raise ProtocolError(f"a piece of {size} bytes at {at}")
    data = reader.rest()
    plain = lz4_unpack(data, packed) if packed else data
    if len(plain) != due:
        raise ProtocolError(f"a piece of {len(plain)} bytes where {due} are due")
    return Chunk(size, at, plain, data if packed else None, difference)


def _read_rooms(reader: Reader) -> Rooms:
    prefix, total = reader.text(64), reader.integer(U32)
    rooms: list[Listed] = []
    for _ in range(reader.count(MOST_LISTED, 5)):
        room = Listed(reader.text(64, 1), reader.integer(U32), reader.integer(U32), reader.integer(2))
        name = room.name.encode()
        if not room.name.startswith(prefix) or rooms and name <= rooms[-1].name.encode():
            raise ProtocolError(f"a list of rooms can't go on with {room.name!r}")
        if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in room.name):
            raise ProtocolError("a room's name has a control character")
        rooms.append(room)
    if total < len(rooms):
        raise ProtocolError(f"{total} rooms in all, of which {len(rooms)} are listed")
    return Rooms(prefix, total, rooms)


def write(message: Message, game: Game) -> bytes:
    if isinstance(message, Welcome):
        head = b"\1" + integer(message.last_command) + little(message.epoch, 8) + bytes([message.resumed])
        return head + message.room + message.user + text(message.name, 96)
    if isinstance(message, Refused):
        return b"\2" + REFUSAL.write(message.refusal)
    if isinstance(message, Chunk):
        return write_chunk_head(message) + (message.packed or message.data)
    if isinstance(message, Batch):
        return b"\4" + message.write(game)
    if isinstance(message, Verdicts):
        return b"\5" + integer(message.tick) + VERDICTS.write(message.verdicts)
    if isinstance(message, Durable):
        return b"\6" + integer(message.tick)
    if isinstance(message, Private):
        return b"\7" + message.write(game)
    if isinstance(message, Speed):
        return b"\x09" + integer(message.speed)
    head = b"\x0a" + text(message.prefix, 64) + integers(message.total, len(message.rooms))
    return head + b"".join(write_listed(room) for room in message.rooms)


def write_listed(room: Listed) -> bytes:
    return text(room.name, 64) + integers(room.taken, room.seats, room.kind)


def write_chunk_head(chunk: Chunk) -> bytes:
    packed = len(chunk.data) if chunk.packed is not None else 0
    return integers(8 if chunk.difference else 3, chunk.size, chunk.at, packed)


def cut(data: bytes, difference: bool = False, pack: bool = False) -> list[Chunk]:
    """All pieces of a snapshot or a difference. Packed ones are literals alone: right, if not short."""
    if not 0 < len(data) <= LARGEST:
        raise ProtocolError(f"{len(data)} bytes can't be sent in pieces")
    found = []
    for at in range(0, len(data), PIECE):
        plain = data[at : at + PIECE]
        found.append(Chunk(len(data), at, plain, lz4_write([Sequence(plain)]) if pack else None, difference))
    return found


class Pieces:
    """Puts pieces together; one that begins at 0 starts over. Memory grows with what came, not with what was told."""

    def __init__(self) -> None:
        self.size = 0
        self.data = bytearray()
        self.going = False

    def add(self, chunk: Chunk) -> bytes | None:
        if chunk.at == 0:
            self.size, self.data, self.going = chunk.size, bytearray(), True
        if not self.going or chunk.size != self.size or chunk.at != len(self.data):
            raise ProtocolError(f"a piece at {chunk.at}, after {len(self.data)} of {self.size} bytes")
        self.data += chunk.data
        if not chunk.last:
            return None
        self.going = False
        return bytes(self.data)


def fingerprint(names: list[list[Any]]) -> int:
    """That of the names which a refusal lists, by the rule of section 9."""
    lines = "".join(f"{what} {name} {shape:08x}\n" for what, name, shape in names)
    return xxh3_64(lines.encode()) & U64
