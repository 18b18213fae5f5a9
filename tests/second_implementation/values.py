"""Values: bincode 2 with variable-length integers, as the table of section 7 restates it.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Protocol

import primitives
from primitives import NET_ID, U32, ProtocolError, Reader, utf8

LARGEST = 65_536
NOBODY = None
MAPPED = 0x5EED0E57


class Type(Protocol):
    """How a value is read and written. `least` is the fewest bytes that one takes."""

    @property
    def least(self) -> int: ...

    def read(self, reader: Reader) -> Any: ...

    def write(self, value: Any) -> bytes: ...


def read_whole(kind: Type, data: bytes) -> Any:
    """A value that takes all of the bytes."""
    if len(data) > LARGEST:
        raise ProtocolError(f"a value of {len(data)} bytes")
    reader = Reader(data)
    value = kind.read(reader)
    reader.done()
    return value


def read_unsigned(reader: Reader, bits: int) -> int:
    """The shortest form alone, and no marker of a width that the type does not have."""
    first = reader.byte()
    if first <= 250:
        return first
    power = first - 250
    if power > 4 or 8 << power > bits:
        raise ProtocolError(f"{first} begins no number of {bits} bits")
    value = reader.little(1 << power)
    least = 251 if power == 1 else 1 << (8 << (power - 1))
    if value < least:
        raise ProtocolError(f"{value} is not in its shortest form")
    return value


def write_unsigned(value: int, bits: int) -> bytes:
    if not 0 <= value < 1 << bits:
        raise ProtocolError(f"{value} is no number of {bits} bits")
    if value <= 250:
        return bytes([value])
    power = next(power for power in range(1, 5) if value < 1 << (8 << power))
    return bytes([250 + power]) + value.to_bytes(1 << power, "little")


@dataclass(frozen=True)
class Bool:
    least: int = 1

    def read(self, reader: Reader) -> bool:
        return reader.flag()

    def write(self, value: bool) -> bytes:
        return b"\1" if value else b"\0"


@dataclass(frozen=True)
class Int:
    """An integer of so many bits, with or without sign."""

    bits: int
    signed: bool = False
    least: int = 1

    @property
    def lowest(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    def read(self, reader: Reader) -> int:
        if self.bits == 8:
            return int.from_bytes(reader.take(1), "little", signed=self.signed)
        value = read_unsigned(reader, self.bits)
        if self.signed:
            return -(value + 1) // 2 if value & 1 else value // 2
        return value

    def write(self, value: int) -> bytes:
        if not self.lowest <= value <= self.highest:
            raise ProtocolError(f"{value} is outside {self.lowest} to {self.highest}")
        if self.bits == 8:
            return value.to_bytes(1, "little", signed=self.signed)
        if self.signed:
            value = 2 * value if value >= 0 else -2 * value - 1
        return write_unsigned(value, self.bits)


@dataclass(frozen=True)
class Float:
    """IEEE 754 of 32 or 64 bits."""

    bits: int

    @property
    def least(self) -> int:
        return self.bits // 8

    @property
    def form(self) -> str:
        return "<f" if self.bits == 32 else "<d"

    def read(self, reader: Reader) -> float:
        return float(struct.unpack(self.form, reader.take(self.bits // 8))[0])

    def write(self, value: float) -> bytes:
        try:
            return struct.pack(self.form, value)
        except OverflowError:
            # What rounds to more than the largest f32 is infinite there, as in IEEE 754.
            return struct.pack(self.form, float("inf") if value > 0 else float("-inf"))


@dataclass(frozen=True)
class Char:
    least: int = 1

    def read(self, reader: Reader) -> str:
        first = reader.take(1)
        more = 0 if first[0] < 0xC0 else 1 if first[0] < 0xE0 else 2 if first[0] < 0xF0 else 3
        return utf8(first + reader.take(more))

    def write(self, value: str) -> bytes:
        return value.encode("utf-8")


@dataclass(frozen=True)
class Text:
    """A text, whose size is a number of this section, not of section 1."""

    most: int = LARGEST
    least: int = 1

    def read(self, reader: Reader) -> str:
        size = read_unsigned(reader, 64)
        if size > self.most:
            raise ProtocolError(f"a text of {size} bytes, more than {self.most}")
        return utf8(reader.take(size))

    def write(self, value: str) -> bytes:
        data = value.encode("utf-8")
        if len(data) > self.most:
            raise ProtocolError(f"a text of {len(data)} bytes, more than {self.most}")
        return write_unsigned(len(data), 64) + data


@dataclass(frozen=True)
class Tuple:
    """Fields one after the other: a tuple, an array, or a struct whose names do not matter. Unit has none."""

    fields: tuple[Type, ...]

    @property
    def least(self) -> int:
        return sum(kind.least for kind in self.fields)

    def read(self, reader: Reader) -> list[Any]:
        return [kind.read(reader) for kind in self.fields]

    def write(self, value: list[Any]) -> bytes:
        return b"".join(kind.write(item) for kind, item in zip(self.fields, value, strict=True))


@dataclass(frozen=True)
class Struct:
    """Fields one after the other, with names for people."""

    fields: dict[str, Type]

    @property
    def least(self) -> int:
        return sum(kind.least for kind in self.fields.values())

    def read(self, reader: Reader) -> dict[str, Any]:
        return {name: kind.read(reader) for name, kind in self.fields.items()}

    def write(self, value: dict[str, Any]) -> bytes:
        return b"".join(kind.write(value[name]) for name, kind in self.fields.items())


@dataclass(frozen=True)
class ListOf:
    item: Type
    least: int = 1

    def read(self, reader: Reader) -> list[Any]:
        count = read_unsigned(reader, 64)
        # Items that take no bytes would let a few bytes ask for any number of them.
        if count * self.item.least > reader.left or count > LARGEST:
            raise ProtocolError(f"{count} items can't stand in {reader.left} bytes")
        return [self.item.read(reader) for _ in range(count)]

    def write(self, value: list[Any]) -> bytes:
        return write_unsigned(len(value), 64) + b"".join(self.item.write(item) for item in value)


def MapOf(key: Type, value: Type) -> ListOf:
    """A map, as the list of its pairs: which order they have the document leaves open, so it is kept."""
    return ListOf(Tuple((key, value)))


@dataclass(frozen=True)
class Optional:
    item: Type
    least: int = 1

    def read(self, reader: Reader) -> Any:
        return self.item.read(reader) if reader.flag() else None

    def write(self, value: Any) -> bytes:
        return b"\0" if value is None else b"\1" + self.item.write(value)


@dataclass(frozen=True)
class Enum:
    """Variants by number. One without fields is its name alone, another one its name and its fields."""

    variants: dict[str, tuple[Type, ...]]
    least: int = 1
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.variants))

    def read(self, reader: Reader) -> Any:
        number = read_unsigned(reader, 32)
        if number >= len(self.names):
            raise ProtocolError(f"no variant {number} of {len(self.names)}")
        name = self.names[number]
        fields = self.variants[name]
        return (name, [kind.read(reader) for kind in fields]) if fields else name

    def write(self, value: Any) -> bytes:
        name, fields = value if isinstance(value, tuple) else (value, [])
        head = write_unsigned(self.names.index(name), 32)
        return head + Tuple(self.variants[name]).write(fields)


@dataclass(frozen=True)
class EntityId:
    least: int = 16

    def read(self, reader: Reader) -> bytes:
        return reader.take(16)

    def write(self, value: bytes) -> bytes:
        return value


@dataclass(frozen=True)
class Relationship:
    """The net id of a relationship's target: an integer of section 1, one more than it, or 0 for nobody."""

    least: int = 1

    def read(self, reader: Reader) -> int | None:
        value = reader.integer(NET_ID + 1)
        return value - 1 if value else NOBODY

    def write(self, value: int | None) -> bytes:
        return primitives.integer(0 if value is NOBODY else value + 1)


@dataclass(frozen=True)
class Mapped:
    """An entity within a component that is mapped."""

    least: int = 1

    def read(self, reader: Reader) -> int | None:
        value = read_unsigned(reader, 64)
        if value == 1:
            return NOBODY
        net = ~value & U32
        if value >> 32 != MAPPED or net > NET_ID:
            raise ProtocolError(f"{value:#x} is no entity that is mapped")
        return net

    def write(self, value: int | None) -> bytes:
        return write_unsigned(1 if value is NOBODY else MAPPED << 32 | ~value & U32, 64)


BOOL = Bool()
U8, U16, I8, I32, I64 = Int(8), Int(16), Int(8, True), Int(32, True), Int(64, True)
U32_VALUE, U64_VALUE = Int(32), Int(64)
F32, F64 = Float(32), Float(64)
CHAR, TEXT, ENTITY = Char(), Text(), EntityId()
