"""What every block of vectors has to stand: reading, writing again, its comments, cuts and damages.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from describe import compare
from primitives import ProtocolError
from vectors import Block, Line

# The blocks of the document by name, for checks that one makes of another.
Blocks = dict[str, Block]


@dataclass(frozen=True)
class Spec:
    """How a block is read and written, what its comments must say, and what else is known of it.

    `goes_on`: what is cut off may be whole too, as where items follow each other up to the end.
    """

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    lines: Callable[[Any], list[Line]] | None = None
    more: Callable[[Any, Blocks], None] | None = None
    goes_on: bool = False
    partly: str = ""


class Wrong(Exception):
    """A block is not what the document says of it."""


def expect(found: Any, due: Any, what: str) -> None:
    if found != due:
        raise Wrong(f"{what} is {found!r}, and should be {due!r}")


def refused(call: Callable[[], Any], what: str) -> None:
    try:
        call()
    except ProtocolError:
        return
    raise Wrong(f"{what} was not refused")


def damages(data: bytes) -> Iterator[bytes]:
    """Each byte made another one in turn, and bytes that are not there."""
    for at, byte in enumerate(data):
        for other in {0, 0xFF, byte ^ 1, byte ^ 0x80, byte + 1 & 0xFF} - {byte}:
            yield data[:at] + bytes([other]) + data[at + 1 :]
    yield data + b"\0"
    yield data + b"\xff" * 20


def block_bytes(block: Block) -> bytes:
    return block.data if block.kind == "hex" else block.text.encode()


def check(block: Block, spec: Spec, blocks: Blocks) -> None:
    data = block_bytes(block)
    value = spec.read(data)
    again = spec.write(value)
    if again != data:
        at = next((at for at, (a, b) in enumerate(zip(again, data)) if a != b), min(len(again), len(data)))
        raise Wrong(f"written again it differs from byte {at} on: {again[at : at + 8].hex()}")
    if spec.lines is not None:
        compare(block, spec.lines(value))
    elif any(block.comments) and spec.more is None:
        raise Wrong("nothing looks at its comments")
    if spec.more is not None:
        spec.more(value, blocks)
    for size in range(len(data)):
        _try(spec, data[:size], f"its first {size} bytes", spec.goes_on)
    for damaged in damages(data):
        _try(spec, damaged, f"damaged, {damaged.hex()}", True)


def _try(spec: Spec, data: bytes, what: str, may_be_read: bool) -> None:
    """Bytes that are not the vector's may be refused, in one way only; what is read can be written."""
    try:
        value = spec.read(data)
    except ProtocolError:
        return
    except Exception as error:
        raise Wrong(f"{what}: {type(error).__name__}: {error}") from error
    if not may_be_read:
        raise Wrong(f"{what} were not refused")
    try:
        spec.write(value)
    except ProtocolError:
        pass
    except Exception as error:
        raise Wrong(f"{what}, written: {type(error).__name__}: {error}") from error
