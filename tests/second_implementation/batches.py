"""Batches, snapshots, private messages and differences: what they have in common is section 6.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from game import Game
from primitives import NET_ID, U48, U64, ProtocolError, Reader, integer, integers, little, text
from values import Type

CREATES, UPDATES, DELETES, FACTS, NOTES, HASH, GAP = 1, 2, 4, 8, 16, 32, 64
LEFT, FOLLOWED = 16, 64
SET, REMOVE = 0, 5
KINDS = ("set", "inc", "dec", "inc_max", "dec_min", "remove")
PRODUCERS = ("init", "user", "system", "server")
MOST_SECTIONS, MOST_FACTS, MOST_ENTITIES, MOST_BYTES = 65_536, 4_096, 2**20, 16 * 2**20
LONGEST_NAME = 128

# The serial number of one that the room minted, a readable name, or any other id.
EntityKey = int | str | bytes


def read_nets(reader: Reader, each: int = 1, rest: Callable[[Reader, int], Any] | None = None) -> list[Any]:
    """Net ids that ascend, the first as it is, with what stands behind each."""
    found: list[Any] = []
    net = 0
    for place in range(reader.count(MOST_ENTITIES, each)):
        delta = reader.integer(NET_ID)
        if place and not delta:
            raise ProtocolError(f"net id {net} stands twice in a list")
        net += delta
        if net > NET_ID:
            raise ProtocolError(f"net id {net} is above {NET_ID}")
        found.append(rest(reader, net) if rest else net)
    return found


def deltas(nets: list[int]) -> list[int]:
    before = [0, *nets]
    if any(a >= b for a, b in zip(nets, nets[1:])):
        raise ProtocolError("net ids do not ascend")
    return [net - last for net, last in zip(nets, before)]


def write_nets(nets: list[int]) -> bytes:
    return integer(len(nets)) + integers(*deltas(nets))


@dataclass(frozen=True)
class Run:
    """Ids of one kind that stand side by side in a roster."""

    kind: int
    keys: list[EntityKey]

    def write(self) -> bytes:
        head = integer(len(self.keys) * 4 + self.kind)
        if self.kind == 0:
            return head + integers(self.keys[0])  # type: ignore[arg-type]
        if self.kind == 1:
            return head + b"".join(text(key, LONGEST_NAME) for key in self.keys)  # type: ignore[arg-type]
        return head + b"".join(self.keys)  # type: ignore[arg-type]


def runs(keys: list[EntityKey]) -> list[Run]:
    """The fewest runs that name them all."""
    found: list[Run] = []
    for key in keys:
        kind = 0 if isinstance(key, int) else 1 if isinstance(key, str) else 2
        last = found[-1] if found else None
        if last and last.kind == kind and (kind or key == last.keys[-1] + 1):  # type: ignore[operator]
            last.keys.append(key)
        else:
            found.append(Run(kind, [key]))
    return found


@dataclass(frozen=True)
class Column:
    component: int
    members: list[int]
    values: list[Any]


@dataclass(frozen=True)
class Creates:
    nets: list[int]
    keys: list[EntityKey]
    columns: list[Column]

    @staticmethod
    def read(reader: Reader, game: Game) -> Creates:
        nets = read_nets(reader)
        keys: list[EntityKey] = []
        while len(keys) < len(nets):
            length, kind = divmod(reader.integer(), 4)
            if not 0 < length <= len(nets) - len(keys) or kind == 3:
                raise ProtocolError(f"a run of {length} of kind {kind} in a roster of {len(nets)}")
            if kind == 0:
                first = reader.integer(U48 - length + 1)
                keys.extend(range(first, first + length))
            elif kind == 1:
                keys.extend(reader.text(LONGEST_NAME) for _ in range(length))
            else:
                keys.extend(reader.take(16) for _ in range(length))
        columns: list[Column] = []
        last = -1
        for _ in range(reader.count(len(game.components), 2)):
            number = reader.integer()
            kind_of = game.component(number).kind
            if number <= last:
                raise ProtocolError("columns do not ascend")
            last = number
            members = read_members(reader, nets)
            columns.append(Column(number, members, [kind_of.read(reader) for _ in members]))
        return Creates(nets, keys, columns)

    def write(self, game: Game) -> bytes:
        out = self.write_roster() + integer(len(self.columns))
        for column in self.columns:
            kind = game.component(column.component).kind
            out += self.write_head(column) + b"".join(kind.write(value) for value in column.values)
        return out

    def write_roster(self) -> bytes:
        return write_nets(self.nets) + b"".join(run.write() for run in runs(self.keys))

    def write_head(self, column: Column) -> bytes:
        head = integer(column.component)
        if column.members == self.nets:
            return head + b"\0"
        inside = set(column.members)
        bits = sum(1 << place for place, net in enumerate(self.nets) if net in inside)
        return head + b"\1" + bits.to_bytes((len(self.nets) + 7) // 8, "little")


def read_members(reader: Reader, nets: list[int]) -> list[int]:
    """Bits behind the last entity need not be refused, and say nothing."""
    if not reader.flag():
        return nets
    bits = reader.take((len(nets) + 7) // 8)
    return [net for place, net in enumerate(nets) if bits[place // 8] >> place % 8 & 1]


@dataclass(frozen=True)
class Section:
    """Operations of one kind on one component: net ids with operands; a set has one, the value."""

    component: int
    kind: int
    operations: list[tuple[int, list[Any]]]

    def write(self, game: Game) -> bytes:
        out = self.write_head()
        for delta, (_, operands) in zip(deltas([net for net, _ in self.operations]), self.operations):
            out += integer(delta) + self.write_operands(game, operands)
        return out

    def write_head(self) -> bytes:
        return integers(self.component * 8 + self.kind, len(self.operations))

    def write_operands(self, game: Game, operands: list[Any]) -> bytes:
        kinds = operand_types(game, self.component, self.kind)
        return b"".join(kind.write(value) for kind, value in zip(kinds, operands, strict=True))


def operand_types(game: Game, component: int, kind: int) -> list[Type]:
    thing = game.component(component)
    if kind == SET:
        return [thing.kind]
    if kind == REMOVE:
        return []
    return [thing.amount] * (1 if kind < 3 else 2)


def read_updates(reader: Reader, game: Game, steps: bool = True) -> list[Section]:
    """Sections by component; of one component sets, steps, removals. A difference has no steps."""
    found: list[Section] = []
    place = (-1, 0)
    for _ in range(reader.count(MOST_SECTIONS, 2)):
        component, kind = divmod(reader.integer(), 8)
        if kind > REMOVE or not steps and kind not in (SET, REMOVE):
            raise ProtocolError(f"no operation {kind} here")
        phase = 0 if kind == SET else 2 if kind == REMOVE else 1
        # Steps come in rounds, so that sections of them may follow each other; of sets and removals one is enough.
        if (component, phase) < place or (component, phase) == place and phase != 1:
            raise ProtocolError("sections do not ascend")
        place = (component, phase)
        found.append(Section(component, kind, read_operations(reader, operand_types(game, component, kind))))
    return found


def read_operations(reader: Reader, types: list[Type]) -> list[tuple[int, list[Any]]]:
    def operation(reader: Reader, net: int) -> tuple[int, list[Any]]:
        return net, [of.read(reader) for of in types]

    return read_nets(reader, 1 + sum(of.least for of in types), operation)


def write_updates(sections: list[Section], game: Game) -> bytes:
    return integer(len(sections)) + b"".join(section.write(game) for section in sections)


@dataclass(frozen=True)
class Fact:
    seq: int
    kind: int
    producer: int
    author: bytes | None
    cause: int | None
    value: Any

    @staticmethod
    def read(reader: Reader, game: Game, seq: int, kind: int) -> Fact:
        who = reader.byte()
        if who > 15:
            raise ProtocolError(f"a fact by {who}")
        author = reader.take(16) if who & 4 else None
        cause = None
        if who & 8:
            back = reader.integer(seq)
            if not 0 < back < seq:
                raise ProtocolError(f"fact {seq} is caused by one {back} before it")
            cause = seq - back
        return Fact(seq, kind, who & 3, author, cause, game.fact(kind)[1].read(reader))

    def write(self, game: Game) -> bytes:
        return self.write_head() + game.fact(self.kind)[1].write(self.value)

    def write_head(self) -> bytes:
        who = self.producer | (4 if self.author is not None else 0) | (8 if self.cause is not None else 0)
        out = integer(self.kind) + bytes([who]) + (self.author or b"")
        return out + (integer(self.seq - self.cause) if self.cause is not None else b"")


def operations_of(creates: Creates | None, updates: list[Section] | None, deletes: list[int] | None) -> int:
    """How many operations there are, of which each has a note if any has."""
    made = len(creates.nets) if creates else 0
    return made + sum(len(section.operations) for section in updates or []) + len(deletes or [])


@dataclass(frozen=True)
class Batch:
    tick: int
    after: int
    creates: Creates | None = None
    updates: list[Section] | None = None
    deletes: list[int] | None = None
    facts: list[Fact] | None = None
    notes: list[int] | None = None
    hash: int | None = None

    @staticmethod
    def read(reader: Reader, game: Game) -> Batch:
        if reader.left > MOST_BYTES:
            raise ProtocolError(f"a batch of {reader.left} bytes")
        tick, flags = reader.tick(), reader.byte()
        if flags & 128:
            raise ProtocolError(f"flags {flags}")
        gap = reader.integer(tick) if flags & GAP else 1
        # The first batch of a room has tick 0 and none before it: it says so by a gap of nothing.
        if gap > tick or not gap and tick:
            raise ProtocolError(f"a batch of tick {tick} that follows one {gap} before it")
        creates = Creates.read(reader, game) if flags & CREATES else None
        updates = read_updates(reader, game) if flags & UPDATES else None
        deletes = read_nets(reader) if flags & DELETES else None
        facts = read_facts(reader, game) if flags & FACTS else None
        notes = None
        if flags & NOTES:
            most = len(facts or [])
            notes = [reader.integer(most) for _ in range(operations_of(creates, updates, deletes))]
        found = reader.little(8) if flags & HASH else None
        reader.done()
        return Batch(tick, tick - gap, creates, updates, deletes, facts, notes, found)

    @property
    def flags(self) -> int:
        parts = (self.creates, self.updates, self.deletes, self.facts, self.notes, self.hash)
        gap = GAP if self.tick - self.after != 1 else 0
        return gap | sum(1 << bit for bit, part in enumerate(parts) if part is not None)

    def write(self, game: Game) -> bytes:
        out = self.write_head()
        if self.creates is not None:
            out += self.creates.write(game)
        if self.updates is not None:
            out += write_updates(self.updates, game)
        if self.deletes is not None:
            out += write_nets(self.deletes)
        if self.facts is not None:
            out += write_facts_head(self.facts) + b"".join(fact.write(game) for fact in self.facts)
        if self.notes is not None:
            out += integers(*self.notes)
        return out + (little(self.hash, 8) if self.hash is not None else b"")

    def write_head(self) -> bytes:
        gap = integer(self.tick - self.after) if self.flags & GAP else b""
        return integer(self.tick) + bytes([self.flags]) + gap


def read_facts(reader: Reader, game: Game) -> list[Fact]:
    first = reader.integer()
    count = reader.count(MOST_FACTS, 2)
    if not 0 < first <= U64 - count:
        raise ProtocolError(f"facts from {first} on")
    return [Fact.read(reader, game, first + place, reader.integer()) for place in range(count)]


def write_facts_head(facts: list[Fact]) -> bytes:
    return integers(facts[0].seq if facts else 1, len(facts))


@dataclass(frozen=True)
class Snapshot:
    tick: int
    next_seq: int
    creates: Creates

    @staticmethod
    def read(reader: Reader, game: Game) -> Snapshot:
        found = Snapshot(reader.tick(), reader.integer(), Creates.read(reader, game))
        reader.done()
        return found

    def write(self, game: Game) -> bytes:
        return integers(self.tick, self.next_seq) + self.creates.write(game)


@dataclass(frozen=True)
class Difference:
    tick: int
    since: int
    deletes: list[int] | None = None
    creates: Creates | None = None
    updates: list[Section] | None = None

    @staticmethod
    def read(reader: Reader, game: Game) -> Difference:
        tick = reader.tick()
        since = tick - reader.integer(tick)
        flags = reader.byte()
        if flags > CREATES | UPDATES | DELETES:
            raise ProtocolError(f"flags {flags}")
        deletes = read_nets(reader) if flags & DELETES else None
        creates = Creates.read(reader, game) if flags & CREATES else None
        updates = read_updates(reader, game, steps=False) if flags & UPDATES else None
        reader.done()
        return Difference(tick, since, deletes, creates, updates)

    @property
    def flags(self) -> int:
        parts = (self.creates, self.updates, self.deletes)
        return sum(1 << bit for bit, part in enumerate(parts) if part is not None)

    def write(self, game: Game) -> bytes:
        out = integers(self.tick, self.tick - self.since) + bytes([self.flags])
        if self.deletes is not None:
            out += write_nets(self.deletes)
        if self.creates is not None:
            out += self.creates.write(game)
        return out + (write_updates(self.updates, game) if self.updates is not None else b"")


@dataclass(frozen=True)
class Private:
    """What one client alone is told of a tick."""

    tick: int
    creates: Creates | None = None
    updates: list[Section] | None = None
    deletes: list[int] | None = None
    left: list[int] | None = None
    facts: list[Fact] | None = None
    followed: bool = False

    @staticmethod
    def read(reader: Reader, game: Game) -> Private:
        tick, flags = reader.tick(), reader.byte()
        if flags & ~(CREATES | UPDATES | DELETES | FACTS | LEFT | FOLLOWED):
            raise ProtocolError(f"flags {flags}")
        creates = Creates.read(reader, game) if flags & CREATES else None
        updates = read_updates(reader, game) if flags & UPDATES else None
        deletes = read_nets(reader) if flags & DELETES else None
        left = read_nets(reader) if flags & LEFT else None
        facts: list[Fact] | None = None
        if flags & FACTS:
            facts = []
            for _ in range(reader.count(MOST_FACTS, 3)):
                seq = reader.integer()
                if seq <= (facts[-1].seq if facts else 0):
                    raise ProtocolError("numbers of facts do not ascend")
                facts.append(Fact.read(reader, game, seq, reader.integer()))
        reader.done()
        return Private(tick, creates, updates, deletes, left, facts, bool(flags & FOLLOWED))

    @property
    def flags(self) -> int:
        parts = (self.creates, self.updates, self.deletes, self.facts, self.left)
        return sum(1 << bit for bit, part in enumerate(parts) if part is not None) | (FOLLOWED if self.followed else 0)

    def write(self, game: Game) -> bytes:
        out = integer(self.tick) + bytes([self.flags])
        if self.creates is not None:
            out += self.creates.write(game)
        if self.updates is not None:
            out += write_updates(self.updates, game)
        for nets in (self.deletes, self.left):
            out += write_nets(nets) if nets is not None else b""
        if self.facts is not None:
            out += integer(len(self.facts))
            out += b"".join(integer(fact.seq) + fact.write(game) for fact in self.facts)
        return out
