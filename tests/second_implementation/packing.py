"""What packs pieces and chunks: LZ4 blocks (section 4) and the plain part of zstd frames (section 10).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from dataclasses import dataclass

from primitives import ProtocolError, Reader, little

ZSTD_MAGIC = 0xFD2FB528
ZSTD_BLOCK = 128 * 1024


@dataclass(frozen=True)
class Sequence:
    """Literals, then a match that lies `offset` bytes behind. The last sequence has no match: offset 0."""

    literals: bytes
    offset: int = 0
    length: int = 0


def _length(reader: Reader, nibble: int, most: int) -> int:
    """A length whose half a byte is full goes on for as long as bytes of 255 come."""
    if nibble < 15:
        return nibble
    value = 15
    while True:
        more = reader.byte()
        value += more
        if value > most:
            raise ProtocolError(f"a length of LZ4 is above {most}")
        if more < 255:
            return value


def lz4_sequences(data: bytes, size: int) -> list[Sequence]:
    """The sequences of a block that unpacks to at most `size` bytes."""
    reader = Reader(data)
    found: list[Sequence] = []
    while True:
        token = reader.byte()
        literals = reader.take(_length(reader, token >> 4, size))
        if not reader.left:
            if token & 15:
                raise ProtocolError("an LZ4 block ends within a match")
            found.append(Sequence(literals))
            return found
        offset = reader.little(2)
        found.append(Sequence(literals, offset, _length(reader, token & 15, size) + 4))


def lz4_unpack(data: bytes, size: int) -> bytes:
    """The `size` bytes of a block, no more and no fewer; nothing before the block can be referred to."""
    out = bytearray()
    for sequence in lz4_sequences(data, size):
        if len(out) + len(sequence.literals) + sequence.length > size:
            raise ProtocolError(f"an LZ4 block unpacks to more than {size} bytes")
        out += sequence.literals
        if sequence.length:
            if not 0 < sequence.offset <= len(out):
                raise ProtocolError(f"an LZ4 match {sequence.offset} bytes behind, of {len(out)}")
            # A match may reach into what it makes itself: then what is there repeats.
            there = bytes(out[-sequence.offset :][: sequence.length])
            out += (there * (sequence.length // len(there) + 1))[: sequence.length]
    if len(out) != size:
        raise ProtocolError(f"an LZ4 block unpacks to {len(out)} bytes, not {size}")
    return bytes(out)


def _nibble(length: int) -> tuple[int, bytes]:
    if length < 15:
        return length, b""
    more, last = divmod(length - 15, 255)
    return 15, b"\xff" * more + bytes([last])


def lz4_write(sequences: list[Sequence]) -> bytes:
    """The block of these sequences: which ones to choose is a packer's own affair, how they stand is not."""
    out = bytearray()
    for sequence in sequences:
        literals, more_literals = _nibble(len(sequence.literals))
        length, more_length = _nibble(sequence.length - 4) if sequence.length else (0, b"")
        out += bytes([literals << 4 | length]) + more_literals + sequence.literals
        if sequence.length:
            out += little(sequence.offset, 2) + more_length
    return bytes(out)


def zstd_unpack(data: bytes, size: int) -> bytes:
    """The `size` bytes of one frame whose blocks are raw or runs; one with compressed blocks is refused as such.

    A checksum of the frame's own is passed over: rows have one of theirs over all of the payload.
    """
    reader = Reader(data)
    if reader.little(4) != ZSTD_MAGIC:
        raise ProtocolError("no zstd frame")
    head = reader.byte()
    single, checksum = head >> 5 & 1, head >> 2 & 1
    if head & 0b1000:
        raise ProtocolError("a reserved bit of a zstd frame is set")
    if head & 3:
        raise ProtocolError("a zstd frame with a dictionary")
    if not single:
        reader.byte()
    width = (single, 2, 4, 8)[head >> 6]
    if width:
        told = reader.little(width) + (256 if width == 2 else 0)
        if told != size:
            raise ProtocolError(f"a zstd frame of {told} bytes, not {size}")
    out = bytearray()
    last = False
    while not last:
        block = reader.little(3)
        last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
        if length > ZSTD_BLOCK or len(out) + (length if kind < 2 else 0) > size:
            raise ProtocolError("a zstd block is too large")
        if kind == 0:
            out += reader.take(length)
        elif kind == 1:
            out += reader.take(1) * length
        else:
            raise ProtocolError("a zstd block that is compressed: not read here")
    if checksum:
        reader.take(4)
    reader.done()
    if len(out) != size:
        raise ProtocolError(f"a zstd frame unpacks to {len(out)} bytes, not {size}")
    return bytes(out)


def zstd_write(data: bytes) -> bytes:
    """A frame of raw blocks: any reader of zstd takes it."""
    out = little(ZSTD_MAGIC, 4) + bytes([0b10100000]) + little(len(data), 4)
    starts = range(0, len(data), ZSTD_BLOCK) or range(1)
    for at in starts:
        piece = data[at : at + ZSTD_BLOCK]
        out += little(len(piece) << 3 | (at + ZSTD_BLOCK >= len(data)), 3) + piece
    return out
