"""Decoded values as the vectors' comments tell them, each with the bytes that it is written as.

What is described here was read from the bytes alone, so a comment that says otherwise is found out.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from typing import Any

import batches
from batches import Batch, Creates, Difference, EntityKey, Fact, Private, Section, Snapshot
from game import Game
from ids import named_id, printed
from primitives import ProtocolError, integer, integers, little
from vectors import Block, Line

PEOPLE = {named_id("ann"): "ann"}
WHO = ("init", "user", "system", "server")


def number(value: float) -> str:
    """Whole ones without a fraction, but -0 and what is no number by its name."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else repr(value)


def show(value: Any) -> str:
    """A value as the comments have it."""
    if isinstance(value, bytes):
        return PEOPLE.get(value, printed(value))
    if isinstance(value, list):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return number(value) if isinstance(value, (int, float)) else str(value)


def nets(found: list[int]) -> str:
    return str(found)


def names(keys: list[EntityKey]) -> str:
    return ", ".join(show(key) for key in keys)


def compare(block: Block, segments: list[Line]) -> None:
    """The block's lines against the segments: each line is some of them, with the same bytes and words."""
    left = list(segments)
    for data, comment in joined(block.lines):
        taken: list[Line] = []
        size = 0
        while left and (size < len(data) or not left[0].data):
            taken.append(left.pop(0))
            size += len(taken[-1].data)
        if b"".join(of.data for of in taken) != data:
            raise ProtocolError(f"{comment!r} stands beside other bytes than it is written as")
        words = " ".join(of.comment for of in taken)
        if comment.endswith("..") and words.startswith(comment[:-2]):
            continue
        if words != comment:
            raise ProtocolError(f"the comment {comment!r} should be {words!r}")
    if left:
        raise ProtocolError(f"{left[0].comment!r} is not in the block")


def joined(lines: list[Line]) -> list[tuple[bytes, str]]:
    """Lines without a comment go on with the one before."""
    found: list[tuple[bytes, str]] = []
    for line in lines:
        if line.comment or not found:
            found.append((line.data, line.comment))
        else:
            found[-1] = (found[-1][0] + line.data, found[-1][1])
    return found


def creates(found: Creates, game: Game) -> list[Line]:
    out = [Line(batches.write_nets(found.nets), f"roster of {len(found.nets)}: net ids {nets(found.nets)}")]
    for run in batches.runs(found.keys):
        what = (
            f"minted, from serial {show(run.keys[0])} on",
            f"named: {names(run.keys)}",
            f"other: {names(run.keys)}",
        )[run.kind]
        out.append(Line(run.write(), f"{len(run.keys)} {what}"))
    out.append(Line(integer(len(found.columns)), f"{len(found.columns)} columns"))
    for column in found.columns:
        component = game.component(column.component)
        of = "all" if column.members == found.nets else nets(column.members)
        out.append(Line(found.write_head(column), f"{component.name}, of {of}"))
        for net, value in zip(column.members, column.values):
            out.append(Line(component.kind.write(value), f"{net}: {show(value)}"))
    return out


def updates(found: list[Section], game: Game) -> list[Line]:
    out = [Line(integer(len(found)), f"{len(found)} sections")]
    for section in found:
        name, kind = game.component(section.component).name, batches.KINDS[section.kind]
        out.append(Line(section.write_head(), f"{name}, {kind}, of {len(section.operations)}"))
        places = batches.deltas([net for net, _ in section.operations])
        for delta, (net, operands) in zip(places, section.operations):
            words = ", ".join(show(value) for value in operands) or "gone"
            if len(operands) == 2:
                words = f"{show(operands[0])}, at {'most' if kind == 'inc_max' else 'least'} {show(operands[1])}"
            out.append(Line(integer(delta) + section.write_operands(game, operands), f"{net}: {words}"))
    return out


def deletes(found: list[int]) -> list[Line]:
    return [Line(batches.write_nets(found), f"deletes: {nets(found)}")]


def fact(found: Fact, game: Game) -> list[Line]:
    name, kind = game.fact(found.kind)
    by = f", author {show(found.author)}" if found.author is not None else ""
    value = found.value
    told = {
        "room_created": "{name}, seed {seed}, level {level}",
        "user_joined": "{user}, {name}",
        "healed": "{who} by {by}",
    }
    if name not in told:
        raise ProtocolError(f"no words are known for the fact {name}")
    words = told[name].format(**{field: show(of) for field, of in value.items()})
    return [Line(found.write_head(), f"{name} by {WHO[found.producer]}{by}"), Line(kind.write(value), words)]


def facts(found: list[Fact], game: Game) -> list[Line]:
    head = Line(batches.write_facts_head(found), f"{len(found)} facts from seq {found[0].seq} on")
    return [head] + [line for each in found for line in fact(each, game)]


def batch(found: Batch, game: Game) -> list[Line]:
    out = [Line(found.write_head(), f"batch of tick {found.tick}, flags {found.flags}, after tick {found.after}")]
    out += creates(found.creates, game) if found.creates is not None else []
    out += updates(found.updates, game) if found.updates is not None else []
    out += deletes(found.deletes) if found.deletes is not None else []
    out += facts(found.facts, game) if found.facts is not None else []
    if found.notes is not None:
        out.append(Line(integers(*found.notes), f"notes: {found.notes}"))
    if found.hash is not None:
        out.append(Line(little(found.hash, 8), "hash"))
    return out


def snapshot(found: Snapshot, game: Game) -> list[Line]:
    head = Line(integers(found.tick, found.next_seq), f"snapshot of tick {found.tick}, next seq {found.next_seq}")
    return [head] + creates(found.creates, game)


def difference(found: Difference, game: Game) -> list[Line]:
    head = integers(found.tick, found.tick - found.since) + bytes([found.flags])
    out = [Line(head, f"to tick {found.tick}, from tick {found.since}, flags {found.flags}")]
    out += deletes(found.deletes) if found.deletes is not None else []
    out += creates(found.creates, game) if found.creates is not None else []
    return out + (updates(found.updates, game) if found.updates is not None else [])


def private(found: Private) -> list[Line]:
    """Of a private message comments tell deletions alone so far; what else one has would not compare."""
    follows = ", and a batch follows" if found.followed else ""
    gone = found.deletes or []
    return [
        Line(integer(found.tick) + bytes([found.flags]), f"of tick {found.tick}; deletes{follows}"),
        Line(batches.write_nets(gone), f"{len(gone)}: net id {', '.join(str(net) for net in gone)}"),
    ]
