#!/usr/bin/env python3
"""Fails when an object file holds writable memory of the process that docs/rooms.txt does not name.

usage: scripts/check_state.py ROOMS OBJECT...      such as docs/rooms.txt libtael_data.a

The state rule of check_house.py reads lines and sees what looks like a global; this reads what the compiler made, so
nothing hides from it. Constants live in read-only sections (or in .data.rel.ro, which the loader makes so). A constant that
is made when it is first used is writable memory to the linker: a line `made-once` names it.
"""
import re
import subprocess
import sys

WRITABLE = re.compile(r"\s(\.bss|\.data|\.tbss|\.tdata|\*COM\*)(?!\.rel\.ro)\S*\t[0-9a-f]+\s+(.*)$")


def writable(table):
    """Names of variables of ours in writable sections, from what `objdump -t -C` prints."""
    for line in table.splitlines():
        match = WRITABLE.search(line)
        if not match or "tael::" not in match[2] or re.search(r"guard variable|vtable|typeinfo|DW\.ref", match[2]):
            continue
        yield match[2].removeprefix(".hidden ")


def named(rooms):
    return {line.partition(":")[2].strip() for line in rooms.splitlines() if line.startswith("made-once:")}


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    allowed, objects = named(open(sys.argv[1]).read()), sys.argv[2:]
    found = 0
    for path in objects:
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
