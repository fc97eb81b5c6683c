#!/usr/bin/env python3
"""Fails when an object file holds writable memory of the process that docs/rooms.txt does not name.

usage: scripts/check_state.py ROOMS OBJECT...      such as docs/rooms.txt libtael_data.a main.cpp.o

The state rule of check_house.py reads lines and sees what looks like a global; this reads what the compiler made, so
nothing hides from it. Constants live in read-only sections (or in .data.rel.ro, which the loader makes so). A constant that
is made when it is first used is writable memory to the linker: a line `made-once` names it, a line `flag FILE` what a signal
sets in the object of that file. In which namespace a variable stands does not matter; what the compiler makes of its own, and
what the headers of the libraries bring along, is passed over.
"""
import pathlib
import re
import subprocess
import sys

WRITABLE = re.compile(r"\s(\.bss|\.data|\.tbss|\.tdata|\*COM\*)(?!\.rel\.ro)\S*\t[0-9a-f]+\s+(.*)$")
NOT_OURS = re.compile(r"(guard variable|vtable|VTT|typeinfo|construction vtable|TLS) |DW\.ref\.|__tls_guard$"
                      r"|(std|__gnu_cxx|CLI|YAML|fmt|nlohmann)::")


def writable(table):
    """Names of variables of ours in writable sections, from what `objdump -t -C` prints."""
    for line in table.splitlines():
        match = WRITABLE.search(line)
        if not match:
            continue
        name = match[2].removeprefix(".hidden ")
        if not name.startswith((".bss", ".data", ".tbss", ".tdata")) and not NOT_OURS.match(name):  # a section's own name
            yield name


def named(rooms, path):
    """What may be writable in the object `path`."""
    names = set()
    for line in rooms.splitlines():
        key, _, name = (part.strip() for part in line.partition(":"))
        file = key.removeprefix("flag ").strip()
        if key == "made-once" or (file != key and pathlib.PurePath(path).name == pathlib.PurePath(file).name + ".o"):
            names.add(name)
    return names


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    rooms, objects = pathlib.Path(sys.argv[1]).read_text(), sys.argv[2:]
    found = 0
    for path in objects:
        allowed = named(rooms, path)
        table = subprocess.run(["objdump", "-t", "-C", path], capture_output=True, text=True, check=True).stdout
        for name in writable(table):
            if name not in allowed:
                print(f"{path}: {name}")
                found += 1
    if found:
        print(f"{found} variables belong to the process: put them into an object that is passed down")
        return 1
    print(f"{len(objects)} objects hold no state of the process")
    return 0


if __name__ == "__main__":
    sys.exit(main())
