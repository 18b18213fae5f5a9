"""What a client says: the messages of section 3.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from game import Game
from primitives import U32, ProtocolError, Reader, integer, integers, little, text
from values import read_whole

VERSION = 8
LONGEST_ROOM, LONGEST_PAST = 64, 96
LARGEST_COMMAND = 1_024
LATEST_SEEN = 2**40 - 1


@dataclass(frozen=True)
class Held:
    room: bytes
    epoch: int
    tick: int
    latest: int


@dataclass(frozen=True)
class Hello:
    fingerprint: int
    room: str
    spectate: bool
    held: Held | None = None


@dataclass(frozen=True)
class Command:
    """`seen` is in 256ths of a tick."""

    number: int
    kind: int
    seen: int
    value: Any


@dataclass(frozen=True)
class Leave:
    pass


@dataclass(frozen=True)
class Diverged:
    tick: int


@dataclass(frozen=True)
class ListRooms:
    prefix: str


Message = Hello | Command | Leave | Diverged | ListRooms


def read(data: bytes, game: Game) -> Message:
    reader = Reader(data)
    kind = reader.byte()
    found: Message
    if kind == 1:
        found = _read_hello(reader)
    elif kind == 2:
        number, place, seen = reader.integer(U32), reader.integer(), reader.integer(LATEST_SEEN)
        if reader.left > LARGEST_COMMAND:
            raise ProtocolError(f"a command of {reader.left} bytes")
        found = Command(number, place, seen, read_whole(game.command(place)[1], reader.rest()))
    elif kind == 3:
        found = Leave()
    elif kind == 4:
        found = Diverged(reader.tick())
    elif kind == 5:
        _read_version(reader)
        found = ListRooms(reader.text(LONGEST_ROOM))
    else:
        raise ProtocolError(f"a client says nothing of kind {kind}")
    reader.done()
    return found


def _read_version(reader: Reader) -> None:
    version = reader.integer()
    if version != VERSION:
        raise ProtocolError(f"version {version}")


def _read_hello(reader: Reader) -> Hello:
    _read_version(reader)
    fingerprint = reader.little(8)
    room = reader.text(LONGEST_PAST)
    # Any byte but 0 stands for a 1 in a hello.
    spectate = reader.byte() != 0
    # Not of spectators alone: who asks for a past without being one is told so, by a refusal.
    if len(room.encode()) > LONGEST_ROOM and "@" not in room:
        raise ProtocolError("only where a past is asked for may a room's text be that long")
    held = Held(reader.take(16), reader.little(8), reader.tick(), reader.tick()) if reader.byte() else None
    return Hello(fingerprint, room, spectate, held)


def write(message: Message, game: Game) -> bytes:
    if isinstance(message, Hello):
        head = b"\1" + integer(VERSION) + little(message.fingerprint, 8) + text(message.room, LONGEST_PAST)
        return head + bytes([message.spectate]) + write_held(message.held)
    if isinstance(message, Command):
        kind = game.command(message.kind)[1]
        return b"\2" + integers(message.number, message.kind, message.seen) + kind.write(message.value)
    if isinstance(message, Leave):
        return b"\3"
    if isinstance(message, Diverged):
        return b"\4" + integer(message.tick)
    return b"\5" + integer(VERSION) + text(message.prefix, LONGEST_ROOM)


def write_held(held: Held | None) -> bytes:
    if held is None:
        return b"\0"
    return b"\1" + held.room + little(held.epoch, 8) + integers(held.tick, held.latest)


def past(room: str) -> tuple[str, str, float] | None:
    """A room's name, and which past of it is asked for: `ago` or `time` in seconds, or a `tick`."""
    name, at, when = room.rpartition("@")
    if not at:
        return None
    if ago := re.fullmatch(r"-(\d{1,9}(?:\.\d{1,9})?)([sm])", when):
        return name, "ago", float(ago[1]) * (60 if ago[2] == "m" else 1)
    if re.fullmatch(r"\d{1,10}", when):
        return name, "tick", int(when)
    if time := re.fullmatch(r"(\d{1,9}):(\d\d(?:\.\d{1,9})?)", when):
        return name, "time", 60 * int(time[1]) + float(time[2])
    raise ProtocolError(f"no past is called {when}")
