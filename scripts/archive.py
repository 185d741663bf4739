#!/usr/bin/env python3
"""Lists, checks and extracts a snapmerge archive, with nothing of snapmerge.

    archive.py ls DIR                 the entries
    archive.py check DIR              the chain, and every recipe and object, hashed and decompressed
    archive.py get DIR ENTRY FILE     the snapshot as it was, its SHA-256 compared; ENTRY is as ls
                                      prints it, or NAME@latest

The format is specified in src/archive/FORMAT.md. Needs Python 3.8 or newer, its standard library, and
for zstd Python 3.14 or else the program zstd. An encrypted archive is opened with the age identity in the
file $SNAPMERGE_IDENTITY_FILE, by the module pyrage or else the program age. Signatures (ed25519) are not checked: the standard
library cannot. No file is replaced. Exit codes: 0 done, 1 failed, 2 wrong usage, 10 no such archive or
entry, 13 damaged.
"""
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

class Ended(Exception):
    """With the exit code, and why."""

def shown(text):
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)

def unage(data, identity):
    """What is encrypted for an identity, by what others wrote."""
    try:
        import pyrage
        keys = [line for line in identity.split() if line.startswith("AGE-SECRET-KEY-1")]
        try:
            return pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(key) for key in keys])
        except Exception as err:
            raise Ended(13, f"it cannot be decrypted: {err}") from None
    except ImportError:
        pass
    program = shutil.which("age")
    if not program:
        raise Ended(1, "to decrypt takes the module pyrage or the program age (apt install age)")
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        # The secret goes through a pipe, not into a file or an argument.
        done = subprocess.run([program, "-d", "-i", "-", file.name], input=identity.encode(),
                              stdout=subprocess.PIPE)
    if done.returncode:
        raise Ended(13, "age cannot decrypt it")
    return done.stdout

def archive_key(encryption):
    """The archive's own secret key, which is encrypted for its owner's."""
    file = os.environ.get("SNAPMERGE_IDENTITY_FILE")
    if not file:
        raise Ended(2, "the archive is encrypted: name the file of the age identity in "
                       f"SNAPMERGE_IDENTITY_FILE, that of {' or '.join(encryption['recipients'])}")
    with open(file) as identity:
        return unage(base64.b64decode(encryption["key"]), identity.read()).decode()

def opener(key):
    """A function that decrypts, if there is a key, and decompresses."""
    decompress = unzstd()
    return (lambda data: decompress(unage(data, key))) if key else decompress

def unzstd():
    """A function that decompresses; frames that are to be skipped are skipped."""
    try:
        from compression import zstd  # Python 3.14
        return zstd.decompress
    except ImportError:
        pass
    program = shutil.which("zstd")
    if not program:
        raise Ended(1, "to decompress takes Python 3.14 or the program zstd (apt install zstd)")
    def run(data):
        done = subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE)
        if done.returncode:
            raise Ended(13, "zstd cannot decompress it")
        return done.stdout
    return run

def read(*path):
    try:
        with open(os.path.join(*path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise Ended(13, f"{os.path.join(*path)} is missing") from None

def named(root, folder, name):
    """What is called by its SHA-256."""
    data = read(root, folder, name[:2], name + ".zst")
    if hashlib.sha256(data).hexdigest() != name:
        raise Ended(13, f"{folder}/{name[:2]}/{name}.zst does not have the SHA-256 it is called by")
    return data

def chain(root):
    """All records, every link of the chain checked, and the archive's key if it is encrypted."""
    path = lambda seq: os.path.join(root, "log", f"{seq:08}.json")
    if not os.path.exists(path(1)) and not os.path.exists(os.path.join(root, "head.json")):
        raise Ended(10, f"there is no archive in {root}")
    records, prev, seq, key = [], None, 1, None
    try:
        head = json.loads(read(root, "head.json"))
        while seq <= head["seq"] or os.path.exists(path(seq)):
            data = read(path(seq))
            record = json.loads(data.split(b"\n")[0])
            if record["seq"] != seq or record["prev"] != prev:
                raise Ended(13, f"at record {seq} the chain is broken")
            if record.get("format", 1) > 2:
                raise Ended(1, f"this is format {record['format']}; this script knows 1 and 2")
            if "encryption" in record:
                key = archive_key(record["encryption"])
            if key and seq > 1:
                record.update(json.loads(unage(base64.b64decode(record["body"]), key)))
            prev = hashlib.sha256(data).hexdigest()
            if seq == head["seq"] and prev != head["hash"]:
                raise Ended(13, f"record {seq} is not what head.json knows")
            records.append(record)
            seq += 1
    except (ValueError, KeyError, TypeError):
        raise Ended(13, f"head.json or record {seq} cannot be read") from None
    return records, key

def entries(root):
    there, (records, key) = {}, chain(root)
    for record in records:
        if record["kind"] == "add":
            there[record["entry"]["id"]] = record["entry"]
        if record["kind"] == "repair" and record["id"] in there:
            there[record["id"]]["recipe"] = record["recipe"]
        for forgotten in record.get("forgot", []):
            there.pop(forgotten["id"], None)
    return there, key

def recipe_of(root, entry, decompress):
    recipe = json.loads(decompress(named(root, "recipes", entry["recipe"])))
    if recipe["sha256"] != entry["sha256"] or sum(recipe["extents"][2::3]) != entry["bytes"]:
        raise Ended(13, f"recipe {entry['recipe']} is not that of {entry['id']}")
    return recipe

def get(root, entry, decompress, file):
    """Each object is opened once, and all that comes of it is put in its place."""
    recipe, pieces, at = recipe_of(root, entry, decompress), {}, 0
    threes = iter(recipe["extents"])
    for number, start, count in zip(threes, threes, threes):
        pieces.setdefault(number, []).append((at, start, count))
        at += count
    for number, wanted in pieces.items():
        chunks = decompress(named(root, "objects", recipe["objects"][number]["name"]))
        for at, start, count in wanted:
            file.seek(at)
            file.write(chunks[start:start + count])
    file.seek(0)
    whole = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        whole.update(block)
    if whole.hexdigest() != entry["sha256"]:
        raise Ended(13, f"{entry['id']} came out with the SHA-256 {whole.hexdigest()}")

def main(verb="", root="", entry="", target=""):
    there, key = entries(root) if root else ({}, None)
    if verb == "ls" and root:
        for one in there.values():
            print(shown(one["id"]), one["bytes"], one["sha256"], sep="\t")
    elif verb == "check" and root:
        decompress = opener(key)
        objects = {part["name"]: part["raw"] for one in there.values()
                   for part in recipe_of(root, one, decompress)["objects"]}
        for name, raw in objects.items():
            if len(decompress(named(root, "objects", name))) != raw:
                raise Ended(13, f"object {name} has another size than its recipe says")
        print(f"OK: {len(there)} entries, {len(objects)} objects")
    elif verb == "get" and target:
        if entry not in there:
            name = entry[:-len("@latest")] if entry.endswith("@latest") else entry
            of_name = [one for one in there.values() if one["name"] == name]
            if not of_name:
                raise Ended(10, f"there is no entry {entry}: see ls")
            entry = max(of_name, key=lambda one: one["time"])["id"]
        if os.path.lexists(target):
            raise Ended(2, f"{target} exists already: choose another name")
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(target) or ".") as file:
            get(root, there[entry], opener(key), file)
            os.fsync(file.fileno())
            os.link(file.name, target)  # which never replaces; the other name goes with the file
    else:
        raise Ended(2, __doc__)

if __name__ == "__main__":
    try:
        main(*sys.argv[1:5])
    except Ended as ended:
        print(f"archive.py: {shown(ended.args[1])}", file=sys.stderr)
        sys.exit(ended.args[0])
