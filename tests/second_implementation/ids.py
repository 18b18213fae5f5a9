"""Ids of rooms and entities, and the user data of a token (sections 1 and 2).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from primitives import U48, ProtocolError, Reader, little, text

OID = uuid.NAMESPACE_OID.bytes
READABLE = uuid.UUID("7d5f31c0-6d1b-5c8e-9a47-2f1e60a2b3c4").bytes
NIL = bytes(16)
USER_DATA = 256


def version5(namespace: bytes, name: bytes) -> bytes:
    """A UUIDv5. Its own few lines, since names are bytes here and the library of Python 3.11 takes texts alone."""
    digest = bytearray(hashlib.sha1(namespace + name).digest()[:16])
    return _stamped(digest, 5)


def _stamped(raw: bytearray, version: int) -> bytes:
    raw[6] = raw[6] & 0x0F | version << 4
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def room_id(name: str) -> bytes:
    return version5(OID, name.encode())


def named_id(name: str) -> bytes:
    return version5(READABLE, name.encode())


def minted_id(room: bytes, serial: int) -> bytes:
    if not 0 <= serial <= U48:
        raise ProtocolError(f"serial number {serial} has no place in 6 bytes")
    return _stamped(bytearray(room[:10] + serial.to_bytes(6, "big")), 8)


def command_id(author: bytes, command: int, nth: int) -> bytes:
    """The id of the entity that a command creates; the first one is number 0."""
    return version5(author, command.to_bytes(4, "big") + nth.to_bytes(4, "big"))


def printed(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))


@dataclass(frozen=True)
class UserData:
    client: int
    player: bytes
    name: str
    room: str

    @staticmethod
    def read(data: bytes) -> UserData:
        """The whole 256 bytes, of which those behind the room must be zeros."""
        if len(data) != USER_DATA:
            raise ProtocolError(f"user data of {len(data)} bytes")
        reader = Reader(data)
        if reader.take(4) != b"rk01":
            raise ProtocolError("user data of another version")
        found = UserData(reader.little(8), reader.take(16), reader.text(32), reader.text(64))
        if any(reader.rest()):
            raise ProtocolError("user data goes on behind the room")
        return found

    def write(self) -> bytes:
        data = b"rk01" + little(self.client, 8) + self.player + text(self.name, 32) + text(self.room, 64)
        return data.ljust(USER_DATA, b"\0")
