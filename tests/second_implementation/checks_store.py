"""The blocks of sections 7 and 10: what each is read as, and what the document's prose says of it.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import math
from typing import Any

import chain
import describe_store
import ids
import store
from batches import PRODUCERS, Fact
from checking import Blocks, Spec, block_bytes, expect, refused
from checks_wire import ANN, ROOM, exactly
from codecs_bits import Angles, Field, Quantised, Ranged, SmallestThree
from describe import show
from game import MOOR
from ids import printed
from primitives import ProtocolError
from replica import Replica
from store import Checkpoint, JournalFrame, Tick
from values import (
    BOOL,
    CHAR,
    ENTITY,
    F32,
    F64,
    I8,
    I32,
    I64,
    TEXT,
    U8,
    U16,
    U32_VALUE,
    U64_VALUE,
    Enum,
    ListOf,
    MapOf,
    Mapped,
    Optional,
    Relationship,
    Tuple,
    Type,
    read_whole,
)
from vectors import Line

_ENUM = Enum({"first": (), "second": (U16,), "third": (BOOL, BOOL)})

# One of each kind, by the words that its comment begins with. The comments leave open of what the optional, the
# list and the map are: any integers without sign do, of more than 8 bits in the list.
SAMPLE: list[tuple[str, list[Type]]] = [
    ("bools", [BOOL] * 2),
    ("", [U8, I8]),
    ("u16", [U16] * 5),
    ("i32", [I32] * 5),
    ("u64", [U64_VALUE]),
    ("i64", [I64]),
    ("f32", [F32]),
    ("f64", [F64]),
    ("char", [CHAR]),
    ("char", [CHAR]),
    ("text", [TEXT]),
    ("optional", [Optional(U8)]),
    ("optional", [Optional(U8)]),
    ("list", [ListOf(U16)]),
    ("map", [MapOf(TEXT, U8)]),
    ("enum", [_ENUM]),
    ("enum", [_ENUM]),
    ("enum", [_ENUM]),
    ("entity id", [ENTITY]),
    ("tick", [U32_VALUE]),
]
SAMPLE_TYPE = Tuple(tuple(kind for _, kinds in SAMPLE for kind in kinds))
_ENUM_WORDS = {
    "first": "its first variant, without fields",
    "second": "its second, of a u16:",
    "third": "its third, of two bools:",
}


def plain(value: Any) -> str:
    """A value of the sample in the words of its comment."""
    if value is None:
        return "nothing"
    if isinstance(value, tuple):
        return f"{_ENUM_WORDS[value[0]]} {plain(value[1])}"
    if isinstance(value, list):
        return " ".join(plain(item) for item in value)
    if isinstance(value, str) and value in _ENUM_WORDS:
        return _ENUM_WORDS[value]
    return show(int(value) if isinstance(value, bool) else value)


def sample_lines(found: list[Any]) -> list[Line]:
    out = []
    left = list(found)
    for label, kinds in SAMPLE:
        values = [left.pop(0) for _ in kinds]
        data = b"".join(kind.write(value) for kind, value in zip(kinds, values))
        words = f"{label}: {' '.join(plain(value) for value in values)}"
        if not label:
            words = f"{values[0]}: u8, {values[1]}: i8 (not zigzag)"
        out.append(Line(data, words))
    return out


def a_value(kind: Type, due: Any = None) -> Spec:
    def told(found: Any, blocks: Blocks) -> None:
        expect(found, due, "the value")

    return Spec(lambda data: read_whole(kind, data), kind.write, more=told)


def a_codec(kind: Any, values: list[Any], near: float, words: str = "") -> Spec:
    """`near`: how far what is read may be from what was written."""

    def told(found: list[Any], blocks: Blocks) -> None:
        if not all(abs(a - b) <= near for a, b in zip(found, values, strict=True)):
            raise ProtocolError(f"{found} is read where {values} was written")
        expect(kind.write(found), kind.write(values), "what is read, written again")

    def lines(found: list[Any]) -> list[Line]:
        return [Line(kind.write(found), f"{kind.numbers(found)[0]:,}")]

    # Written is what the prose says, so that the vector checks rounding; what is read must come out the same.
    def write(found: list[Any]) -> bytes:
        same = all(abs(a - b) <= near for a, b in zip(found, values))
        written: bytes = kind.write(values if same else found)
        return written

    return Spec(lambda data: read_whole(kind, data), write, lines if words else None, told)


def a_quaternion(values: list[float]) -> Spec:
    kind = SmallestThree()

    def told(found: list[float], blocks: Blocks) -> None:
        # The largest part was negative, so what is read is the negative: the same rotation.
        if max(abs(a + b) for a, b in zip(found, values)) > 1e-3:
            raise ProtocolError(f"{found} is read where {values} was written")
        expect(kind.write(values), kind.write(found), "what is written of it")

    return Spec(lambda data: read_whole(kind, data), kind.write, more=told)


def fold(ticks: list[Tick]) -> Replica:
    """The state that all stored batches make, with the hash of everything checked behind each."""
    replica = Replica(MOOR, ROOM)
    for tick in ticks:
        if tick.batch is not None:
            replica.batch(tick.batch, stored=True)
            expect(replica.diverged, None, "the tick of a hash that differs")
            expect(replica.hash(everything=True), tick.batch.hash, f"the hash of tick {tick.tick}")
    return replica


def read_ticks(blocks: Blocks) -> list[Tick]:
    return store.read_ticks(blocks["stored-ticks"].data, MOOR)


def state(replica: Replica) -> dict[int, Any]:
    return {net: (entity.id, entity.values) for net, entity in replica.entities.items()}


def facts_of(blocks: Blocks) -> list[chain.Item]:
    return chain.read_chunk(block_bytes(blocks["stored-facts"]))


def refusals_of(blocks: Blocks) -> list[chain.Item]:
    return chain.read_chunk(block_bytes(blocks["stored-refusals"]), refusals=True)


def in_json(value: Any) -> Any:
    """A fact's fields as JSON has them: ids as they are printed."""
    if isinstance(value, dict):
        return [in_json(item) for item in value.values()]
    return printed(value) if isinstance(value, bytes) else value


def told_ticks(found: list[Tick], blocks: Blocks) -> None:
    replica = fold(found)
    expect([tick.tick for tick in found], [0, 1, 2, 3], "the ticks")
    expect(replica.entities[2].id, ANN, "the id of net id 2")
    batched = [(tick.tick, fact) for tick in found if tick.batch for fact in tick.batch.facts or []]
    stored = facts_of(blocks)
    expect([fact.seq for _, fact in batched], list(range(1, len(stored) + 1)), "the numbers of facts")
    for (tick, fact), item in zip(batched, stored, strict=True):
        told_fact(tick, fact, item)
    data = blocks["stored-ticks"].data
    expect(store.unpack_chunk(store.pack_chunk(data)), data, "the chunk, packed and unpacked")


def told_fact(tick: int, fact: Fact, item: chain.Item) -> None:
    """The same fact in a batch and in JSON; its fields in their order, since section 6 names one of them otherwise."""
    said = item.said
    author = printed(fact.author) if fact.author is not None else None
    expect((said["t"], said["k"], said["p"]), (tick, MOOR.fact(fact.kind)[0], PRODUCERS[fact.producer]), "a fact")
    expect((said.get("a"), said.get("w")), (author, fact.cause), "a fact's author and cause")
    expect(list(said["d"].values()), in_json(fact.value), "a fact's value")


def told_frame(found: JournalFrame, blocks: Blocks) -> None:
    """A row of the journal has the ticks of the chunk, and the texts of the chunks of texts."""
    whole = {tick.tick: tick for tick in read_ticks(blocks)}
    for number, rows in found.rooms:
        expect(number, 1, "the room's number")
        for tick, texts in rows:
            expect(tick, whole[tick.tick], f"tick {tick.tick}")
            due = [item.text for item in facts_of(blocks) if item.said["t"] == tick.tick]
            expect(texts.facts, due, "the texts of facts")
            due = [item.text for item in refusals_of(blocks) if item.said["t"] == tick.tick]
            expect(texts.refusals, due, "the texts of refusals")
            commands = {taken.fields["command"]: taken for taken in tick.taken or [] if taken.name == "command"}
            for text in texts.facts:
                said = chain.read_fact(text).said
                expect(commands[said["c"]].verdict, True, "the verdict of a command that became a fact")
            for text in texts.refusals:
                said = chain.read_refusal(text).said
                taken = commands[said["c"]]
                expect(taken.verdict, (said["r"], said.get("m", "")), "the verdict of what was refused")
                expect(taken.value(MOOR), said["d"]["by"], "the command that was refused")


def told_facts(found: list[chain.Item], blocks: Blocks) -> None:
    for item in found:
        expect(chain.write_item(item.said, chain.FACT_KEYS), item.text, "a fact, written again")
    expect(head(blocks), blocks["stored-chain"].data, "the head of the chain")
    refused(lambda: chain.read_fact(found[0].text.replace(":", ": ", 1).replace('"k"', '"z"')), "an unknown key")


def told_refusals(found: list[chain.Item], blocks: Blocks) -> None:
    for item in found:
        expect(chain.write_item(item.said, chain.REFUSAL_KEYS), item.text, "a refusal, written again")
    expect(head(blocks), blocks["stored-chain"].data, "the head of the chain")


def head(blocks: Blocks) -> bytes:
    links = chain.Chain(ROOM)
    links.follow(facts_of(blocks), refusals_of(blocks))
    return links.head


def told_checkpoint(found: Checkpoint, blocks: Blocks) -> None:
    """A checkpoint is what the ticks up to it make."""
    ticks = read_ticks(blocks)
    replica = Replica(MOOR, ROOM)
    replica.snapshot(found.snapshot)
    expect(state(replica), state(fold(ticks)), "the state of the checkpoint")
    last = [tick.tick for tick in ticks if tick.batch is not None][-1]
    expect((found.tick, found.last_batch), (ticks[-1].tick, last), "the ticks of the standing")
    expect(found.next_seq, len(facts_of(blocks)) + 1, "the number of the next fact")
    expect(found.next_serial, ticks[-1].next_serial, "the next serial number")
    commands = [of.fields["command"] for tick in ticks for of in tick.taken or [] if of.name == "command"]
    expect(found.commands, [(ids.NIL, 0), (ANN, max(commands))], "the numbers of commands")


def specs(blocks: Blocks) -> dict[str, Spec]:
    thousand = Field(-500.0, 500.0, 0.001)
    return {
        "value-sample": Spec(lambda data: read_whole(SAMPLE_TYPE, data), SAMPLE_TYPE.write, sample_lines),
        "value-relationship": a_value(Relationship(), 0),
        "value-mapped": a_value(Mapped(), 0),
        "value-mapped-1": a_value(Mapped(), 1),
        "value-mapped-nobody": a_value(Mapped(), None),
        "codec-quantised": a_codec(Quantised((thousand,) * 3), [1.5, -2.0, 500.0], 0.0005),
        "codec-quantised-rounded": a_codec(Quantised((Field(-500.0, 500.0, 0.01),)), [499.99], 0.005, "its number"),
        "codec-angles": a_codec(Angles(2, 12), [math.pi / 2, -0.1], math.tau / 4096),
        "codec-ranged": a_codec(Ranged(((0, 3), (1, 60), (-100, 100))), [2, 60, -100], 0),
        "codec-smallest-three": a_quaternion([0.0, 0.6, 0.0, -0.8]),
        "stored-frame": Spec(
            lambda data: JournalFrame.read(data, MOOR),
            lambda found: found.write(MOOR),
            lambda found: describe_store.frame(found, MOOR),
            told_frame,
        ),
        "stored-frame-latest": Spec(
            lambda data: JournalFrame.read(data, MOOR),
            lambda found: found.write(MOOR),
            lambda found: describe_store.frame(found, MOOR),
            told_frame,
        ),
        "stored-ticks": Spec(
            lambda data: store.read_ticks(data, MOOR),
            lambda found: store.write_ticks(found, MOOR),
            lambda found: describe_store.ticks(found, MOOR),
            told_ticks,
            goes_on=True,
        ),
        "stored-facts": Spec(chain.read_chunk, chain.write_chunk, more=told_facts),
        "stored-refusals": Spec(lambda data: chain.read_chunk(data, True), chain.write_chunk, more=told_refusals),
        "stored-chain": Spec(exactly(32), lambda _: head(blocks)),
        "stored-checkpoint": Spec(
            lambda data: Checkpoint.read(data, MOOR),
            lambda found: found.write(MOOR),
            lambda found: describe_store.checkpoint(found, MOOR),
            told_checkpoint,
        ),
    }
