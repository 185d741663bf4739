#!/usr/bin/env python3
"""The digests of a collection's points, from the output of `snapmerge export`, as specified in
src/point/DIGEST.md: snapmerge export master.snapshot | scripts/digest.py [--records]"""
import json, struct, sys, uuid
from decimal import Decimal
try:
    from blake3 import blake3 as fast
    blake3 = lambda data: fast(data).digest()
except ImportError:
    from blake3_pure import blake3
u32 = lambda n: struct.pack("<I", n)
text = lambda s: u32(len(s.encode())) + s.encode()
floats = lambda values: struct.pack(f"<{len(values)}f", *values)
id_bytes = lambda i: b"\0" + struct.pack("<Q", i) if isinstance(i, int) else b"\1" + uuid.UUID(i).bytes
def canonical(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(k)}:{canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and not -2**63 <= value < 2**64:
        value = float(value)
    if isinstance(value, float):
        sign, digits, exponent = Decimal(repr(value)).as_tuple()
        exponent += len(digits) - 1
        digits = "".join(map(str, digits)).rstrip("0") or "0"
        point = "." if digits[1:] else ""
        return "-" * sign + digits[0] + point + digits[1:] + f"e{exponent if value else 0}"
    return json.dumps(value, ensure_ascii=False)
def values(vector):
    if isinstance(vector, dict):
        pairs = sorted(zip(vector["indices"], vector["values"]))
        return b"\1" + u32(len(pairs)) + b"".join(u32(i) + floats([v]) for i, v in pairs)
    if vector and isinstance(vector[0], list):
        flat = [v for row in vector for v in row]
        return b"\2" + u32(len(vector[0])) + u32(len(flat)) + floats(flat)
    return b"\0" + u32(len(vector)) + floats(vector)
def add(sums, part, digest):
    count, total = sums.get(part, (0, 0))
    sums[part] = count + 1, (total + int.from_bytes(digest, "little")) % 2**256
sums, stream = {}, []
for point in map(json.loads, sys.stdin):
    own, key, vectors = id_bytes(point["id"]), point.get("shard_key"), point["vector"]
    vectors = vectors if isinstance(vectors, dict) else {"": vectors}
    record = b"\3" + own + (b"\0" if key is None else b"\2" + text(key) if isinstance(key, str)
                            else b"\1" + struct.pack("<Q", key)) + u32(len(vectors))
    for name in sorted(vectors):
        digest = blake3(b"\1" + own + text(name) + values(vectors[name]))
        add(sums, "vector " + json.dumps(name, ensure_ascii=False) + " ", digest)
        record += text(name) + digest
    digest = blake3(b"\2" + own + canonical(point["payload"]).encode())
    add(sums, "payload ", digest)
    stream.append(blake3(record + digest))
    add(sums, "", stream[-1])
if "--records" in sys.argv:
    print("\n".join(digest.hex() for digest in stream))
show = lambda part: print(part + "v2:%d:" % sums[part][0] + sums[part][1].to_bytes(32, "little").hex())
show("") if stream else print("v2:0:" + "00" * 32)
print(f"v2s:{len(stream)}:{blake3(b''.join(stream)).hex()}")
for part in sorted(part for part in sums if part):
    show(part)
