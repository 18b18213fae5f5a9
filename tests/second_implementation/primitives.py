"""Integers, texts and plain bytes (section 1), and the integers of renet's frames (section 3).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

U32 = 2**32 - 1
U48 = 2**48 - 1
U64 = 2**64 - 1
NET_ID = 2**20 - 1


class ProtocolError(Exception):
    """Bytes that the document does not allow, or a value that it has no bytes for."""


class Reader:
    """A bounded cursor over bytes; whatever is not there raises ProtocolError."""

    __slots__ = ("data", "at", "end")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ProtocolError(f"{size} bytes are due, {self.left} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def rest(self) -> bytes:
        return self.take(self.left)

    def sub(self, size: int) -> Reader:
        """A reader of the next bytes alone, so that nothing within can read past them."""
        return Reader(self.take(size))

    def byte(self) -> int:
        return self.take(1)[0]

    def little(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def integer(self, most: int = U64) -> int:
        first = self.byte()
        if first <= 240:
            value = first
        elif first <= 248:
            value = 240 + 256 * (first - 241) + self.byte()
        elif first == 249:
            value = 2288 + int.from_bytes(self.take(2), "big")
        else:
            value = int.from_bytes(self.take(first - 247), "big")
        if value > most:
            raise ProtocolError(f"{value} is above {most}")
        return value

    def tick(self) -> int:
        return self.integer(U32)

    def count(self, most: int = U64, each: int = 1) -> int:
        """A number of items, of at least `each` bytes: more than could follow are refused before any is read."""
        count = self.integer(most)
        if count * each > self.left:
            raise ProtocolError(f"{count} items can't stand in {self.left} bytes")
        return count

    def text(self, most: int = U64, least: int = 0) -> str:
        size = self.integer(most)
        if size < least:
            raise ProtocolError(f"a text of {size} bytes, fewer than {least}")
        return utf8(self.take(size))

    def flag(self) -> bool:
        value = self.byte()
        if value > 1:
            raise ProtocolError(f"{value} is neither 0 nor 1")
        return value == 1

    def quic(self) -> int:
        """An integer of RFC 9000, section 16, as renet's frames have them."""
        first = self.byte()
        more = (1 << (first >> 6)) - 1
        return (first & 0x3F) << (8 * more) | int.from_bytes(self.take(more), "big")

    def done(self) -> None:
        if self.left:
            raise ProtocolError(f"{self.left} bytes are left over")


def utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"no UTF-8: {error.reason}") from None


def integer(value: int) -> bytes:
    """The shortest form of an integer of section 1."""
    if not 0 <= value <= U64:
        raise ProtocolError(f"{value} is no 64-bit number")
    if value <= 240:
        return bytes([value])
    if value < 2288:
        high, low = divmod(value - 240, 256)
        return bytes([241 + high, low])
    if value <= 67823:
        return b"\xf9" + (value - 2288).to_bytes(2, "big")
    size = max(3, (value.bit_length() + 7) // 8)
    return bytes([247 + size]) + value.to_bytes(size, "big")


def integers(*values: int) -> bytes:
    return b"".join(integer(value) for value in values)


def text(value: str, most: int = U64) -> bytes:
    data = value.encode("utf-8")
    if len(data) > most:
        raise ProtocolError(f"a text of {len(data)} bytes, more than {most}")
    return integer(len(data)) + data


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def quic(value: int) -> bytes:
    """The shortest form of an integer of RFC 9000."""
    for power in range(4):
        size = 1 << power
        if value < 1 << (8 * size - 2):
            return (power << (8 * size - 2) | value).to_bytes(size, "big")
    raise ProtocolError(f"{value} has no form in RFC 9000")
