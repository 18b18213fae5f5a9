"""Messages, packets and reports as the vectors' comments tell them, each with the bytes that it is written as.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from typing import Any

import client_messages
import describe
import host_messages
import renet
from batches import Batch, Difference, Private, Snapshot
from client_messages import Command, Diverged, Hello, Leave, ListRooms
from describe import show
from game import Game
from host_messages import Chunk, Durable, Refused, Rooms, Speed, Verdicts, Welcome
from ids import UserData
from packets import Echo, Packet, Padding, Part, Piece, Report
from packing import lz4_sequences, lz4_write
from primitives import ProtocolError, Reader, integer, integers, little, quic, text, utf8
from values import TEXT, U32_VALUE
from vectors import Line

QUARTERS = ("", ", and a quarter", ", and a half", ", and three quarters")
NUMBERS = ("no", "one", "two", "three", "four")
AGO = {30.0: "half a minute ago", 60.0: "a minute ago"}


def user_data(found: UserData) -> list[Line]:
    """Up to the zeros, of which the document shows some."""
    return [
        Line(b"rk01", '"rk01"'),
        Line(little(found.client, 8), "client id"),
        Line(found.player, "player"),
        Line(text(found.name), f"name: {found.name}"),
        Line(text(found.room), f"room: {found.room or 'any'}"),
    ]


def past(room: str) -> str:
    asked = client_messages.past(room)
    if asked is None:
        return room
    name, kind, when = asked
    if kind != "ago" or when not in AGO:
        raise ProtocolError(f"no words are known for {room}")
    return f"{name}, {AGO[when]}"


def client_message(found: client_messages.Message, game: Game) -> list[Line]:
    if isinstance(found, Hello):
        return [
            Line(integers(1, client_messages.VERSION), f"hello, version {client_messages.VERSION}"),
            Line(little(found.fingerprint, 8), "fingerprint"),
            Line(text(found.room), f"room: {past(found.room)}"),
            Line(bytes([found.spectate]), f"spectate: {int(found.spectate)}"),
            *_held(found.held),
        ]
    if isinstance(found, Command):
        tick, part = divmod(found.seen, 256)
        if part % 64:
            raise ProtocolError(f"no words are known for {part} of 256")
        return [
            Line(integers(2, found.number, found.kind), f"command {found.number} of kind {found.kind}"),
            Line(integer(found.seen), f"seen: tick {tick}{QUARTERS[part // 64]}"),
            Line(game.command(found.kind)[1].write(found.value), f"value: {show(found.value)}"),
        ]
    if isinstance(found, Leave):
        return [Line(b"\3", "leave")]
    if isinstance(found, Diverged):
        return [Line(integers(4, found.tick), f"diverged at tick {found.tick}")]
    return [Line(integer(5), "list rooms,"), *list_rooms(found)]


def list_rooms(found: ListRooms) -> list[Line]:
    version = client_messages.VERSION
    prefix = Line(text(found.prefix), f"whose names begin with {found.prefix}")
    return [Line(integer(version), f"version {version}"), prefix]


def _held(held: client_messages.Held | None) -> list[Line]:
    if held is None:
        return [Line(b"\0", "held: nothing")]
    return [
        Line(b"\1", "held:"),
        Line(held.room, "room"),
        Line(little(held.epoch, 8), f"epoch {held.epoch}"),
        Line(integers(held.tick, held.latest), f"as of tick {held.tick}; latest values as of tick {held.latest}"),
    ]


def said(found: renet.Said, game: Game) -> list[Line]:
    out = [
        Line(found.write_head()[:3], f"kind 0, sequence {found.sequence}, channel 0"),
        Line(len(found.messages).to_bytes(2, "big"), f"{len(found.messages)} messages"),
    ]
    for number, data in found.messages:
        out.append(Line(quic(number) + quic(len(data)), f"message {number} of {len(data)}"))
        message = client_message(client_messages.read(data, game), game)
        # In a packet a question stands on one line, so its words are parted by commas.
        if len(message) > 1:
            words = [line.comment.removesuffix(",") for line in message]
            message = [Line(b"".join(line.data for line in message), ", ".join(words))]
        out += message
    return out


def acknowledged(found: renet.Acknowledged) -> list[Line]:
    (end, length), *further = found.ranges
    first = end - length + 1
    out = [
        Line(quic(4) + quic(found.sequence), f"kind 4, sequence {found.sequence}"),
        Line(quic(end) + quic(length - 1), f"from {end} back, {length} of them"),
        Line(quic(len(further)), f"and {len(further)} further range:"),
    ]
    for end, length in further:
        words = f"it ends {first - end} before {first}, {length} of them"
        out.append(Line(quic(first - end - 2) + quic(length - 1), words))
        first = end - length + 1
    return out


def host_message(found: host_messages.Message, game: Game) -> list[Line]:
    if isinstance(found, Welcome):
        return [
            Line(integers(1, found.last_command), f"welcome, last command {found.last_command}"),
            Line(little(found.epoch, 8), f"epoch {found.epoch}"),
            Line(bytes([found.resumed]), f"resumed: {int(found.resumed)}"),
            Line(found.room, "room"),
            Line(found.user, f"user: {show(found.user)}"),
            Line(text(found.name), f"name: {found.name}"),
        ]
    if isinstance(found, Refused):
        return _refused(found)
    if isinstance(found, Chunk):
        return _chunk(found, game)
    if isinstance(found, Batch):
        return [Line(b"\4", "batch"), *describe.batch(found, game)]
    if isinstance(found, Verdicts):
        head = integers(5, found.tick) + U32_VALUE.write(len(found.verdicts))
        return [Line(head, f"verdicts of tick {found.tick}: {len(found.verdicts)}"), *_verdicts(found.verdicts)]
    if isinstance(found, Durable):
        return [Line(integers(6, found.tick), f"durable up to tick {found.tick}")]
    if isinstance(found, Private):
        return [Line(b"\7", "private"), *describe.private(found)]
    if isinstance(found, Speed):
        return [Line(integers(9, found.speed), f"speed {found.speed}")]
    return _rooms(found)


def _rejection(rejection: list[str], lead: str) -> list[Line]:
    code, detail = rejection
    return [Line(TEXT.write(code), f"{lead}code {code},"), Line(TEXT.write(detail), f'detail "{detail}"')]


def _verdicts(found: list[Any]) -> list[Line]:
    out = []
    for command, rejection in found:
        head = U32_VALUE.write(command)
        if rejection is None:
            out.append(Line(head + b"\0", f"{command}: obeyed"))
        else:
            code, detail = _rejection(rejection, f"{command}: ")
            out += [Line(head + b"\1" + code.data, code.comment), detail]
    return out


def _refused(found: Refused) -> list[Line]:
    name, fields = found.refusal if isinstance(found.refusal, tuple) else (found.refusal, [])
    head = b"\2" + U32_VALUE.write(host_messages.REFUSAL.names.index(name))
    if name == "protocol":
        listed = fields[0]
        out = [Line(head + U32_VALUE.write(len(listed)), f"refused: another protocol; {len(listed)} names")]
        for what, called, shape in listed:
            data = TEXT.write(what) + TEXT.write(called) + U32_VALUE.write(shape)
            out.append(Line(data, f"{what} {called} {shape:08x}"))
        return out
    if name == "rejected":
        code, detail = _rejection(fields, "refused: ")
        return [Line(head + code.data, code.comment), detail]
    if not fields:
        return [Line(head, f"refused: {name}")]
    words = f"refused: {name} {fields[0]}" if name == "no room" else f"refused: {name}: {fields[0]}"
    return [Line(head + TEXT.write(fields[0]), words)]


def _chunk(found: Chunk, game: Game) -> list[Line]:
    what = "a piece of a difference" if found.difference else "chunk"
    packed = f"packed from {len(found.data)}" if found.packed is not None else "not packed"
    head = Line(host_messages.write_chunk_head(found), f"{what} of {found.size}, at {found.at}, {packed}")
    if found.packed is not None:
        return [head, *_sequences(found.packed, len(found.data))]
    reader = Reader(found.data)
    if found.difference:
        return [head, *describe.difference(Difference.read(reader, game), game)]
    return [head, *describe.snapshot(Snapshot.read(reader, game), game)]


def _sequences(packed: bytes, size: int) -> list[Line]:
    out = []
    for sequence in lz4_sequences(packed, size):
        words = utf8(sequence.literals)
        if sequence.length:
            words += f", and the {sequence.length} bytes that lie {sequence.offset} behind"
        out.append(Line(lz4_write([sequence]), words))
    return out


def _rooms(found: Rooms) -> list[Line]:
    out = [
        Line(integer(10), "rooms"),
        Line(text(found.prefix), f"whose names begin with {found.prefix}"),
        Line(integers(found.total, len(found.rooms)), f"{found.total} in all, {len(found.rooms)} listed"),
    ]
    for room in found.rooms:
        *head, kind = [text(room.name) + integers(room.taken, room.seats), integer(room.kind)]
        out.append(Line(head[0], f"{room.name}, {room.taken} of {room.seats} seats,"))
        out.append(Line(kind, host_messages.ROOM_KINDS[room.kind]))
    return out


def packet(found: Packet, messages: dict[int, list[bytes]], game: Game) -> list[Line]:
    """`messages` are those that each piece makes whole, by its offset."""
    out = [Line(found.write_head(), f"packet {found.number} of tick {found.tick}")]
    padding = [frame for frame in found.frames if isinstance(frame.body, Padding)]
    for frame in found.frames:
        body = frame.body
        last = ", the last" if frame.open else ""
        if isinstance(body, Piece):
            head = frame.write_head(len(body.write(game))) + integer(body.offset)
            out.append(Line(head, f"piece{last}, from {body.offset} on"))
            for data in messages[body.offset]:
                out.append(Line(integer(len(data)), f"message of {len(data)}"))
                out += host_message(host_messages.read(data, game), game)
        elif isinstance(body, Part):
            out.append(Line(frame.write_head(len(body.write(game))), f"part{last}"))
            out += part(body, game)
        elif isinstance(body, Echo):
            held = f"echo of report {body.report}, held {body.held} ms, complete as of tick {body.complete}"
            out.append(Line(frame.write(game), held))
    if padding:
        rest = "" if len(padding) < len(found.frames) else ", and no frame"
        out.append(Line(b"\6" * len(padding), f"{NUMBERS[len(padding)]} bytes of padding{rest}"))
    return out


def part(found: Part, game: Game) -> list[Line]:
    needs = f", needs the batch {found.back} tick(s) back" if found.back is not None else ""
    out = [Line(found.write_head(), f"part: {len(found.groups)} group(s){needs}")]
    for group in found.groups:
        names = [game.component(number).name for number in group.components]
        out.append(Line(group.write_head(), f"shift {group.shift}, {names}, of {len(group.nets)}: {group.nets}"))
        for number, values in zip(group.components, group.values):
            for net, value in zip(group.nets, values):
                out.append(Line(game.component(number).kind.write(value), f"{net}: {show(value)}"))
    return out


def report(found: Report) -> list[Line]:
    head = Report(found.number, found.newest, found.waited, b"").write()
    out = [Line(head, f"report {found.number}: newest {found.newest}, {found.waited} ms ago")]
    if found.bits:
        missing = [str(number) for number, came in found.came() if not came]
        came = [str(number) for number, came in found.came() if came]
        out.append(Line(found.bits, f"not {' and '.join(missing)}, but {' and '.join(came)}"))
    return out
