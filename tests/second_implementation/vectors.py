"""The blocks of test vectors that PROTOCOL.md has, as they stand in it.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from primitives import ProtocolError

OPENING = re.compile(r"```(\w+)(?: (\S+))?\Z")


@dataclass(frozen=True)
class Line:
    """Bytes, and what the document says of them: nothing where a line goes on with the one before."""

    data: bytes
    comment: str


@dataclass(frozen=True)
class Block:
    kind: str
    name: str
    row: int
    before: str
    lines: list[Line]
    text: str

    @property
    def data(self) -> bytes:
        return b"".join(line.data for line in self.lines)

    @property
    def comments(self) -> list[str]:
        return [line.comment for line in self.lines]


def _line(row: int, text: str) -> Line:
    digits, _, comment = text.partition("#")
    try:
        return Line(bytes.fromhex(digits.strip()), comment.strip())
    except ValueError:
        raise ProtocolError(f"line {row}: no hexadecimal digits") from None


def read_document(document: str) -> list[Block]:
    """Every block of kind hex or json. One without a name, or with a name that comes twice, is an error."""
    found: list[Block] = []
    opening: re.Match[str] | None = None
    start = 0
    inside: list[str] = []
    before: list[str] = []
    for row, text in enumerate(document.split("\n"), 1):
        if opening is None:
            opening = OPENING.match(text)
            start, inside = row, []
            if opening is None:
                before.append(text)
        elif text == "```":
            if opening[1] in ("hex", "json"):
                lines = [_line(start + at, of) for at, of in enumerate(inside, 1)] if opening[1] == "hex" else []
                # The paragraph that leads to the block.
                prose = "\n".join(before).strip().rpartition("\n\n")[2].replace("\n", " ")
                found.append(Block(opening[1], opening[2] or "", start, prose, lines, "\n".join(inside)))
            opening, before = None, []
        else:
            inside.append(text)
    if opening is not None:
        raise ProtocolError(f"line {start}: a block that does not end")
    names = [block.name for block in found]
    for block in found:
        if not block.name or names.count(block.name) > 1:
            raise ProtocolError(f"line {block.row}: a block without a name of its own")
    return found
