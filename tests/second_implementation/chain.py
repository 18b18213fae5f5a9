"""Facts and refusals as a store writes them, in JSON, and the chain that marks them (section 10).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from primitives import ProtocolError, utf8

FACT_KEYS = ("t", "k", "p", "a", "c", "w", "d", "h")
FACT_NEEDS = {"t", "k", "p", "d", "h"}
REFUSAL_KEYS = ("a", "c", "d", "k", "m", "r", "t", "h")
REFUSAL_NEEDS = {"a", "d", "k", "r", "t", "h"}
MARK = re.compile(r',"h":"([0-9a-f]{16})"\}\Z')


@dataclass(frozen=True)
class Item:
    """A fact or a refusal: its text as it stands, and what that says."""

    text: str
    said: dict[str, Any]

    @property
    def mark(self) -> str:
        return str(self.said["h"])

    @property
    def unmarked(self) -> str:
        return self.text[: -len(',"h":"0123456789abcdef"}')] + "}"


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_item(text: str, keys: tuple[str, ...], needs: set[str]) -> Item:
    """Keys in their order, none twice, no spaces between, the mark last."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ProtocolError("a key stands twice in JSON")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise ProtocolError(f"{name} is no JSON")

    try:
        said = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {error}") from None
    if not isinstance(said, dict) or list(said) != [key for key in keys if key in said] or not needs <= set(said):
        raise ProtocolError("keys that are missing, unknown or out of order")
    if type(said["t"]) is not int or not isinstance(said["k"], str) or not MARK.search(text):
        raise ProtocolError("an item without a tick, a kind or a mark")
    return Item(text, said)


def read_fact(text: str) -> Item:
    return read_item(text, FACT_KEYS, FACT_NEEDS)


def read_refusal(text: str) -> Item:
    return read_item(text, REFUSAL_KEYS, REFUSAL_NEEDS)


def read_chunk(payload: bytes, refusals: bool = False) -> list[Item]:
    """A JSON array with an item a line."""
    body = utf8(payload)
    if not (body.startswith("[") and body.endswith("]")):
        raise ProtocolError("a chunk is a JSON array")
    lines = body[1:-1].split(",\n") if len(body) > 2 else []
    return [read_refusal(line) if refusals else read_fact(line) for line in lines]


def write_chunk(items: list[Item]) -> bytes:
    return ("[" + ",\n".join(item.text for item in items) + "]").encode()


def write_item(said: dict[str, Any], keys: tuple[str, ...]) -> str:
    return compact({key: said[key] for key in keys if key in said})


class Chain:
    """The head of a room, and how it goes on."""

    def __init__(self, room: bytes) -> None:
        self.head = hashlib.sha256(room).digest()

    def add(self, unmarked: str) -> str:
        """The mark of an item whose text this is without one."""
        self.head = hashlib.sha256(self.head + unmarked.encode()).digest()
        return self.head[:8].hex()

    def follow(self, facts: list[Item], refusals: list[Item]) -> None:
        """Goes over all items, tick by tick, facts before refusals; a mark that is another one is refused."""
        order = sorted([(item.said["t"], 0, at, item) for at, item in enumerate(facts)]
                       + [(item.said["t"], 1, at, item) for at, item in enumerate(refusals)], key=lambda of: of[:3])
        for _, _, _, item in order:
            mark = self.add(item.unmarked)
            if mark != item.mark:
                raise ProtocolError(f"a mark is {item.mark}, and by the chain {mark}")
