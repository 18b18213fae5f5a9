"""What both ends know of a game: its components, commands and facts. The sample game is moor.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from codecs_bits import f32
from primitives import ProtocolError
from values import ENTITY, F32, I32, TEXT, U32_VALUE, U64_VALUE, Enum, Float, Int, ListOf, Optional, Struct, Tuple, Type

Thing = TypeVar("Thing")

INC, DEC, INC_MAX, DEC_MIN = 1, 2, 3, 4


@dataclass(frozen=True)
class Component:
    name: str
    kind: Type
    latest: bool = False
    quantity: bool = False

    @property
    def amount(self) -> Int | Float:
        """The type of its amount. Those of moor are nothing but their amount."""
        if self.quantity and isinstance(self.kind, (Int, Float)):
            return self.kind
        raise ProtocolError(f"{self.name} is no quantity")


@dataclass(frozen=True)
class Game:
    components: tuple[Component, ...]
    commands: tuple[tuple[str, Type], ...]
    facts: tuple[tuple[str, Type], ...]

    def component(self, number: int) -> Component:
        return _at(self.components, number, "component")

    def command(self, number: int) -> tuple[str, Type]:
        return _at(self.commands, number, "command")

    def fact(self, number: int) -> tuple[str, Type]:
        return _at(self.facts, number, "fact")


def _at(things: tuple[Thing, ...], number: int, what: str) -> Thing:
    if number >= len(things):
        raise ProtocolError(f"no {what} {number}")
    return things[number]


def step(kind: int, amount: Int | Float, value: Any, operands: list[Any]) -> Any:
    """What a step makes of an amount: integers stop at their bounds, floats follow IEEE 754."""
    by = operands[0]
    if kind == INC_MAX and value >= operands[1] or kind == DEC_MIN and value <= operands[1]:
        return value
    moved = value + by if kind in (INC, INC_MAX) else value - by
    if isinstance(amount, Int):
        moved = min(max(moved, amount.lowest), amount.highest)
    elif amount.bits == 32:
        moved = f32(moved)
    if kind == INC_MAX:
        moved = min(moved, operands[1])
    elif kind == DEC_MIN:
        moved = max(moved, operands[1])
    return moved


# The five facts that every game has, with the names that section 6 gives their fields.
LIBRARY_FACTS: tuple[tuple[str, Type], ...] = (
    ("room_created", Struct({"name": TEXT, "seed": U64_VALUE, "level": Optional(TEXT)})),
    ("scene_reset", Struct({"snippet": TEXT})),
    ("reverted", Struct({"seq": U64_VALUE, "undone": U32_VALUE, "conflicts": ListOf(TEXT)})),
    ("user_joined", Struct({"user": ENTITY, "name": TEXT})),
    ("user_left", Struct({"user": ENTITY, "reason": Enum({"left": (), "timeout": (), "kicked": ()})})),
)

POSITION = Component("position", Tuple((F32, F32)), latest=True)
HEALTH = Component("health", I32, quantity=True)
DOOR = Component("door", Enum({"Closed": (), "Open": ()}))

MOOR = Game(
    (POSITION, HEALTH, DOOR),
    (("heal", I32),),
    LIBRARY_FACTS + (("healed", Struct({"who": ENTITY, "by": I32})),),
)

# The room of the vector `batch-steps` has health alone.
HEALTH_ONLY = Game((HEALTH,), MOOR.commands, MOOR.facts)
