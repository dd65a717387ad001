"""Damage to files, of many kinds."""

from __future__ import annotations

import numpy as np

__all__ = ["FILES_A_KIND", "damage"]

FILES_A_KIND = 2000

_WORDS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b",", b'"', b"\n", b"1e999", b"\r")


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Changes, removes, repeats or adds some bytes, more often near the ends."""
    content = bytearray(content)
    for _ in range(random.integers(1, 4)):
        size = len(content)
        place = int(random.integers(size + 1) if random.random() < 0.5 else random.integers(90))
        place = min(place, size)
        if random.random() < 0.25:
            place = size - place
        length = int(random.integers(1, 20))
        match random.integers(6):
            case 0:
                content[place : place + length] = random.bytes(min(length, size - place))
            case 1:
                del content[place : place + length]
            case 2:
                del content[place:]
            case 3:
                content[place:place] = content[place : place + length] * 3
            case 4:
                word = _WORDS[random.integers(len(_WORDS))]
                content[place : place + len(word)] = word
            case 5 if place < size:
                content[place] ^= 1 << int(random.integers(8))
    return bytes(content)
