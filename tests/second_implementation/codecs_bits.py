"""The library's codecs of components: numbers of so many bits side by side (section 7).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from primitives import ProtocolError, Reader
from values import F32


def f32(value: float) -> float:
    """The nearest f32: every setting and every field is one, while what is between is f64."""
    return float(struct.unpack("<f", F32.write(value))[0])


def pack(numbers: list[int], widths: list[int]) -> bytes:
    whole = at = 0
    for number, width in zip(numbers, widths, strict=True):
        whole |= number << at
        at += width
    return whole.to_bytes((at + 7) // 8, "little")


def unpack(reader: Reader, widths: list[int]) -> list[int]:
    """The numbers, in the lowest bits first; what fills the last byte must be zeros."""
    whole = int.from_bytes(reader.take((sum(widths) + 7) // 8), "little")
    found = []
    for width in widths:
        found.append(whole & ((1 << width) - 1))
        whole >>= width
    if whole:
        raise ProtocolError("bits behind the last number are set")
    return found


@dataclass(frozen=True)
class Field:
    """A quantised field: `low` to `high` in steps of `step`."""

    low: float
    high: float
    step: float

    @property
    def steps(self) -> int:
        low, high, step = f32(self.low), f32(self.high), f32(self.step)
        return math.ceil((high - low) / step * (1 - 2.0**-23))


@dataclass(frozen=True)
class Quantised:
    fields: tuple[Field, ...]

    @property
    def widths(self) -> list[int]:
        return [field.steps.bit_length() for field in self.fields]

    @property
    def least(self) -> int:
        return (sum(self.widths) + 7) // 8

    def numbers(self, values: list[float]) -> list[int]:
        found = []
        for field, value in zip(self.fields, values, strict=True):
            low, high, steps = f32(field.low), f32(field.high), field.steps
            if math.isnan(value):
                found.append(0)
                continue
            clamped = min(max(f32(value), low), high)
            found.append(min(math.floor((clamped - low) * steps / (high - low) + 0.5), steps))
        return found

    def write(self, values: list[float]) -> bytes:
        return pack(self.numbers(values), self.widths)

    def read(self, reader: Reader) -> list[float]:
        found = []
        for field, number in zip(self.fields, unpack(reader, self.widths), strict=True):
            low, high, steps = f32(field.low), f32(field.high), field.steps
            if number > steps:
                raise ProtocolError(f"step {number} of {steps}")
            found.append(high if number == steps else f32(low + number * (high - low) / steps))
        return found


@dataclass(frozen=True)
class Angles:
    """Angles of so many bits each, a whole turn being 2^bits."""

    count: int
    bits: int

    @property
    def least(self) -> int:
        return (self.count * self.bits + 7) // 8

    def write(self, values: list[float]) -> bytes:
        turn = 1 << self.bits
        numbers = []
        for value in values:
            part = f32(value) / math.tau
            numbers.append(math.floor((part - math.floor(part)) * turn + 0.5) % turn)
        return pack(numbers, [self.bits] * self.count)

    def read(self, reader: Reader) -> list[float]:
        turn = 1 << self.bits
        numbers = unpack(reader, [self.bits] * self.count)
        return [f32((number - (turn if number >= turn // 2 else 0)) / turn * math.tau) for number in numbers]


@dataclass(frozen=True)
class Ranged:
    """Integers between two bounds each."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def widths(self) -> list[int]:
        return [(high - low).bit_length() for low, high in self.ranges]

    @property
    def least(self) -> int:
        return (sum(self.widths) + 7) // 8

    def write(self, values: list[int]) -> bytes:
        for value, (low, high) in zip(values, self.ranges, strict=True):
            if not low <= value <= high:
                raise ProtocolError(f"{value} is outside {low} to {high}")
        return pack([value - low for value, (low, _) in zip(values, self.ranges)], self.widths)

    def read(self, reader: Reader) -> list[int]:
        found = []
        for number, (low, high) in zip(unpack(reader, self.widths), self.ranges, strict=True):
            if number > high - low:
                raise ProtocolError(f"{number + low} is above {high}")
            found.append(number + low)
        return found


@dataclass(frozen=True)
class SmallestThree:
    """Unit quaternions x, y, z, w in 32 bits."""

    least: int = 4

    def write(self, value: list[float]) -> bytes:
        place = max(range(4), key=lambda at: (abs(value[at]), -at))
        sign = -1 if value[place] < 0 else 1
        steps = []
        for at in range(4):
            if at != place:
                scaled = sign * value[at] * 511 / math.sqrt(0.5)
                steps.append(int(math.copysign(math.floor(abs(scaled) + 0.5), scaled)))
        # What rounding has made larger than the largest would be read as another place: it gives way.
        while (worst := self._overtakes(steps, place)) is not None:
            steps[worst] -= 1 if steps[worst] > 0 else -1
        return pack([place] + [step + 511 for step in steps], [2, 10, 10, 10])

    def read(self, reader: Reader) -> list[float]:
        place, *numbers = unpack(reader, [2, 10, 10, 10])
        steps = [number - 511 for number in numbers]
        if max(steps) > 511 or self._overtakes(steps, place) is not None:
            raise ProtocolError("a part of a quaternion is larger than its largest")
        parts = [step * math.sqrt(0.5) / 511 for step in steps]
        parts.insert(place, math.sqrt(1 - sum(part * part for part in parts)))
        return [f32(part) for part in parts]

    @staticmethod
    def _overtakes(steps: list[int], place: int) -> int | None:
        """Which of the three is at least as large as the largest, and before it if they are equal.

        In whole numbers: the largest is sqrt(2 * 511^2 - the squares) of the same steps.
        """
        largest = 2 * 511 * 511 - sum(step * step for step in steps)
        for at, step in enumerate(steps):
            if step * step > largest or (step * step == largest and at < place):
                return at
        return None
