"""A client that folds what a host sends, from packets to a state. Run: client.py PROTOCOL.md

It takes the vectors of one stay in moor in their order, checks the hashes, and prints the state as JSON.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import host_messages
from batches import Batch, Difference, Private, Snapshot
from game import MOOR, Game
from host_messages import Chunk, Message, Pieces, Refused, Welcome
from packets import Echo, Packet, Padding, Part, Piece, Report, Stream, widen
from primitives import ProtocolError, Reader
from replica import Replica
from vectors import read_document

NO_ROOM = bytes(16)


class Client:
    def __init__(self, game: Game) -> None:
        self.game = game
        self.stream = Stream()
        self.newest: int | None = None
        self.came: set[int] = set()
        self.reports = 0
        self.replica = Replica(game, NO_ROOM)
        self.welcome: Welcome | None = None
        self.refused: Refused | None = None
        self.complete = 0
        self.snapshot = Pieces()
        self.difference = Pieces()
        self.private: Private | None = None

    def packet(self, data: bytes) -> list[Message]:
        """Takes a packet once, and gives the messages that it made whole."""
        packet = Packet.read(data, self.game)
        number = widen(self.newest, packet.number)
        if number is None or number in self.came:
            return []
        self.newest = number if self.newest is None else max(self.newest, number)
        self.came = {other for other in self.came | {number} if other > self.newest - 1_024}
        told = []
        for frame in packet.frames:
            body = frame.body
            if isinstance(body, Piece):
                told += [self.message(message) for message in self.stream.add(body)]
            elif isinstance(body, Part):
                self.replica.part(packet.tick, body)
            elif isinstance(body, Echo):
                self.complete = max(self.complete, body.complete)
            else:
                assert isinstance(body, Padding)
        return told

    def report(self, waited: int) -> Report:
        self.reports += 1
        return Report.of(self.reports, self.came, waited)

    def message(self, data: bytes) -> Message:
        message = host_messages.read(data, self.game)
        if self.refused is not None:
            raise ProtocolError("a message behind the refusal")
        if isinstance(message, Welcome):
            if self.welcome is not None:
                raise ProtocolError("a second welcome")
            self.welcome = message
            self.replica.room = message.room
        elif isinstance(message, Refused):
            self.refused = message
        elif isinstance(message, Chunk):
            self._chunk(message)
        elif isinstance(message, Batch):
            self._batch(message)
        elif isinstance(message, Private):
            self.private = message if message.followed else None
            if not message.followed:
                self.replica.private(message)
        return message

    def _chunk(self, chunk: Chunk) -> None:
        pieces = self.difference if chunk.difference else self.snapshot
        whole = pieces.add(chunk)
        if whole is None:
            return
        if chunk.difference:
            self.replica.difference(Difference.read(Reader(whole), self.game))
        else:
            self.replica.snapshot(Snapshot.read(Reader(whole), self.game))

    def _batch(self, batch: Batch) -> None:
        """A private message comes before its batch and is taken behind it; with another batch it is void."""
        taken = self.replica.batch(batch)
        private, self.private = self.private, None
        if taken and private is not None and private.tick == batch.tick:
            self.replica.private(private)


def stay(vectors: dict[str, bytes]) -> Client:
    """All that one client of moor is sent, in the order of its ticks."""
    client = Client(MOOR)
    for name in ("packet-welcome", "packet-batch", "packet-part"):
        client.packet(vectors[name])
    for name in ("message-batch-remove", "message-difference"):
        client.message(vectors[name])
    if client.replica.diverged is not None:
        raise ProtocolError(f"the state differs from the hash of tick {client.replica.diverged}")
    return client


def main() -> int:
    if len(sys.argv) != 2:
        print("client.py PROTOCOL.md", file=sys.stderr)
        return 2
    document = Path(sys.argv[1]).read_text(encoding="utf-8")
    try:
        client = stay({block.name: block.data for block in read_document(document)})
    except (ProtocolError, KeyError) as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 1
    print(client.replica.json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
