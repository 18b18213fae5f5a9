"""The frame of what a client says: packets of renet (section 3).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from dataclasses import dataclass

from primitives import ProtocolError, Reader, quic

SAID, ACKNOWLEDGED = 0, 4
MOST_MESSAGES, LARGEST_MESSAGE, MOST_RANGES = 600, 1_150, 64


@dataclass(frozen=True)
class Said:
    """Reliable messages, each with its id."""

    sequence: int
    messages: list[tuple[int, bytes]]

    def write(self) -> bytes:
        out = self.write_head()
        for number, data in self.messages:
            out += quic(number) + quic(len(data)) + data
        return out

    def write_head(self) -> bytes:
        if not 1 <= len(self.messages) <= MOST_MESSAGES:
            raise ProtocolError(f"{len(self.messages)} messages in a packet")
        return quic(SAID) + quic(self.sequence) + b"\0" + len(self.messages).to_bytes(2, "big")


@dataclass(frozen=True)
class Acknowledged:
    """Which packets came, the newest first: ranges of (highest, how many)."""

    sequence: int
    ranges: list[tuple[int, int]]

    def write(self) -> bytes:
        (end, length), *further = self.ranges
        out = quic(ACKNOWLEDGED) + quic(self.sequence) + quic(end) + quic(length - 1) + quic(len(further))
        first = end - length + 1
        for end, length in further:
            out += quic(first - end - 2) + quic(length - 1)
            first = end - length + 1
        return out


def read(data: bytes) -> Said | Acknowledged:
    reader = Reader(data)
    kind = reader.byte()
    sequence = reader.quic()
    if kind == SAID:
        found: Said | Acknowledged = _read_said(reader, sequence)
    elif kind == ACKNOWLEDGED:
        found = _read_acknowledged(reader, sequence)
    else:
        raise ProtocolError(f"a renet packet of kind {kind}")
    reader.done()
    return found


def _read_said(reader: Reader, sequence: int) -> Said:
    if reader.byte():
        raise ProtocolError("a channel that is not 0")
    count = int.from_bytes(reader.take(2), "big")
    if not 1 <= count <= MOST_MESSAGES:
        raise ProtocolError(f"{count} messages in a packet")
    messages = []
    for _ in range(count):
        number, size = reader.quic(), reader.quic()
        if not 1 <= size <= LARGEST_MESSAGE:
            raise ProtocolError(f"a message of {size} bytes")
        messages.append((number, reader.take(size)))
    return Said(sequence, messages)


def _read_acknowledged(reader: Reader, sequence: int) -> Acknowledged:
    ranges: list[tuple[int, int]] = []
    end, length = reader.quic(), reader.quic() + 1
    further = reader.quic()
    if further > MOST_RANGES:
        raise ProtocolError(f"{further} further ranges")
    while True:
        if length > end + 1:
            raise ProtocolError("a range of sequences that begins below 0")
        ranges.append((end, length))
        if len(ranges) > further:
            return Acknowledged(sequence, ranges)
        gap, more = reader.quic(), reader.quic()
        end, length = end - length + 1 - gap - 2, more + 1
        if end < 0:
            raise ProtocolError("a range of sequences that ends below 0")
