#!/usr/bin/env python3
"""The checkers of scripts/ must see what they are for: each breach is planted in a small tree that is clean without it."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
import check_isa_leaks  # noqa: E402
import check_skips  # noqa: E402
import check_state  # noqa: E402

COMPILER = os.environ.get("TAEL_TEST_CXX", "g++")
CLEAN = {
    "docs/rooms.txt": "base:\nmodel: base\ntests: base model\nthird-party zlib.h: base/zip.cpp\nonly getenv: model/main.cpp\n"
                      "top: README.md docs CMakeLists.txt .clang-format\nsub-rooms: model/commands\nstate: model/main.cpp\n",
    ".clang-format": (ROOT / ".clang-format").read_text(),
    "README.md": "See `docs/rooms.txt` and [the law](docs/rooms.txt); `model/net.{hpp,cpp}`, `build/tael`.\n",
    "CMakeLists.txt": "add_subdirectory(base)\n",
    "base/CMakeLists.txt": "tael_room(base SOURCES zip.cpp)\n",
    "base/zip.hpp": "// What it is.\n#pragma once\n\nint zip();\n",
    "base/zip.cpp": '#include "base/zip.hpp"\n\n#include <zlib.h>\n\nint zip() { return 1; }\n',
    "model/CMakeLists.txt": "tael_room(model SOURCES main.cpp net.cpp commands/train.cpp)\n",
    "model/net.hpp": '// What it is.\n#pragma once\n\n#include "base/zip.hpp"\n\ninline int net() { return zip(); }\n',
    "model/net.cpp": '#include "model/net.hpp"\n\n#include <vector>\n\nstatic const int kSize = 1;\n',
    "model/main.cpp": '#include <cstdlib>\n\nstatic int stop = 0;\nint main() { return getenv("A") ? stop : 1; }\n',
    "model/commands/train.cpp": "int train() { return 2; }\n",
    "tests/model/CMakeLists.txt": "tael_test(model SOURCES net_test.cpp)\n",
    "tests/model/net_test.cpp": '#include <gtest/gtest.h>\n\n#include "model/net.hpp"\n',
}


class House(unittest.TestCase):
    def check(self, changes, *arguments):
        """Exit code and output of check_house.py on the clean tree with these files changed (None: gone)."""
        with tempfile.TemporaryDirectory() as folder:
            for path, text in {**CLEAN, **changes}.items():
                if text is not None:
                    file = pathlib.Path(folder, path)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(text)
            done = subprocess.run([sys.executable, ROOT / "scripts/check_house.py", "--root", folder, "--compiler", COMPILER,
                                   *arguments], capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr

    def refused(self, rule, changes, text):
        code, output = self.check(changes, "--only", rule)
        self.assertEqual(code, 1, output)
        self.assertIn(f": {rule}: ", output)
        self.assertIn(text, output)
        self.assertIn("    to do: ", output)

    def test_a_clean_tree_passes_every_rule(self):
        code, output = self.check({})
        self.assertEqual(code, 0, output)
        self.assertIn(" 0 breaches", output)

    def test_an_unknown_rule_is_refused(self):
        self.assertEqual(self.check({}, "--only", "romos")[0], 2)

    def test_rooms(self):
        up = '// Up.\n#pragma once\n#include "model/net.hpp"\n'
        self.refused("rooms", {"base/up.hpp": up}, 'base/up.hpp:3: rooms: base/ may not include "model/net.hpp"')
        self.refused("rooms", {"model/net.cpp": '#include "net.hpp"\n'}, "not written from the root")
        self.refused("rooms", {"model/net.cpp": '#include "base/../base/zip.hpp"\n'}, "not written from the root")
        self.refused("rooms", {"model/net.cpp": '#include "base/gone.hpp"\n'}, "does not exist")
        self.refused("rooms", {"other/net.cpp": "int x();\n"}, "outside the rooms")

    def test_owners(self):
        self.refused("owners", {"model/net.cpp": "#include <zlib.h>\n"}, "<zlib.h> belongs to base/zip.cpp")
        self.refused("owners", {"model/net.cpp": "#include <boost/any.hpp>\n"}, "has no owner")
        self.refused("owners", {"model/net.cpp": "#include <gtest/gtest.h>\n"}, "has no owner")
        self.refused("owners", {"base/zip.cpp": 'int a = std::getenv("B") != nullptr;\n'}, "getenv belongs to model/main.cpp")
        self.assertEqual(self.check({"base/zip.cpp": '// no getenv here\nauto s = "getenv";\n'}, "--only", "owners")[0], 0)

    def test_own_header(self):
        late = '#include <vector>\n\n#include "model/net.hpp"\n'
        self.refused("own-header", {"model/net.cpp": late}, 'the first include is not "model/net.hpp"')

    def test_sources(self):
        self.refused("sources", {"model/extra.cpp": "int x();\n"}, "model/extra.cpp:1: sources: not listed")
        self.refused("sources", {"tests/model/b_test.cpp": ""}, "not listed")
        commented = "tael_test(model SOURCES\n  # net_test.cpp\n)\n"
        self.refused("sources", {"tests/model/CMakeLists.txt": commented}, "tests/model/net_test.cpp:1")
        self.refused("sources", {"model/commands/train.cpp": None}, "lists commands/train.cpp, which does not exist")

    def test_links(self):
        self.refused("links", {"base/CMakeLists.txt": "tael_room(base SOURCES zip.cpp LINK tael_model)\n"}, "names tael_model")
        self.refused("links", {"base/CMakeLists.txt": "add_library(tael_base zip.cpp)\n"}, "once by tael_room")

    def test_places(self):
        self.refused("places", {"misc/a.txt": ""}, "misc:1: places: not a place at the top")
        self.refused("places", {"model/deep/a.hpp": "// A.\n#pragma once\n"}, "model/deep:1")
        self.refused("places", {"model/commands/more/a.hpp": "// A.\n#pragma once\n"}, "a room inside a sub-room")

    def test_length(self):
        self.refused("length", {"model/net.cpp": "\n" * 601}, "601 lines")
        law = CLEAN["docs/rooms.txt"]
        self.assertEqual(self.check({"model/net.cpp": "\n" * 601, "docs/rooms.txt": law + "long model/net.cpp: a table\n"},
                                    "--only", "length")[0], 0)
        self.refused("length", {"model/net.cpp": "\n" * 601, "docs/rooms.txt": law + "long model/net.cpp:\n"}, "601 lines")
        self.refused("length", {"docs/rooms.txt": law + "long model/net.cpp: a table\n"}, "not needed any more")

    def test_columns(self):
        self.refused("columns", {"model/net.cpp": "// " + "a" * 118 + "\n"}, "ends in column 121")
        for text in ("// " + "ä" * 117, 'auto url = "https://' + "a" * 118 + '";'):
            self.assertEqual(self.check({"model/net.cpp": text + "\n"}, "--only", "columns")[0], 0)

    def test_names(self):
        for name in ("fast_gemm", "net_new", "test_helper", "utils", "task-manager"):
            self.refused("names", {f"model/{name}.hpp": ""}, "in its name")
        self.assertEqual(self.check({"model/breakfast_news.hpp": ""}, "--only", "names")[0], 0)

    def test_words(self):
        self.refused("words", {"README.md": "`docs/gone.md`\n"}, "README.md:1: words: names docs/gone.md")
        self.refused("words", {"README.md": "[x](gone.md)\n"}, "links to gone.md")
        self.refused("words", {"README.md": "`model/net.{hpp,cu}`\n"}, "names model/net.cu")
        self.refused("words", {"README.md": "```\nscripts/x\nmodel/gone --help\n```\n"}, "README.md:3: words: names model/gone")
        self.refused("words", {"model/net.cpp": "// see docs/gone.md\n"}, "model/net.cpp:1")

    def test_markers(self):
        for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX", "DISABLED" + "_Sum"):
            self.refused("markers", {"model/net.cpp": f"// {word}: later\n"}, word[:8])
        self.assertEqual(self.check({"model/net.cpp": f'auto t = "{"X" * 6}";\n'}, "--only", "markers")[0], 0)

    def test_machine_paths(self):
        for path in ("/ho" + "me/me/a", "/wo" + "rk/a", "/tm" + "p/a", "../sha" + "red/a"):
            self.refused("machine-paths", {"model/net.cpp": f'auto p = "{path}";\n'}, "names '")
        self.assertEqual(self.check({"README.md": "network/home/x frame/work/y\n"}, "--only", "machine-paths")[0], 0)

    def test_types(self):
        again = "// Again.\n#pragma once\n\nnamespace tael {\n\n%s\n\n}  // namespace tael\n"
        for one in ("struct Pair {\n  int a;\n};", "class Pair final : public X {\n};", "enum class Pair { a, b };",
                    "struct alignas(64) Pair {\n};"):
            self.refused("types", {"base/a.hpp": again % one, "model/b.cpp": again % "struct Pair {\n};"},
                         "model/b.cpp:6: types: tael::Pair is also in base/a.hpp:6")
        for other in ("struct Pair;", "namespace {\nstruct Pair {\n};\n}  // namespace", "struct Pair::Impl {\n};",
                      "namespace other {\nstruct Pair {\n};\n}  // namespace other", "struct Pair<int> {\n};",
                      "// struct Pair {"):
            files = {"base/a.hpp": again % "struct Pair {\n};", "model/b.cpp": again % other}
            self.assertEqual(self.check(files, "--only", "types")[0], 0, other)

    def test_state(self):
        for text in ("static int counter = 0;", "int counter = 0;", "std::vector<int> cache;", "thread_local int depth = 0;",
                     "inline std::atomic<int> n{0};", "int f() {\n  static std::mutex lock;\n}", "double table[4];",
                     "struct X { int n; } counter;", "struct X {\n  int n;\n} counter;", "struct { int n; } counter = {1};",
                     "static struct X {\n  int n;\n} counters[2];", "union {\n  int n;\n} a, b;", "enum E { e } mode;",
                     "struct X counter;", "static struct X counter = {1};", "struct X* head;",
                     "namespace {\nstruct X {\n  int n;\n} counter{1};\n}"):
            self.refused("state", {"model/net.cpp": text + "\n"}, "looks like a mutable global")
        for text in ("static const int kA = 1;", "constexpr int kA[2] = {1, 2};", "inline constexpr int kB{2};",
                     "static int f(int x);", "int f() {\n  int local = 0;\n  return local;\n}", "struct A {\n  int x = 0;\n};",
                     "using A = int;", "enum class E { a };", "template <class T>\nT f() { return T{}; }", "class B;",
                     "enum class E : int { a };", "struct A final : B {\n  int x = 0;\n};", "struct A { int x; };",
                     "constexpr struct A {\n  int x;\n} kRows[] = {{1}};", "class B final : public A {};",
                     "struct stat f();", "struct C operator+(C a, C b) { return a; }", "enum class E : uint8_t { a, b = 2 };"):
            code, output = self.check({"model/net.cpp": text + "\n"}, "--only", "state")
            self.assertEqual(code, 0, output)

    def test_contracts(self):
        self.refused("contracts", {"model/net.hpp": "#pragma once\n"}, "does not begin with a comment")
        self.refused("contracts", {"model/net.hpp": "// Net.\n"}, "no #pragma once")

    def test_format(self):
        self.refused("format", {"model/net.cpp": "int  x( );\n"}, "model/net.cpp:1: format: ")

    def test_headers(self):
        bad = "// Bad.\n#pragma once\n\ninline std::string text() { return {}; }\n"
        self.refused("headers", {"model/bad.hpp": bad}, "model/bad.hpp:1: headers: does not compile alone")

    def test_headers_are_checked_again_when_what_they_include_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            cache = ("--only", "headers", "--cache", folder + "/cache.json")
            user = {"model/use.hpp": '// Use.\n#pragma once\n#include "base/zip.hpp"\ninline auto use() { return zip(); }\n'}
            self.assertEqual(self.check(user, *cache)[0], 0)
            self.assertEqual(self.check(user, *cache)[0], 0)
            self.assertEqual(self.check(user | {"base/zip.hpp": "// Zip.\n#pragma once\n"}, *cache)[0], 1)


class Skips(unittest.TestCase):
    def run_on(self, system_out, status="notrun", skipped="<skipped/>"):
        xml = (f'<testsuite><testcase name="A.B" status="{status}">{skipped}<system-out>{system_out}</system-out></testcase>'
               f'<testcase name="A.C" status="run"><system-out>fine</system-out></testcase></testsuite>')
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "junit.xml")
            file.write_text(xml)
            return subprocess.run([sys.executable, ROOT / "scripts/check_skips.py", file], capture_output=True, text=True)

    def test_a_listed_reason_passes(self):
        output = "[ RUN      ] A.B\na_test.cpp:3: Skipped\nno avx512 on this machine\n\n[  SKIPPED ] A.B (0 ms)\n"
        done = self.run_on(output)
        self.assertEqual((done.returncode, done.stdout), (0, "1 tests skipped, each for a listed reason\n"), done.stderr)

    def test_any_other_reason_fails(self):
        done = self.run_on("a_test.cpp:3: Skipped\ntoo slow, and no avx512 on this machine\n\n[  SKIPPED ] A.B\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("A.B: skipped because: too slow", done.stderr)

    def test_no_reason_fails(self):
        self.assertEqual(self.run_on("a_test.cpp:3: Skipped\n\n\n[  SKIPPED ] A.B\n").returncode, 1)
        self.assertEqual(self.run_on("Unable to find executable").returncode, 1)

    def test_every_listed_reason_is_a_pattern(self):
        self.assertTrue(check_skips.allowed_reasons(check_skips.LIST.read_text()))


class IsaLeaks(unittest.TestCase):
    def test_weak_code_outside_the_namespace_is_found(self):
        output = ("0000 T tael::avx2::gemm()\n0010 W std::vector<int>::push_back(int&&)\n0020 W tael::avx2::tile<8>()\n"
                  "0000 V DW.ref.__gxx_personality_v0\n0030 W float tael::load<4>(float const*)\n")
        self.assertEqual(list(check_isa_leaks.leaks("tael::avx2", output)),
                         ["std::vector<int>::push_back(int&&)", "float tael::load<4>(float const*)"])

    def test_a_compiled_leak_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            source, output = pathlib.Path(folder, "a.cpp"), pathlib.Path(folder, "a.o")
            script = [sys.executable, ROOT / "scripts/check_isa_leaks.py", "tael::avx2", output]
            for leaking, place in ((1, "tael"), (0, "tael::avx2")):
                source.write_text(f"namespace {place} {{ [[gnu::noinline]] inline int f(int x) {{ return x * x; }} }}\n"
                                  f"namespace tael::avx2 {{ int g(int x) {{ return f(x); }} }}\n")
                subprocess.run([COMPILER, "-O2", "-c", source, "-o", output], check=True)
                done = subprocess.run(script, capture_output=True, text=True)
                self.assertEqual(done.returncode, leaking, done.stdout)


class State(unittest.TestCase):
    def test_every_way_to_keep_state_is_found_in_the_object(self):
        keeps = ["unsigned long calls = 0;\nunsigned long f() { return ++calls; }", "constinit int x = 3;\nint f() { return x++; }",
                 "volatile int v;\nint f() { return v; }", "alignas(64) float scratch[1024];\nfloat* f() { return scratch; }",
                 "int (*hook)(int) = nullptr;\nint f() { return hook(1); }",
                 'const char* name = "a";\nconst char* f() { return name; }',
                 "struct S { inline static int count = 0; };\nint f() { return ++S::count; }",
                 "int f() { static unsigned long n = 0; return ++n; }", "thread_local int t = 0;\nint f() { return ++t; }"]
        free = ["constexpr int k[] = {1, 2};\nint f(int i) { return k[i]; }", "int f() { return 1; }",
                "struct V { virtual ~V() = default; virtual int f(); };\nint V::f() { return 1; }",
                'constexpr const char* kNames[] = {"a", "b"};\nconst char* f(int i) { return kNames[i]; }']
        headers = "#include <atomic>\n#include <iostream>\n#include <memory>\n#include <string>\n"
        with tempfile.TemporaryDirectory() as folder:
            source, output, rooms = (pathlib.Path(folder, name) for name in ("a.cpp", "a.cpp.o", "rooms.txt"))
            script = [sys.executable, ROOT / "scripts/check_state.py", rooms, output]
            rooms.write_text("made-once: tael::known()::table\nflag room/a.cpp: (anonymous namespace)::wanted\n"
                             "flag room/b.cpp: (anonymous namespace)::counter\n")

            def gives(code, text):
                source.write_text(text)
                subprocess.run([COMPILER, "-std=c++20", "-fPIC", "-O2", "-c", source, "-o", output], check=True)
                done = subprocess.run(script, capture_output=True, text=True)
                self.assertEqual(done.returncode, code, text + done.stdout)
            for code, texts in ((1, keeps), (0, free)):
                for text in texts:
                    gives(code, f"namespace tael {{\n{text}\n}}\n")
            # Outside the namespace: at the top of a file, in an unnamed or in another one, of a type of the library.
            kept = ("struct X { int n; } counter;\nint f() { return ++counter.n; }", "volatile int counter;\nint f() { return counter; }",
                    'std::string text = "a";\nchar f() { return text[0]; }', "std::atomic<int> n{0};\nint f() { return ++n; }")
            for text in kept:
                gives(1, headers + text)
                gives(1, f"{headers}namespace other {{\n{text}\n}}\n")
                gives(1, f"{headers}namespace {{\n{text.replace('int f(', '[[gnu::used]] int f(').replace('char f(', '[[gnu::used]] char f(')}\n}}\n")
            gives(1, 'extern "C" {\nint calls;\nint f() { return ++calls; }\n}\n')
            # What a header of the library makes for its own use, and the one flag that is named, in the file that is named.
            gives(0, headers + "void f() { std::cout << 1; }\nstd::shared_ptr<int> g() { return std::make_shared<int>(1); }\n")
            gives(0, "namespace {\nvolatile int wanted = 0;\n}\nint f() { return wanted; }\n")
            gives(1, "namespace {\nvolatile int other = 0;\n}\nint f() { return other; }\n")

    def test_a_named_constant_is_allowed(self):
        table = "0000000000000008 l     O .bss\t0000000000000001 tael::known()::table\n"
        self.assertEqual(list(check_state.writable(table)), ["tael::known()::table"])
        rooms = "base:\nmade-once: tael::known()::table\nflag a/main.cpp: flag\n"
        self.assertEqual(check_state.named(rooms, "x/libtael_base.a"), {"tael::known()::table"})
        self.assertEqual(check_state.named(rooms, "x/main.cpp.o"), {"tael::known()::table", "flag"})


class Scripts(unittest.TestCase):
    def run_script(self, *command):
        return subprocess.run([ROOT / command[0], *command[1:]], cwd="/", capture_output=True, text=True)

    def test_help_and_usage(self):
        for script in ("scripts/quickstart", "scripts/test", "scripts/drill", "scripts/testbed"):
            done = self.run_script(script, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("usage: " + script, done.stdout)
            self.assertIn("examples:", done.stdout)
            done = self.run_script(script, "--no-such-thing")
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("--no-such-thing", done.stderr)
        for steps in ("0", "-1", "two", "1.5", ""):
            self.assertEqual(self.run_script("scripts/quickstart", "--steps", steps or "''").returncode, 2)

    def test_what_is_not_built_yet_says_so(self):
        for command in (("gpu_check",), ("bundle", "out")):
            done = self.run_script("scripts/" + command[0], *command[1:])
            self.assertEqual((done.returncode, done.stderr), (69, f"{command[0]}: not built yet\n"))
        done = self.run_script("scripts/testbed", "network")
        self.assertEqual((done.returncode, done.stderr), (69, "testbed: network is not built yet\n"))

    def test_the_testbed_says_what_it_needs(self):
        for words, message in (((), "usage:"), (("slurm",), "slurm needs one of: start, stop, status"),
                               (("slurm", "begin"), "slurm needs one of"), (("cluster", "start"), "unknown testbed"),
                               (("slurm", "start", "now"), "unknown argument 'now'"),
                               (("slurm", "status", "--dir", "a b"), "--dir takes a path"),
                               (("slurm", "status", "--dir", "/" + "d" * 90), "too long")):
            done = self.run_script("scripts/testbed", *words)
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertIn(message, done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            done = self.run_script("scripts/testbed", "slurm", "status", "--dir", folder + "/none")
            self.assertEqual((done.returncode, done.stdout), (1, f"not running: {folder}/none\n"))
            done = self.run_script("scripts/testbed", "slurm", "stop", "--dir", folder + "/none")
            self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
