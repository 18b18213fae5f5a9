"""A client's copy of a room: what a snapshot and the batches, parts and differences after it make of it.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from batches import REMOVE, SET, Batch, Creates, Difference, EntityKey, Fact, Private, Section, Snapshot
from game import Game, step
from ids import minted_id, named_id, printed
from packets import Part
from primitives import ProtocolError
from values import NOBODY, Relationship
from xxh3 import xxh3_64

MOST_WAITING = 8_192


@dataclass
class Entity:
    """`versions` are the ticks as of which its values are, by component; without one it is that of its creation."""

    id: bytes
    key: EntityKey
    created: int
    values: dict[int, Any] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)

    def version(self, component: int) -> int:
        return max(self.created, self.versions.get(component, 0))


class Replica:
    def __init__(self, game: Game, room: bytes) -> None:
        self.game = game
        self.room = room
        self.tick: int | None = None
        self.entities: dict[int, Entity] = {}
        self.facts: list[Fact] = []
        self.waiting: list[tuple[int, Part]] = []
        # The tick of the first batch that did not fit: the client then says that it diverged.
        self.diverged: int | None = None

    def snapshot(self, snapshot: Snapshot) -> None:
        """The state becomes what the snapshot says."""
        self.entities = {}
        self._create(snapshot.creates, snapshot.tick)
        self.tick, self.diverged = snapshot.tick, None
        self._retry()

    def batch(self, batch: Batch, stored: bool = False) -> bool:
        """Whether it was taken: one that is not above the state's tick is dropped.

        A stored batch has the hash of everything, and the first one of a room follows nothing.
        """
        if self.tick is None and not (stored and batch.tick == batch.after):
            raise ProtocolError("a batch before there is a state")
        if self.tick is not None:
            if batch.tick <= self.tick:
                return False
            if batch.after > self.tick:
                raise ProtocolError(f"a batch that follows tick {batch.after}, at tick {self.tick}")
        self._create(batch.creates, batch.tick)
        self._update(batch.updates, batch.tick)
        self._delete(batch.deletes)
        self._check_ids()
        self.facts += batch.facts or []
        self.tick = batch.tick
        if batch.hash is not None and batch.hash != self.hash(everything=stored):
            self._diverge(batch.tick)
        self._retry()
        return True

    def private(self, private: Private) -> bool:
        """To be called behind the batch of its tick, if one follows. A client that is past the tick drops it."""
        if self.tick is None or private.tick < self.tick or private.followed and private.tick > self.tick:
            return False
        self._create(private.creates, private.tick)
        self._update(private.updates, private.tick)
        self._delete(private.deletes)
        self._delete(private.left)
        self._check_ids()
        self.facts += private.facts or []
        self.tick = private.tick
        self._retry()
        return True

    def difference(self, difference: Difference) -> None:
        if self.tick is None or not difference.since <= self.tick <= difference.tick:
            raise ProtocolError(f"a difference from {difference.since} to {difference.tick}, at tick {self.tick}")
        for net in difference.deletes or []:
            self.entities.pop(net, None)
        self._create(difference.creates, difference.tick)
        self._update(difference.updates, difference.tick)
        self._check_ids()
        self.tick = difference.tick
        self._retry()

    def part(self, tick: int, part: Part) -> None:
        """Values as of the tick of their packet, which may have to wait for a batch."""
        if part.back is not None and part.back > tick:
            raise ProtocolError(f"a part that needs a batch {part.back} ticks before tick {tick}")
        # While a snapshot is awaited every part waits, also one that comes after the state was found to differ.
        due = None if self.tick is None or self.diverged is not None else self.tick
        if due is None or part.back is not None and due < tick - part.back:
            if len(self.waiting) < MOST_WAITING:
                self.waiting.append((tick, part))
            elif due is not None:
                self._diverge(due)
            return
        for group in part.groups:
            for component, values in zip(group.components, group.values):
                for net, value in zip(group.nets, values):
                    entity = self.entities.get(net)
                    if entity and tick > entity.version(component):
                        self._put(entity, component, value)
                        entity.versions[component] = tick

    def hash(self, everything: bool = False) -> int:
        """Of all values, or, as on the wire, of those that do not travel beside the batches."""
        total = 0
        for net, entity in self.entities.items():
            for number, value in entity.values.items():
                component = self.game.component(number)
                if everything or not component.latest:
                    total += xxh3_64(component.kind.write(value), number << 32 | net)
        return total & (1 << 64) - 1

    def _retry(self) -> None:
        waiting, self.waiting = self.waiting, []
        for tick, part in waiting:
            self.part(tick, part)

    def _diverge(self, tick: int) -> None:
        if self.diverged is None:
            self.diverged = tick

    def _id(self, key: EntityKey) -> bytes:
        if isinstance(key, int):
            return minted_id(self.room, key)
        return named_id(key) if isinstance(key, str) else key

    def _create(self, creates: Creates | None, tick: int) -> None:
        if creates is None:
            return
        for net, key in zip(creates.nets, creates.keys):
            if net in self.entities:
                raise ProtocolError(f"net id {net} is in use")
            self.entities[net] = Entity(self._id(key), key, tick)
        for column in creates.columns:
            for net, value in zip(column.members, column.values):
                self._put(self.entities[net], column.component, value)

    def _update(self, sections: list[Section] | None, tick: int) -> None:
        for section in sections or []:
            component = self.game.component(section.component)
            for net, operands in section.operations:
                entity = self._known(net)
                if component.latest and tick < entity.version(section.component):
                    continue
                if section.kind == SET:
                    self._put(entity, section.component, operands[0])
                elif section.kind == REMOVE:
                    entity.values.pop(section.component, None)
                elif section.component in entity.values:
                    value = entity.values[section.component]
                    entity.values[section.component] = step(section.kind, component.amount, value, operands)
                else:
                    self._diverge(tick)
                    continue
                entity.versions[section.component] = tick

    def _put(self, entity: Entity, component: int, value: Any) -> None:
        """A relationship to nobody is none."""
        if value is NOBODY and isinstance(self.game.component(component).kind, Relationship):
            entity.values.pop(component, None)
        else:
            entity.values[component] = value

    def _delete(self, nets: list[int] | None) -> None:
        for net in nets or []:
            self._known(net)
            del self.entities[net]

    def _known(self, net: int) -> Entity:
        entity = self.entities.get(net)
        if entity is None:
            raise ProtocolError(f"net id {net} is not known")
        return entity

    def _check_ids(self) -> None:
        """After the deletions only: until then an id may belong to one that goes and one that comes."""
        if len({entity.id for entity in self.entities.values()}) < len(self.entities):
            raise ProtocolError("two entities have one id")

    def shown(self) -> dict[str, Any]:
        """The state as JSON has it."""
        entities = {}
        for net, entity in sorted(self.entities.items()):
            said: dict[str, Any] = {"id": printed(entity.id)}
            if isinstance(entity.key, str):
                said["name"] = entity.key
            for number, value in sorted(entity.values.items()):
                said[self.game.component(number).name] = value
            entities[str(net)] = said
        return {"room": printed(self.room), "tick": self.tick, "entities": entities}

    def json(self) -> str:
        return json.dumps(self.shown(), indent=2, ensure_ascii=False, default=printed)
