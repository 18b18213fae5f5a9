"""What a store keeps as the vectors' comments tell it, each with the bytes that it is written as.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import describe
import store
from describe import show
from game import Game
from ids import NIL
from primitives import ProtocolError, integer, integers, text
from store import Checkpoint, JournalFrame, Taken, Tick
from vectors import Line


def taken(found: Taken, game: Game) -> Line:
    """`join of ann, ..` or `command of ann, ..`, and what became of it."""
    fields = found.fields
    if found.name == "join":
        what = f"join of {show(fields['user'])}, {fields['name']}"
    elif found.name == "command":
        found.value(game)
        what = f"command of {show(fields['user'])}, number {fields['command']}, kind {fields['kind']}"
        what += f", value {fields['value'].hex()}"
    else:
        raise ProtocolError(f"no words are known for {found.name}")
    verdict = found.verdict
    ends = {None: "no verdict", True: "accepted"}
    end = f'rejected: {verdict[0]}, "{verdict[1]}"' if isinstance(verdict, tuple) else ends[verdict]
    return Line(found.write(), f"taken: {what}, {end}")


def tick(found: Tick, game: Game) -> list[Line]:
    out = [Line(found.write_head(), f"tick {found.tick}, flags {found.flags}, next serial {found.next_serial}")]
    if found.batch is not None:
        size = len(found.batch.write(game))
        out.append(Line(integer(size), f"batch, {size} bytes"))
        out += describe.batch(found.batch, game)
    if found.chance is not None:
        out.append(Line(store.sized(found.chance), f"chance, {len(found.chance)} bytes"))
    if found.taken is not None:
        out.append(Line(integer(len(found.taken)), f"{len(found.taken)} taken"))
        out += [taken(each, game) for each in found.taken]
    return out


def ticks(found: list[Tick], game: Game) -> list[Line]:
    return [line for each in found for line in tick(each, game)]


def _texts(items: list[str], what: str) -> list[Line]:
    return [Line(integer(len(items)), f"{len(items)} {what}(s)")] + [Line(text(item), item) for item in items]


def frame(found: JournalFrame, game: Game) -> list[Line]:
    out = [Line(integer(len(found.rooms)), f"{len(found.rooms)} room(s);")]
    for number, rows in found.rooms:
        size = len(store.write_ticks_with_texts(rows, game))
        out.append(Line(integers(number, size), f"room_id {number}, {size} bytes"))
        for row, texts in rows:
            out += tick(row, game) + _texts(texts.facts, "fact") + _texts(texts.refusals, "refusal")
    return out


def checkpoint(found: Checkpoint, game: Game) -> list[Line]:
    head = integers(found.tick, found.last_batch, found.next_seq, found.next_serial)
    words = f"tick {found.tick}, last batch {found.last_batch}, next seq {found.next_seq}"
    out = [
        Line(head, f"{words}, next serial {found.next_serial}"),
        Line(store.sized(found.chance), f"chance, {len(found.chance)} bytes"),
        Line(integer(len(found.commands)), f"{len(found.commands)} numbers"),
    ]
    for user, last in found.commands:
        who = "whoever joins next" if user == NIL else show(user)
        out.append(Line(user + integer(last), f"{who}, last command {last}"))
    return out + describe.snapshot(found.snapshot, game)
