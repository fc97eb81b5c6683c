#!/usr/bin/env python3
"""The house rules that a script can measure. The law is docs/rooms.txt; each rule is one function below and one sentence
in CONTRIBUTING.md.

usage: scripts/check_house.py [--only RULE,...] [--root DIR] [--cache FILE] [--compiler CXX] [--jobs N] [--list]

Prints a line for each breach, and once for each rule what to do about it; exits 1 if there was one. Python's standard
library only; `format` needs clang-format 14 and `headers` a compiler.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

WARN_LINES, MAX_LINES, COLUMNS = 400, 600, 120
CXX = (".hpp", ".cpp", ".cu", ".cuh")
CODE = CXX + (".py", ".sh", ".cmake")
FORBIDDEN_WORDS = {"fast", "new", "helper", "helpers", "util", "utils", "manager", "managers"}
# Split so that this file does not break the rules it states.
MARKERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b|\bDISABLED" + r"_\w")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(" + "|".join(["work", "root", "home", "Users", "tmp"]) + r")/|\.\./" + "shared")
PLAIN_HEADERS = re.compile(  # C++, POSIX and Linux
    r"[a-z_]+|(sys|netinet|arpa|linux)/\w+\.h|(unistd|fcntl|pthread|sched|signal|dirent|errno|dlfcn|poll|netdb|cpuid|"
    r"time|ftw|spawn|termios|stdlib|stdio)\.h|fmt/\w+\.h")
TEST_HEADERS = re.compile(r"(gtest|gmock)/\S+|gtest/gtest\.h|benchmark/benchmark\.h")
INCLUDE = re.compile(r'^\s*#\s*include\b\s*(?:/\*.*?\*/\s*)?([<"])([^">]+)[">]', re.M)
INDIRECT_INCLUDE = re.compile(r'^\s*#\s*include\b(?!\s*(?:/\*.*?\*/\s*)?[<"])', re.M)

Breach = collections.namedtuple("Breach", "path line text")
RULES = {}  # name -> (function, what to do)


def rule(name, todo):
    def add(function):
        RULES[name] = (function, todo)
        return function
    return add


class Law:
    """docs/rooms.txt: `room: rooms`, `top: names`, `sub-rooms: paths`, `third-party HEADER: owners`, `only NAME: owners`,
    `state: files`, `long FILE: reason`."""

    def __init__(self, text):
        self.rooms, self.third_party, self.only, self.long = {}, {}, {}, {}
        self.top, self.sub_rooms, self.state = set(), set(), set()
        for line in text.splitlines():
            line = line.split("#")[0].strip()
            if not line:
                continue
            key, _, value = (part.strip() for part in (line + " ").partition(": "))
            words = value.split()
            kind, _, name = key.partition(" ")
            if kind in ("third-party", "only"):
                (self.third_party if kind == "third-party" else self.only)[name.strip()] = set(words)
            elif kind in ("top", "sub-rooms", "state"):
                getattr(self, kind.replace("-", "_")).update(words)
            elif kind in ("made-once", "flag"):  # for check_state.py
                continue
            elif kind == "long":
                self.long[name.strip()] = value
            else:
                self.rooms[key] = set(words)


class Tree:
    """The files of the project: what git tracks or would track."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        listed = subprocess.run(["git", "-C", self.root, "ls-files", "-coz", "--exclude-standard"], capture_output=True,
                                text=True) if (self.root / ".git").exists() else None
        if listed and listed.returncode == 0:
            files = listed.stdout.split("\0")
        else:
            files = [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()]
            files = [f for f in files if not re.match(r"(build|runs|\.git)([-/]|$)", f) and "__pycache__" not in f]
        self.files = sorted({f for f in files if f and (self.root / f).is_file()})
        self.law = Law(self.text("docs/rooms.txt"))
        self.cxx = [f for f in self.files if f.endswith(CXX) and not f.startswith("tests/golden/")]
        self.headers = [f for f in self.cxx if f.endswith((".hpp", ".cuh"))]

    def text(self, path):
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def lines(self, path):
        return enumerate(self.text(path).splitlines(), 1)

    def includes(self, path):
        """(line, quote, header) of each include."""
        text = self.text(path)
        for match in INCLUDE.finditer(text):
            yield text.count("\n", 0, match.start(2)) + 1, match[1], match[2]

    def room_of(self, path):
        room = path.split("/")[0]
        return room if room in self.law.rooms else None


def code_of(line):
    """The line without its // comment and without the insides of its strings."""
    return re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


@rule("rooms", "include only from the rooms on your room's line of docs/rooms.txt, and write the path from the root; if the "
      "room must know more, move the code up, or pass it in")
def check_rooms(tree, _):
    for path in tree.cxx:
        room = tree.room_of(path)
        if room is None:
            yield Breach(path, 1, "C++ outside the rooms")
            continue
        for line, quote, header in tree.includes(path):
            if quote != '"':
                continue
            target = tree.room_of(header)
            if target is None or "/" not in header or ".." in header:
                yield Breach(path, line, f'"{header}" is not written from the root of the tree')
            elif not (tree.root / header).is_file():
                yield Breach(path, line, f'"{header}" does not exist')
            elif target != room and target not in tree.law.rooms[room]:
                yield Breach(path, line, f'{room}/ may not include "{header}"')


@rule("owners", "a third-party header and a function with an owner appear only in the files that docs/rooms.txt names; go "
      "through the owner's header")
def check_owners(tree, _):
    for path in tree.cxx:
        for match in INDIRECT_INCLUDE.finditer(tree.text(path)):
            yield Breach(path, tree.text(path).count("\n", 0, match.end()) + 1, "an include that names no file")
        for line, quote, header in tree.includes(path):
            if quote != "<":
                continue
            owners = next((owners for name, owners in tree.law.third_party.items()
                           if header == name or (name.endswith("/") and header.startswith(name))), None)
            if owners is not None:
                if path not in owners:
                    yield Breach(path, line, f"<{header}> belongs to {' '.join(sorted(owners))}")
            elif not PLAIN_HEADERS.fullmatch(header) and not (path.startswith("tests/") and TEST_HEADERS.fullmatch(header)):
                yield Breach(path, line, f"<{header}> has no owner in docs/rooms.txt")
        for name, owners in tree.law.only.items():
            if path in owners:
                continue
            for line, text in tree.lines(path):
                if re.search(rf"\b(secure_)?{re.escape(name)}\b", code_of(text)):
                    yield Breach(path, line, f"{name} belongs to {' '.join(sorted(owners))}")


@rule("own-header", "x.cpp includes its own header before anything else, which shows that the header stands alone")
def check_own_header(tree, _):
    for path in tree.cxx:
        own = re.sub(r"\.(cpp|cu)$", ".hpp", path)
        if own == path or own not in tree.headers:
            continue
        first = next(tree.includes(path), None)
        if first is None or first[2] != own:
            yield Breach(path, first[0] if first else 1, f'the first include is not "{own}"')


@rule("sources", "list every source in the CMakeLists.txt of its room by name; delete the file if it is not wanted: a test "
      "that nobody builds is no test")
def check_sources(tree, _):
    def listed(cmake):
        text = re.sub(r"#.*", "", tree.text(cmake)) if cmake in tree.files else ""
        return set(re.findall(r"[\w./-]+\.(?:cpp|cu)\b", text))
    cmakes = {}
    for path in (p for p in tree.cxx if p.endswith((".cpp", ".cu"))):
        for folder in itertools.islice(pathlib.PurePosixPath(path).parents, 2):
            cmake = str(folder / "CMakeLists.txt")
            names = cmakes.setdefault(cmake, listed(cmake))
            if str(pathlib.PurePosixPath(path).relative_to(folder)) in names:
                break
        else:
            yield Breach(path, 1, "not listed in a CMakeLists.txt")
    for cmake in (f for f in tree.files if f.endswith("CMakeLists.txt")):
        folder = pathlib.PurePosixPath(cmake).parent
        for name in sorted(cmakes.get(cmake, listed(cmake))):
            if str(folder / name) not in tree.files:
                yield Breach(cmake, 1, f"lists {name}, which does not exist")


@rule("links", "a room's CMakeLists.txt says tael_room(NAME ...), which links the rooms of its line in docs/rooms.txt; name no "
      "other room there")
def check_links(tree, _):
    for room, allowed in tree.law.rooms.items():
        cmake = f"{room}/CMakeLists.txt"
        if cmake not in tree.files or room == "tests":
            continue
        text = re.sub(r"#.*", "", tree.text(cmake))
        if len(re.findall(rf"\btael_room\(\s*{room}\b", text)) != 1:
            yield Breach(cmake, 1, f"does not define its library once by tael_room({room} ...)")
        for other in set(re.findall(r"\btael_([a-z]+)\b", text)) & set(tree.law.rooms) - allowed - {room}:
            yield Breach(cmake, 1, f"names tael_{other}, which {room}/ may not include")


@rule("places", "the top of the tree and the sub-rooms are fixed (lines `top` and `sub-rooms` of docs/rooms.txt); put the file "
      "into the room that CONTRIBUTING.md names for its kind")
def check_places(tree, _):
    rooms = set(tree.law.rooms)
    for top in sorted({f.split("/")[0] for f in tree.files} - tree.law.top - rooms):
        yield Breach(top, 1, "not a place at the top of the tree")
    sub_rooms = tree.law.sub_rooms | {f"tests/{room}" for room in rooms}
    for folder in sorted({"/".join(f.split("/")[:2]) for f in tree.files if f.count("/") > 1 and f.split("/")[0] in rooms}):
        if folder not in sub_rooms:
            yield Breach(folder, 1, "not one of the sub-rooms")
    for path in tree.files:
        if path.split("/")[0] in rooms and path.count("/") > 2 and not path.startswith("tests/golden/"):
            yield Breach(path, 1, "a room inside a sub-room")


@rule("length", f"split the file by noun; above {MAX_LINES} lines only with a line `long FILE: reason` in docs/rooms.txt")
def check_length(tree, options):
    for path in (p for p in tree.files if (p.endswith(CODE) or "." not in pathlib.PurePosixPath(p).name)
                 and not p.startswith(("tests/golden/", "LICENSE", "NOTICE"))):
        lines = tree.text(path).count("\n")
        if lines > MAX_LINES and not tree.law.long.get(path):
            yield Breach(path, lines, f"{lines} lines")
        elif lines > WARN_LINES and options.verbose:
            print(f"{path}: {lines} lines; think about splitting it (fails above {MAX_LINES})")
    for path in tree.law.long:
        if path not in tree.files or tree.text(path).count("\n") <= MAX_LINES:
            yield Breach("docs/rooms.txt", 1, f"`long {path}` is not needed any more")


@rule("columns", f"at most {COLUMNS} characters in a line: clang-format leaves comments as they are, so break them by hand")
def check_columns(tree, _):
    for path in tree.cxx:
        for line, text in tree.lines(path):
            comment = re.sub(r'"(\\.|[^"\\])*"', lambda string: "_" * len(string[0]), text).find("//")
            if 0 <= comment < COLUMNS < len(text):
                yield Breach(path, line, f"a comment that ends in column {len(text)}")


@rule("names", "name the thing for what it is; these words say nothing: " + " ".join(sorted(FORBIDDEN_WORDS)))
def check_names(tree, _):
    for path in (p for p in tree.files if not p.startswith("tests/golden/")):
        for word in set(re.split(r"[_.\-/]", path.lower())) & FORBIDDEN_WORDS:
            yield Breach(path, 1, f"has '{word}' in its name")


def expand(pattern):
    """a{b,c}d as [abd, acd]."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    return [p for part in match[1].split(",") for p in expand(pattern[:match.start()] + part + pattern[match.end():])]


@rule("words", "a path named in a document or a comment must exist; correct it, or delete the sentence")
def check_words(tree, _):
    places = {f.split("/")[0] for f in tree.files if "/" in f} | set(tree.law.rooms)

    def exists(path, base=""):
        path = path.rstrip("/")
        where = tree.root / base
        return (where / path).exists() or any(where.glob(path if "*" in path else path + ".*"))
    for path in (p for p in tree.files if p.endswith(".md")):
        fenced = False
        for line, text in tree.lines(path):
            fenced ^= text.lstrip().startswith("```")
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
                if not re.match(r"[a-z]+:", target) and not exists(target, pathlib.PurePosixPath(path).parent):
                    yield Breach(path, line, f"links to {target}, which does not exist")
            for span in ([text] if fenced else re.findall(r"`([^`]+)`", text)):
                for token in re.findall(r"[\w.{},*/-]+", span):
                    token = token.strip(",").rstrip(".")
                    if token.removeprefix("./").split("/")[0] not in places or "/" not in token:
                        continue
                    for name in expand(token):
                        if not exists(name):
                            yield Breach(path, line, f"names {name}, which does not exist")
    named = re.compile(r"\b((?:" + "|".join(sorted(map(re.escape, places))) + r")/[\w/]+\.(?:hpp|cpp|cu|py|md|txt|sh|yaml))\b")
    for path in (p for p in tree.files if p.endswith((*CODE, ".txt", ".yaml")) and not p.startswith("tests/golden/")):
        for line, text in tree.lines(path):
            comment = re.search(r"//.*" if path.endswith(CXX) else r"^\s*#.*", text)
            for name in named.findall(comment[0]) if comment else ():
                if not (tree.root / name).exists() and not re.search(r"/[A-Z]+\.", name):  # NAME stands for any name
                    yield Breach(path, line, f"names {name}, which does not exist")


@rule("markers", "finish it, or say in a document what is missing; a test that does not run is deleted or fixed")
def check_markers(tree, _):
    for path in (p for p in tree.files if p.endswith(CODE) or p.endswith("CMakeLists.txt")):
        for line, text in tree.lines(path):
            if match := MARKERS.search(text):
                yield Breach(path, line, f"'{match[0].strip()}'")


@rule("machine-paths", "the tree must work anywhere: take the path from the caller, the build or testing::TempDir()")
def check_machine_paths(tree, _):
    for path in (p for p in tree.files if not p.endswith((".safetensors", ".h5", ".bin"))):
        for line, text in tree.lines(path):
            if match := MACHINE_PATHS.search(text):
                yield Breach(path, line, f"names '{match[0]}'")


@rule("state", "no mutable globals: 8 ranks run as 8 threads of one process. Put it into an object that is passed down; a "
      "file that must hold a signal's flag has lines `state` and `flag` in docs/rooms.txt")
def check_state(tree, _):
    keyword = (r"(?!(?:struct|class|enum|union|using|namespace|template|typedef|friend|constexpr|const|return|if|for|while|do"
               r"|else|switch|case|public|private|protected|concept|requires|goto|throw|delete|new|co_\w+)\b)")
    word = r"(?:(?:unsigned|signed|long|short|volatile|constinit|\[\[\w+\]\]|alignas\([^()]*\)|const(?=[^;=]*\*))\s+)*"
    value = word + r"[A-Za-z_][\w:]*(?:<[^;]*>)?[\s&*]+\w+(?:\[[^\]]*\])*\s*(?:=[^=]|;|\{[^()]*\};)"
    patterns = [re.compile(r"\bthread_local\b"), re.compile(r"^\s*static\s+(?:inline\s+)?" + keyword + value),
                re.compile(r"^(?:inline\s+|extern\s+)?" + keyword + value),
                # Of a type that is named on the spot, made on the spot, or made on lines above.
                re.compile(r"^(?:(?:static|inline|extern)\s+)*(?:struct|class|union|enum(?!\s+(?:class|struct)\b))\s+[\w:]+"
                           r"(?:<[^;]*>)?[\s&*]+(?!final\b)\w+(?:\[[^\]]*\])*\s*(?:=[^=]|;|\{[^()]*\};)"),
                re.compile(r"^(?:(?:static|inline)\s+)*(?:struct|class|union|enum)\b.*\}[\s&*]*(?!k[A-Z])[A-Za-z_]\w*(?:\[[^\]]*\])*"
                           r"\s*[={;,]"),
                re.compile(r"^\}[\s&*]*(?!k[A-Z])[A-Za-z_]\w*(?:\[[^\]]*\])*\s*(?:=[^=]|[;,]|\{.*;)")]
    for path in (p for p in tree.cxx if not p.startswith("tests/") and p not in tree.law.state):
        for line, text in tree.lines(path):
            if any(pattern.search(code_of(text)) for pattern in patterns):
                yield Breach(path, line, f"looks like a mutable global: {text.strip()}")


@rule("types", "two types of one name in one namespace are one to the linker, which keeps the destructor of either: give one "
      "of them another name; in a source, put it into the unnamed namespace")
def check_types(tree, _):
    opens = re.compile(r"^(?:inline )?namespace\b\s*([\w:]*)\s*\{$")
    defines = re.compile(r"^(?:struct|class|union|enum(?: class| struct)?)\s+(?:alignas\([^()]*\)\s+)?(\w+)\b(?!\s*<|::)[^;]*$|"
                         r"^(?:struct|class|union|enum(?: class| struct)?)\s+(\w+)\b(?!\s*<|::)[^;<]*\{.*\};")
    first = {}
    for path in tree.cxx:
        namespaces = []
        for line, text in tree.lines(path):
            code = code_of(text).rstrip()
            if match := opens.match(code):
                namespaces.append(match[1])
            elif text.startswith("}  // namespace") and namespaces:
                namespaces.pop()
            elif (match := defines.match(code)) and "" not in namespaces:
                name = "::".join([*namespaces, match[1] or match[2]])
                if name in first and first[name][0] != path:
                    yield Breach(path, line, f"{name} is also in {first[name][0]}:{first[name][1]}")
                first.setdefault(name, (path, line))


@rule("contracts", "begin the header with a paragraph: what it is, who owns what, what the caller owes; then #pragma once")
def check_contracts(tree, _):
    for path in tree.headers:
        text = tree.text(path)
        if not text.startswith("// "):
            yield Breach(path, 1, "does not begin with a comment")
        if not re.search(r"^#pragma once$", text, re.M):
            yield Breach(path, 1, "has no #pragma once")


def in_parallel(jobs, function, items):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, items))


@rule("format", "clang-format-14 -i FILE")
def check_format(tree, options):
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout if program else ""
    if " version 14." not in version:
        yield Breach(".clang-format", 1, "clang-format 14 is not installed (apt-get install clang-format-14)")
        return

    def check(path):
        done = subprocess.run([program, "--dry-run", "-Werror", path], cwd=tree.root, capture_output=True, text=True)
        return re.findall(r"^[^:\n]+:(\d+):", done.stderr, re.M) or (["1"] if done.returncode else [])
    for path, lines in zip(tree.cxx, in_parallel(options.jobs, check, tree.cxx)):
        if lines:
            yield Breach(path, int(lines[0]), f"{len(lines)} places are not formatted")


@rule("headers", "include in the header what it uses")
def check_headers(tree, options):
    """Every public header compiles alone, and twice. x.hpp with an x.cpp beside it is shown to by the build, because x.cpp
    includes it first (own-header); the others are compiled here. What did so is remembered by the hash of all that it
    includes."""
    flags = ["-std=c++20", "-fsyntax-only", '-DTAEL_SOURCE_DIR=""', "-Wall", "-Wextra", "-Werror", "-I", str(tree.root), "-x", "c++", "-"]
    version = subprocess.run([options.compiler, "--version"], capture_output=True, text=True, check=True).stdout
    cache = pathlib.Path(options.cache) if options.cache else None
    known = json.loads(cache.read_text()) if cache and cache.exists() else {}

    def digest(path):
        seen, queue = set(), [path]
        while queue:
            name = queue.pop()
            if name not in seen and (tree.root / name).is_file():
                seen.add(name)
                queue += [header for _, quote, header in tree.includes(name) if quote == '"']
        return hashlib.sha256("\0".join([version, *flags, *(n + tree.text(n) for n in sorted(seen))]).encode()).hexdigest()

    def check(path):
        state = digest(path)
        if known.get(path) == state:
            return path, state, ""
        done = subprocess.run([options.compiler, *flags], input=f'#include "{path}"\n#include "{path}"\n', text=True,
                              capture_output=True)
        return path, state, done.stderr if done.returncode else ""
    alone = [h for h in tree.headers if h.endswith(".hpp") and not (tree.root / h).with_suffix(".cpp").is_file()]
    results = in_parallel(options.jobs, check, alone)
    if cache:
        cache.write_text(json.dumps({path: state for path, state, error in results if not error}, indent=0))
    for path, _, error in results:
        if error:
            first = next((line for line in error.splitlines() if "error" in line), error.splitlines()[0])
            yield Breach(path, 1, f"does not compile alone: {first}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(RULES), help="rules to check, separated by commas; -RULE leaves one out")
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--cache", help="file that remembers which headers compiled")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="print warnings as well")
    parser.add_argument("--list", action="store_true", help="print the rules and what to do when one is broken")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name}: {todo}" for name, (_, todo) in RULES.items()))
        return 0
    names = options.only.split(",")
    if all(name.startswith("-") for name in names):
        names = [name for name in RULES if "-" + name not in names]
    if unknown := [name for name in names if name not in RULES]:
        parser.error(f"no rule {unknown[0]}; rules: {' '.join(RULES)}")
    tree, broken = Tree(options.root), 0
    for name in names:
        function, todo = RULES[name]
        breaches = list(function(tree, options))
        for breach in breaches:
            print(f"{breach.path}:{breach.line}: {name}: {breach.text}")
        if breaches:
            print(f"    to do: {todo}\n")
        broken += len(breaches)
    print(f"{len(names)} house rules, {len(tree.files)} files, {broken} breaches")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
