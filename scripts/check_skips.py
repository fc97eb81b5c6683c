#!/usr/bin/env python3
"""Fails when a test was skipped for a reason that scripts/allowed_skips.txt does not list.

usage: scripts/check_skips.py [--quiet] JUNIT.xml...     (files written by ctest --output-junit)
"""
import argparse
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

LIST = pathlib.Path(__file__).with_name("allowed_skips.txt")


def allowed_reasons(text):
    lines = (line.strip() for line in text.splitlines())
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


def reasons_of(output):
    """GoogleTest prints 'FILE:LINE: Skipped', then the reason, then a line that begins with '['."""
    found = re.findall(r": Skipped\n(.*?)(?:\n\s*\n|\n\[|\Z)", output, re.S)
    return [" ".join(reason.split()) for reason in found]


def skipped_tests(junit):
    """(name, [reasons]) of every test case in the file that did not run to its end."""
    for case in ET.parse(junit).getroot().iter("testcase"):
        if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            yield case.get("name"), reasons_of(case.findtext("system-out") or "")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quiet", action="store_true", help="print failures only")
    arguments.add_argument("junit", nargs="+")
    arguments = arguments.parse_args()
    allowed = allowed_reasons(LIST.read_text())
    bad, counted = [], 0
    for junit in arguments.junit:
        for name, reasons in skipped_tests(junit):
            counted += 1
            if not reasons:
                bad.append(f"{name}: skipped or not run without a reason")
            bad += [f"{name}: skipped because: {reason}" for reason in reasons
                    if not any(pattern.fullmatch(reason) for pattern in allowed)]
    if bad:
        print("\n".join(bad), file=sys.stderr)
        print(f"{len(bad)} skips for reasons outside scripts/allowed_skips.txt: make the test run here, or, if no "
              f"machine without that resource can run it, add the reason to the list", file=sys.stderr)
        return 1
    if not arguments.quiet:
        print(f"{counted} tests skipped, each for a listed reason")
    return 0


if __name__ == "__main__":
    sys.exit(main())
