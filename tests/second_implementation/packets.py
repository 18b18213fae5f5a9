"""A host's packets with their frames, the stream within, parts, and a client's reports (sections 5 and 6).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batches import MOST_ENTITIES, deltas
from game import Game
from host_messages import LARGEST_MESSAGE
from primitives import NET_ID, ProtocolError, Reader, integer, integers, little

PACKET, REPORT = 16, 17
LARGEST_PACKET, LARGEST_BITS, LONGEST_WAIT = 1_200, 128, 60_000
FIRST_NUMBER = 1_024
MOST_SHIFT = 20
WINDOW, MOST_SPANS = 768 * 1024, 8_192


@dataclass(frozen=True)
class Piece:
    offset: int
    data: bytes

    def write(self, game: Game) -> bytes:
        return integer(self.offset) + self.data


@dataclass(frozen=True)
class Group:
    """The values of each component, in their order, of each net id."""

    shift: int
    components: list[int]
    nets: list[int]
    values: list[list[Any]]

    def write_head(self) -> bytes:
        head = bytes([self.shift * 8 + len(self.components) - 1])
        return head + integers(*self.components, len(self.nets), self.nets[0]) + write_gaps(self.nets, self.shift)


@dataclass(frozen=True)
class Part:
    """`back` is how many ticks the batch that it needs lies behind its packet."""

    groups: list[Group]
    back: int | None = None

    def write_head(self) -> bytes:
        needs = self.back is not None
        return integer(len(self.groups) * 2 + needs) + (integer(self.back) if self.back is not None else b"")

    def write(self, game: Game) -> bytes:
        out = self.write_head()
        for group in self.groups:
            out += group.write_head()
            for number, values in zip(group.components, group.values, strict=True):
                kind = game.component(number).kind
                out += b"".join(kind.write(value) for value in values)
        return out

    @staticmethod
    def read(reader: Reader, game: Game) -> Part:
        head = reader.integer()
        back = reader.tick() if head & 1 else None
        if (head >> 1) * 4 > reader.left:
            raise ProtocolError(f"{head >> 1} groups can't stand in {reader.left} bytes")
        groups = [_read_group(reader, game) for _ in range(head >> 1)]
        reader.done()
        return Part(groups, back)


@dataclass(frozen=True)
class Echo:
    report: int
    held: int
    complete: int

    def write(self, game: Game) -> bytes:
        return little(self.report, 2) + integers(self.held, self.complete)


@dataclass(frozen=True)
class Padding:
    pass


@dataclass(frozen=True)
class Frame:
    """`open` is that it has no size, and reaches to the end of the packet."""

    body: Piece | Part | Echo | Padding
    open: bool = False

    @property
    def kind(self) -> int:
        return 0 if isinstance(self.body, Piece) else 1 if isinstance(self.body, Part) else 2

    def write(self, game: Game) -> bytes:
        if isinstance(self.body, Padding):
            return b"\6"
        body = self.body.write(game)
        return self.write_head(len(body)) + body

    def write_head(self, size: int) -> bytes:
        return bytes([self.kind * 2 + self.open]) + (b"" if self.open else integer(size))


@dataclass(frozen=True)
class Packet:
    """`number` is what was sent of it: 16 bits."""

    number: int
    tick: int
    frames: list[Frame]

    def write_head(self) -> bytes:
        return bytes([PACKET]) + little(self.number, 2) + integer(self.tick)

    def write(self, game: Game) -> bytes:
        out = self.write_head() + b"".join(frame.write(game) for frame in self.frames)
        if len(out) > LARGEST_PACKET or any(frame.open for frame in self.frames[:-1]):
            raise ProtocolError("a packet that is too long, or goes on behind an open frame")
        return out

    @staticmethod
    def read(data: bytes, game: Game) -> Packet:
        if len(data) > LARGEST_PACKET:
            raise ProtocolError(f"a packet of {len(data)} bytes")
        reader = Reader(data)
        if reader.byte() != PACKET:
            raise ProtocolError("no packet")
        number, tick = reader.little(2), reader.tick()
        frames = []
        while reader.left:
            frames.append(_read_frame(reader, game))
        return Packet(number, tick, frames)


def _read_frame(reader: Reader, game: Game) -> Frame:
    head = reader.integer()
    if head == 6:
        return Frame(Padding())
    # An echo always has its size: 5 would be one that is open.
    if head > 4:
        raise ProtocolError(f"a frame of kind {head}")
    kind, is_open = head >> 1, bool(head & 1)
    inner = reader.sub(reader.left if is_open else reader.integer())
    if kind == 0:
        return Frame(Piece(inner.integer(), inner.rest()), is_open)
    if kind == 1:
        return Frame(Part.read(inner, game), is_open)
    echo = Echo(inner.little(2), inner.integer(LONGEST_WAIT), inner.tick())
    inner.done()
    return Frame(echo, is_open)


def _read_group(reader: Reader, game: Game) -> Group:
    shift, components = divmod(reader.byte(), 8)
    if shift > MOST_SHIFT:
        raise ProtocolError(f"a shift of {shift}")
    numbers = [reader.integer() for _ in range(components + 1)]
    kinds = []
    for number in numbers:
        component = game.component(number)
        if not component.latest or numbers.count(number) > 1:
            raise ProtocolError(f"{component.name} can't stand in this part")
        kinds.append(component.kind)
    count = reader.integer(MOST_ENTITIES)
    if not 0 < count or count * sum(kind.least for kind in kinds) > reader.left:
        raise ProtocolError(f"{count} entities in a group")
    nets = read_gaps(reader, reader.integer(NET_ID), count, shift)
    return Group(shift, numbers, nets, [[kind.read(reader) for _ in nets] for kind in kinds])


def read_gaps(reader: Reader, first: int, count: int, shift: int) -> list[int]:
    """Net ids in a Rice code. A gap that leads past the last net id ends the reading, however long it says it is."""
    byte = left = 0

    def bit() -> int:
        nonlocal byte, left
        if not left:
            byte, left = reader.byte(), 8
        found = byte & 1
        byte, left = byte >> 1, left - 1
        return found

    nets = [first]
    while len(nets) < count:
        high = 0
        while bit():
            high += 1
            if high << shift > NET_ID:
                raise ProtocolError("a gap is too wide")
        gap = high << shift
        for place in range(shift):
            gap |= bit() << place
        nets.append(nets[-1] + gap + 1)
        if nets[-1] > NET_ID:
            raise ProtocolError(f"net id {nets[-1]} is above {NET_ID}")
    return nets


def write_gaps(nets: list[int], shift: int) -> bytes:
    bits: list[int] = []
    for delta in deltas(nets)[1:]:
        gap = delta - 1
        bits += [1] * (gap >> shift) + [0] + [gap >> place & 1 for place in range(shift)]
    whole = sum(bit << place for place, bit in enumerate(bits))
    return whole.to_bytes((len(bits) + 7) // 8, "little")


@dataclass(frozen=True)
class Report:
    """`bits` say which came of the packets before the newest, the nearest first."""

    number: int
    newest: int
    waited: int
    bits: bytes

    @staticmethod
    def read(data: bytes) -> Report:
        reader = Reader(data)
        if reader.byte() != REPORT:
            raise ProtocolError("no report")
        found = Report(reader.little(2), reader.little(2), reader.integer(LONGEST_WAIT), reader.rest())
        if len(found.bits) > LARGEST_BITS:
            raise ProtocolError(f"a report of {len(found.bits)} bytes of bits")
        return found

    def write(self) -> bytes:
        return bytes([REPORT]) + little(self.number, 2) + little(self.newest, 2) + integer(self.waited) + self.bits

    def came(self) -> list[tuple[int, bool]]:
        """Each packet that is spoken of behind the newest, up to the last that came, and whether it did."""
        whole = int.from_bytes(self.bits, "little")
        return [(self.newest - 1 - at & 0xFFFF, bool(whole >> at & 1)) for at in range(whole.bit_length())]

    @staticmethod
    def of(number: int, numbers: set[int], waited: int) -> Report:
        """A report of these packets, with no more bits than the oldest of them needs."""
        newest = max(numbers)
        whole = sum(1 << newest - 1 - other for other in numbers if other < newest)
        bits = whole.to_bytes((whole.bit_length() + 7) // 8, "little")[:LARGEST_BITS]
        return Report(number & 0xFFFF, newest & 0xFFFF, min(waited, LONGEST_WAIT), bits)


def widen(newest: int | None, sent: int) -> int | None:
    """The whole number of a packet: the one that ends so and is nearest to the newest. None if it is too old."""
    if newest is None:
        return sent
    ahead = (sent - newest + 0x8000 & 0xFFFF) - 0x8000
    return newest + ahead if ahead > -1_024 else None


class Stream:
    """Puts the pieces of the stream in order and gives out the messages that are whole."""

    def __init__(self) -> None:
        self.base = 0
        self.window = bytearray()
        self.spans: list[tuple[int, int]] = []
        self.inbox = bytearray()

    def add(self, piece: Piece) -> list[bytes]:
        data = piece.data[max(0, self.base - piece.offset) :]
        start = max(piece.offset, self.base) - self.base
        end = start + len(data)
        if end > WINDOW:
            raise ProtocolError("a piece lies too far ahead of the first byte that is missing")
        if data:
            self._put(start, end, data)
        return self._messages()

    def _put(self, start: int, end: int, data: bytes) -> None:
        self.window.extend(bytes(max(0, end - len(self.window))))
        apart: list[tuple[int, int]] = []
        low, high = start, end
        for first, last in self.spans:
            if last < start or first > end:
                apart.append((first, last))
                continue
            inner_low, inner_high = max(first, start), min(last, end)
            if self.window[inner_low:inner_high] != data[inner_low - start : inner_high - start]:
                raise ProtocolError("a piece repeats bytes otherwise")
            low, high = min(low, first), max(high, last)
        self.window[start:end] = data
        self.spans = sorted([*apart, (low, high)])
        if self.spans[0][0] == 0:
            ready = self.spans.pop(0)[1]
            self.inbox += self.window[:ready]
            del self.window[:ready]
            self.base += ready
            self.spans = [(first - ready, last - ready) for first, last in self.spans]
        if len(self.spans) > MOST_SPANS:
            raise ProtocolError("too many pieces lie behind a missing byte")

    def _messages(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            reader = Reader(bytes(self.inbox[:9]))
            try:
                size = reader.integer()
            except ProtocolError:
                # Too few bytes for a size yet: more will come.
                return found
            if not 0 < size <= LARGEST_MESSAGE:
                raise ProtocolError(f"a message of {size} bytes")
            if len(self.inbox) < reader.at + size:
                return found
            found.append(bytes(self.inbox[reader.at : reader.at + size]))
            del self.inbox[: reader.at + size]


def write_stream(messages: list[bytes]) -> bytes:
    return b"".join(integer(len(message)) + message for message in messages)
