"""The blocks of sections 1 to 6 and 9: what each is read as, and what the document's prose says of it.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import client_messages
import describe
import describe_wire
import host_messages
import ids
import packets
import renet
from batches import Batch, Private, Snapshot
from checking import Blocks, Spec, block_bytes, damages, expect, refused
from client import Client, stay
from game import HEALTH_ONLY, MOOR
from packets import Packet, Piece, Report, Stream
from primitives import ProtocolError, Reader, integer, little
from replica import Entity, Replica
from vectors import Line

ANN = ids.named_id("ann")
ROOM = ids.room_id("moor")
FINGERPRINT = "fingerprint"


def exactly(size: int) -> Callable[[bytes], bytes]:
    def read(data: bytes) -> bytes:
        reader = Reader(data)
        found = reader.take(size)
        reader.done()
        return found

    return read


def an_id(made: bytes) -> Spec:
    """An id is written as what its rule makes, not as what was read."""
    return Spec(exactly(16), lambda _: made)


def read_integers(data: bytes) -> list[int]:
    reader = Reader(data)
    found = []
    while reader.left:
        found.append(reader.integer())
    return found


def told_integers(found: list[int], blocks: Blocks) -> None:
    """The list in the prose before the block: numbers, and powers of two with or without 1 less."""
    due = []
    for item in blocks["integers"].before.rstrip(":").split(", "):
        match = re.fullmatch(r"(\d+)(?:\^(\d+))?( - 1)?", item.strip())
        if not match:
            raise ProtocolError(f"no number: {item}")
        due.append(int(match[1]) ** int(match[2] or 1) - bool(match[3]))
    expect(found, due, "the list of integers")


def user_data_lines(found: ids.UserData) -> list[Line]:
    return describe_wire.user_data(found) + [Line(bytes(31), "zeros")]


def told_user_data(found: ids.UserData, blocks: Blocks) -> None:
    expect(found, ids.UserData(0x0102030405060708, ANN, "Ann", ""), "the user data")


def client_message(more: Callable[[Any, Blocks], None] | None = None) -> Spec:
    return Spec(
        lambda data: client_messages.read(data, MOOR),
        lambda found: client_messages.write(found, MOOR),
        lambda found: describe_wire.client_message(found, MOOR),
        more,
    )


def host_message(more: Callable[[Any, Blocks], None] | None = None) -> Spec:
    def lines(found: host_messages.Message) -> list[Line]:
        return describe_wire.host_message(found, MOOR)

    return Spec(
        lambda data: host_messages.read(data, MOOR), lambda found: host_messages.write(found, MOOR), lines, more
    )


def told_renet(found: renet.Said, blocks: Blocks) -> None:
    said = [data for _, data in found.messages]
    expect(said, [blocks["message-list-rooms"].data, blocks["message-leave"].data], "what the packet says")
    expect([number for number, _ in found.messages], [0, 1], "the ids of messages")


def renet_lines(found: renet.Said | renet.Acknowledged) -> list[Line]:
    if isinstance(found, renet.Said):
        return describe_wire.said(found, MOOR)
    return describe_wire.acknowledged(found)


def told_acknowledgement(found: renet.Acknowledged, blocks: Blocks) -> None:
    numbers = sorted(end - back for end, length in found.ranges for back in range(length))
    expect(numbers, [0, 1, 2, 5, 6], "what is acknowledged")


def told_hello(found: client_messages.Hello, blocks: Blocks) -> None:
    expect(little(found.fingerprint, 8), blocks[FINGERPRINT].data, "the fingerprint of the hello")
    if found.held is not None:
        expect(found.held.room, ROOM, "the room that is held")


def told_past(found: client_messages.Hello, blocks: Blocks) -> None:
    told_hello(found, blocks)
    expect(client_messages.past(found.room), ("moor", "ago", 30.0), "the past that is asked for")
    for when, kind, number in (("-1.5m", "ago", 90.0), ("1200", "tick", 1200), ("02:05.5", "time", 125.5)):
        expect(client_messages.past(f"moor@{when}"), ("moor", kind, number), when)


def told_names(found: host_messages.Refused, blocks: Blocks) -> None:
    """The names are those of the game that this end knows, and make the fingerprint."""
    listed = found.refusal[1][0]
    due = [["component", of.name] for of in MOOR.components]
    due += [["command", name] for name, _ in MOOR.commands] + [["fact", name] for name, _ in MOOR.facts]
    expect([[what, name] for what, name, _ in listed], due, "the list of names")
    expect(little(host_messages.fingerprint(listed), 8), blocks[FINGERPRINT].data, "the fingerprint of the list")


def fingerprint(blocks: Blocks) -> bytes:
    refusal = host_messages.read(blocks["refused-protocol"].data, MOOR)
    assert isinstance(refusal, host_messages.Refused)
    return little(host_messages.fingerprint(refusal.refusal[1][0]), 8)


def told_welcome(found: host_messages.Welcome, blocks: Blocks) -> None:
    expect((found.room, found.user), (ROOM, ANN), "the room and the user")


def told_snapshot(found: host_messages.Chunk, blocks: Blocks) -> None:
    expect(found.last, True, "that the piece is the last")
    expect(host_messages.cut(found.data), [found], "the snapshot, cut")
    replica = Replica(MOOR, ROOM)
    replica.snapshot(Snapshot.read(Reader(found.data), MOOR))
    expect(replica.entities[2].id, ANN, "the id of net id 2")


def told_packed(found: host_messages.Chunk, blocks: Blocks) -> None:
    expect(found.data, b"moor" * 20, "what is packed")
    ours = host_messages.cut(found.data, pack=True)
    expect(host_messages.read(host_messages.write(ours[0], MOOR), MOOR), ours[0], "what is packed here")


def session(blocks: Blocks) -> Client:
    """The client of all vectors, in their order; whatever does not fit is an error."""
    return stay({name: block_bytes(block) for name, block in blocks.items()})


def at_start(blocks: Blocks) -> Client:
    client = Client(MOOR)
    client.packet(blocks["packet-welcome"].data)
    return client


def hardy(make: Callable[[], Client], data: bytes) -> None:
    """However a message is damaged, a client that takes it ends in no other way than by its own error."""
    for damaged in damages(data):
        try:
            make().message(damaged)
        except ProtocolError:
            continue


def told_batch(found: Batch, blocks: Blocks) -> None:
    client = at_start(blocks)
    client.message(blocks["message-batch"].data)
    expect(client.replica.diverged, None, "the tick of a hash that differs")
    expect(client.replica.hash(), found.hash, "the hash of the state")
    state = {net: of.values for net, of in client.replica.entities.items()}
    due = {0: {2: "Open"}, 2: {0: [1.0, 2.0], 1: 70}, 3: {0: [3.0, 0.5], 1: 7}}
    expect(state, due, "the state of tick 2")
    hardy(lambda: at_start(blocks), blocks["message-batch"].data)


def told_removal(found: Batch, blocks: Blocks) -> None:
    client = at_start(blocks)
    for name in ("packet-batch", "packet-part"):
        client.packet(blocks[name].data)
    client.message(blocks["message-batch-remove"].data)
    expect(client.replica.diverged, None, "the tick of a hash that differs")
    expect(client.replica.hash(), found.hash, "the hash of the state")
    expect(client.replica.entities[3].values, {0: [3.25, 0.5]}, "what is left of net id 3")


def told_difference(found: host_messages.Chunk, blocks: Blocks) -> None:
    client = session(blocks)
    state = {net: of.values for net, of in client.replica.entities.items()}
    expect((client.replica.tick, state), (5, {0: {2: "Open"}, 3: {0: [3.25, 0.5]}}), "the state of tick 5")
    hardy(lambda: at_start(blocks), blocks["message-difference"].data)


def told_private(found: Private, blocks: Blocks) -> None:
    replica = Replica(MOOR, ROOM)
    replica.tick = 42
    refused(lambda: replica.private(found), "a deletion of what is not known")
    replica.entities[7] = Entity(ids.minted_id(ROOM, 7), 7, 41)
    expect((replica.private(found), replica.entities), (True, {}), "what is left")


def told_steps(found: Batch, blocks: Blocks) -> None:
    replica = Replica(HEALTH_ONLY, ROOM)
    replica.tick = 0
    for net, health in ((0, 50), (1, 15)):
        replica.entities[net] = Entity(ids.minted_id(ROOM, net), net, 0, {0: health})
    replica.batch(found)
    expect({net: of.values[0] for net, of in replica.entities.items()}, {0: 53, 1: 10}, "what the steps make")


# A packet, and the messages that each piece makes whole.
Opened = tuple[Packet, dict[int, list[bytes]]]


def read_packet(data: bytes) -> Opened:
    """Each piece by itself: in the vectors one begins where a message does."""
    packet = Packet.read(data, MOOR)
    messages: dict[int, list[bytes]] = {}
    for frame in packet.frames:
        if isinstance(frame.body, Piece):
            stream = Stream()
            stream.base = frame.body.offset
            messages[frame.body.offset] = stream.add(frame.body)
            for message in messages[frame.body.offset]:
                host_messages.read(message, MOOR)
    return packet, messages


def a_packet(more: Callable[[Opened, Blocks], None] | None = None) -> Spec:
    def lines(found: Opened) -> list[Line]:
        return describe_wire.packet(*found, MOOR)

    return Spec(read_packet, lambda found: found[0].write(MOOR), lines, more, goes_on=True)


def told_messages(names: list[str], offset: int, found: Opened, blocks: Blocks) -> None:
    """The stream says the messages that stand elsewhere by themselves."""
    due = [blocks[name].data for name in names]
    expect(found[1], {offset: due}, "the messages of the piece")
    frame = found[0].frames[-1].body
    assert isinstance(frame, Piece)
    expect(frame.data, packets.write_stream(due), "the stream")


def told_first_packet(found: Opened, blocks: Blocks) -> None:
    expect(found[0].number, packets.FIRST_NUMBER, "the number of the first packet")
    told_messages(["message-welcome", "message-chunk"], 0, found, blocks)


def told_second_packet(found: Opened, blocks: Blocks) -> None:
    before = packets.write_stream([blocks[name].data for name in ("message-welcome", "message-chunk")])
    told_messages(["message-verdicts", "message-batch"], len(before), found, blocks)
    expect(packets.widen(packets.FIRST_NUMBER, found[0].number), 1025, "the number of the second packet")


def told_part(found: Opened, blocks: Blocks) -> None:
    client = at_start(blocks)
    client.packet(blocks["packet-part"].data)
    expect(client.replica.entities[2].values[0], [1.0, 2.0], "a position whose batch has not come")
    client.packet(blocks["packet-batch"].data)
    positions = {net: of.values.get(0) for net, of in client.replica.entities.items()}
    expect(positions, {0: None, 2: [1.25, 2.0], 3: [3.25, 0.5]}, "the positions of tick 3")
    expect(packets.write_gaps([3, 5, 9], 1), b"\x16", "the gaps of 3, 5 and 9")


def a_report(came: set[int]) -> Spec:
    return Spec(Report.read, lambda _: Report.of(1, came, 10).write(), describe_wire.report, goes_on=True)


def make_batch_steps() -> Spec:
    return Spec(
        lambda data: Batch.read(Reader(data), HEALTH_ONLY),
        lambda found: found.write(HEALTH_ONLY),
        lambda found: describe.batch(found, HEALTH_ONLY),
        told_steps,
    )


def specs(blocks: Blocks) -> dict[str, Spec]:
    found = {
        "integers": Spec(
            read_integers,
            lambda of: b"".join(integer(value) for value in of),
            lambda of: [Line(integer(value), str(value)) for value in of],
            told_integers,
            goes_on=True,
        ),
        "id-room": an_id(ids.room_id("moor")),
        "id-named": an_id(ids.named_id("ann")),
        "id-minted": an_id(ids.minted_id(ROOM, 7)),
        "id-of-command": an_id(ids.command_id(ANN, 3, 0)),
        "user-data": Spec(
            lambda data: ids.UserData.read(data + bytes(192)),
            lambda of: of.write()[:64],
            user_data_lines,
            told_user_data,
        ),
        "renet-messages": Spec(renet.read, lambda of: of.write(), renet_lines, told_renet),
        "renet-acknowledgement": Spec(renet.read, lambda of: of.write(), renet_lines, told_acknowledgement),
        "message-hello-past": client_message(told_past),
        "message-hello": client_message(told_hello),
        "message-hello-held": client_message(told_hello),
        "message-welcome": host_message(told_welcome),
        "refused-protocol": host_message(told_names),
        "message-chunk": host_message(told_snapshot),
        "message-chunk-packed": host_message(told_packed),
        "message-batch": host_message(told_batch),
        "message-batch-remove": host_message(told_removal),
        "message-private": host_message(told_private),
        "message-difference": host_message(told_difference),
        "packet-welcome": a_packet(told_first_packet),
        "packet-padding": a_packet(),
        "packet-echo": a_packet(),
        "packet-batch": a_packet(told_second_packet),
        "packet-part": a_packet(told_part),
        "report": a_report({1024}),
        "report-bits": a_report({1024, 1025, 1027}),
        "batch-steps": make_batch_steps(),
        FINGERPRINT: Spec(exactly(8), lambda _: fingerprint(blocks)),
    }
    for name in ("command", "leave", "diverged", "list-rooms"):
        found[f"message-{name}"] = client_message()
    for name in ("no-room", "rejected", "detail", "closed", "kicked", "full", "shutdown", "elsewhere"):
        found[f"refused-{name}"] = host_message()
    for name in ("verdicts", "durable", "speed", "rooms"):
        found[f"message-{name}"] = host_message()
    return found
