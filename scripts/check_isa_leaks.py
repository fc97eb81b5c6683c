#!/usr/bin/env python3
"""Fails when objects compiled for one instruction set define code that the linker may merge with the same code compiled
for another.

usage: scripts/check_isa_leaks.py NAMESPACE OBJECT...      such as tael::avx512 kernels.dir/gemm.cpp.o

An inline function or template that is not in NAMESPACE is emitted in every object that uses it, under one name, as a
weak symbol; the linker keeps any one of the copies. If it keeps that of AVX-512, a machine without AVX-512 dies of it.
"""
import subprocess
import sys


def leaks(namespace, nm_output):
    """Weak code outside the namespace. `nm -C` prints: address, type, demangled name."""
    for line in nm_output.splitlines():
        fields = line.split(maxsplit=2)
        if len(fields) == 3 and fields[1] in "Wi" and namespace + "::" not in fields[2]:
            yield fields[2]


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    namespace, objects = sys.argv[1], sys.argv[2:]
    found = 0
    for path in objects:
        output = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        for name in leaks(namespace, output):
            print(f"{path}: {name}")
            found += 1
    if found:
        print(f"{found} functions leak out of {namespace}: force them inline (TAEL_INLINE of base/view.hpp), or put them "
              f"into the namespace")
        return 1
    print(f"{len(objects)} objects define no mergeable code outside {namespace}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
