"""BLAKE3 with 32 bytes in plain Python, for machines without the blake3 package. Slow, and right."""
import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
            (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
M = 0xFFFFFFFF


def compress(chaining, words, counter, length, flags):
    s = list(chaining) + list(IV[:4]) + [counter & M, counter >> 32 & M, length, flags]
    words = list(words)
    for last in (False,) * 6 + (True,):
        for i, (a, b, c, d) in enumerate(QUARTERS):
            for word, r1, r2 in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                s[a] = (s[a] + s[b] + word) & M
                x = s[d] ^ s[a]
                s[d] = (x >> r1 | x << 32 - r1) & M
                s[c] = (s[c] + s[d]) & M
                x = s[b] ^ s[c]
                s[b] = (x >> r2 | x << 32 - r2) & M
        if not last:
            words = [words[i] for i in PERMUTATION]
    return [s[i] ^ s[i + 8] for i in range(8)]


def chunk(data, counter, root):
    chaining, blocks = IV, [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END | (ROOT if root else 0) if last else 0)
        words = struct.unpack("<16I", block.ljust(64, b"\0"))
        chaining = compress(chaining, words, counter, len(block), flags)
    return chaining


def subtree(data, counter, root):
    if len(data) <= 1024:
        return chunk(data, counter, root)
    left = 1024
    while left * 2 < len(data):  # the left side is the largest full tree that leaves something
        left *= 2
    words = subtree(data[:left], counter, False) + subtree(data[left:], counter + left // 1024, False)
    return compress(IV, words, 0, 64, PARENT | (ROOT if root else 0))


def blake3(data):
    return struct.pack("<8I", *subtree(data, 0, True))
