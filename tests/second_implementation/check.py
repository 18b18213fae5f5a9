"""Checks every block of test vectors in PROTOCOL.md. Run: check.py PROTOCOL.md

A line for each block, and at the end how many there are. It ends with 1 if a block fails, is not known here, or is
known here and not in the document.

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import checks_store
import checks_wire
from checking import Wrong, check
from primitives import ProtocolError
from vectors import read_document


def main() -> int:
    if len(sys.argv) != 2:
        print("check.py PROTOCOL.md", file=sys.stderr)
        return 2
    try:
        blocks = {block.name: block for block in read_document(Path(sys.argv[1]).read_text(encoding="utf-8"))}
    except (OSError, UnicodeDecodeError, ProtocolError) as error:
        print(f"check.py: {error}", file=sys.stderr)
        return 1
    specs = checks_wire.specs(blocks) | checks_store.specs(blocks)
    failed = whole = partly = 0
    for name, block in blocks.items():
        spec = specs.pop(name, None)
        try:
            if spec is None:
                raise Wrong("this check does not know it")
            check(block, spec, blocks)
        except Exception as error:
            # A block that another one needs may be gone, and a fault of this check's own is no reason to stop.
            kind = "" if isinstance(error, (Wrong, ProtocolError)) else f"{type(error).__name__}: "
            print(f"FAILED {name}: {kind}{error}")
            failed += 1
            continue
        if spec.partly:
            print(f"partly {name}: {spec.partly}")
            partly += 1
        else:
            print(f"ok {name}")
            whole += 1
    for name in specs:
        print(f"FAILED {name}: the document does not have it")
        failed += 1
    print(f"{len(blocks)} blocks, {whole} whole, {partly} partly")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
