"""XXH3-64 with a seed, by the algorithm's published description (sections 8 to 10 use it).

An implementation of PROTOCOL.md by what stands there alone, which shares nothing with the library's.
"""

from __future__ import annotations

MASK = 2**64 - 1
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
MIX1 = 0x165667919E3779F9
MIX2 = 0x9FB21C651E98DF25


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _swap(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & MASK


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & MASK) ^ product >> 64


def _avalanche(value: int) -> int:
    value ^= value >> 37
    value = value * MIX1 & MASK
    return value ^ value >> 32


def _avalanche_64(value: int) -> int:
    value ^= value >> 33
    value = value * P64[1] & MASK
    value ^= value >> 29
    value = value * P64[2] & MASK
    return value ^ value >> 32


def _short(data: bytes, seed: int) -> int:
    """Up to 16 bytes."""
    size = len(data)
    if size > 8:
        flip_low = ((_u64(SECRET, 24) ^ _u64(SECRET, 32)) + seed) & MASK
        flip_high = ((_u64(SECRET, 40) ^ _u64(SECRET, 48)) - seed) & MASK
        low = _u64(data, 0) ^ flip_low
        high = _u64(data, size - 8) ^ flip_high
        return _avalanche((size + _swap(low, 8) + high + _fold(low, high)) & MASK)
    if size >= 4:
        seed ^= _swap(seed & 0xFFFFFFFF, 4) << 32
        flip = ((_u64(SECRET, 8) ^ _u64(SECRET, 16)) - seed) & MASK
        value = (_u32(data, size - 4) + (_u32(data, 0) << 32)) ^ flip
        value ^= _rotate(value, 49) ^ _rotate(value, 24)
        value = value * MIX2 & MASK
        value ^= (value >> 35) + size
        value = value * MIX2 & MASK
        return value ^ value >> 28
    if size:
        combined = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
        flip = ((_u32(SECRET, 0) ^ _u32(SECRET, 4)) + seed) & MASK
        return _avalanche_64(combined ^ flip)
    return _avalanche_64(seed ^ _u64(SECRET, 56) ^ _u64(SECRET, 64))


def _mix(data: bytes, at: int, secret: int, seed: int) -> int:
    low = _u64(data, at) ^ ((_u64(SECRET, secret) + seed) & MASK)
    high = _u64(data, at + 8) ^ ((_u64(SECRET, secret + 8) - seed) & MASK)
    return _fold(low, high)


def _middle(data: bytes, seed: int) -> int:
    """17 to 240 bytes."""
    size = len(data)
    total = size * P64[0]
    if size <= 128:
        for pair in range((size - 1) // 32 + 1):
            total += _mix(data, 16 * pair, 32 * pair, seed)
            total += _mix(data, size - 16 * (pair + 1), 32 * pair + 16, seed)
        return _avalanche(total & MASK)
    for at in range(8):
        total += _mix(data, 16 * at, 16 * at, seed)
    total = _avalanche(total & MASK)
    for at in range(8, size // 16):
        total += _mix(data, 16 * at, 16 * (at - 8) + 3, seed)
    total += _mix(data, size - 16, 136 - 17, seed)
    return _avalanche(total & MASK)


def _stripe(lanes: list[int], data: bytes, at: int, secret: bytes, key_at: int) -> None:
    for lane in range(8):
        value = _u64(data, at + 8 * lane)
        key = value ^ _u64(secret, key_at + 8 * lane)
        lanes[lane ^ 1] = (lanes[lane ^ 1] + value) & MASK
        lanes[lane] = (lanes[lane] + (key & 0xFFFFFFFF) * (key >> 32)) & MASK


def _long(data: bytes, seed: int) -> int:
    """More than 240 bytes."""
    secret = SECRET
    if seed:
        words = [_u64(SECRET, at) + (seed if at % 16 == 0 else -seed) & MASK for at in range(0, len(SECRET), 8)]
        secret = b"".join(word.to_bytes(8, "little") for word in words)
    lanes = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]
    size = len(data)
    blocks = (size - 1) // 1024
    for block in range(blocks):
        for stripe in range(16):
            _stripe(lanes, data, 1024 * block + 64 * stripe, secret, 8 * stripe)
        for lane in range(8):
            value = lanes[lane]
            value ^= value >> 47
            value ^= _u64(secret, 128 + 8 * lane)
            lanes[lane] = value * P32[0] & MASK
    for stripe in range((size - 1 - 1024 * blocks) // 64):
        _stripe(lanes, data, 1024 * blocks + 64 * stripe, secret, 8 * stripe)
    _stripe(lanes, data, size - 64, secret, 192 - 64 - 7)
    total = size * P64[0]
    for pair in range(4):
        key = 11 + 16 * pair
        total += _fold(lanes[2 * pair] ^ _u64(secret, key), lanes[2 * pair + 1] ^ _u64(secret, key + 8))
    return _avalanche(total & MASK)


def xxh3_64(data: bytes, seed: int = 0) -> int:
    if len(data) <= 16:
        return _short(data, seed)
    return _middle(data, seed) if len(data) <= 240 else _long(data, seed)
