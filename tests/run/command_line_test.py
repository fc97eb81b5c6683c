#!/usr/bin/env python3
"""The command line: usage errors, help, what is not built yet, and what goes to stdout and what to stderr.

    tests/run/command_line_test.py build/tael
"""
import json
import sys

sys.dont_write_bytecode = True
from program import ProgramTest, main  # noqa: E402

BUILT = ["train", "eval", "sample", "data prepare", "data inspect", "data import", "checkpoint inspect", "checkpoint verify",
         "checkpoint diff", "checkpoint import-hf", "checkpoint export-hf", "config show", "config check", "config diff",
         "completion", "report", "submit"]
NOT_BUILT = [
    "plan {config} optimizer.lr=1 --search --json",
    "doctor --kernels", "selftest {config}", "selftest", "data train-tokenizer corpus", "plan --help", "plan"]


class CommandLine(ProgramTest):
    def test_usage_errors(self):
        for words, text in (
                ("", "a command is missing; one of: train, eval, sample, data"), ("trian x", "unknown command trian; one of: train"),
                ("--bogus", "unknown option --bogus"), ("data", "a command is missing; one of: prepare, inspect, import"),
                ("data prepair", "unknown command prepair"), ("config", "a command is missing"), ("train", "config is required"),
                ("train a.yaml --bogus", "not expected: --bogus"),
                ("train a.yaml --lr 3e-4", "--lr is no option; a key of the configuration is written optimizer.lr=VALUE"),
                ("train a.yaml --train-samples=7 --x", "a key of the configuration is written training.train_tokens=VALUE"),
                ("config show a.yaml --training.seq_length=7", "is written training.seq_length=VALUE"), ("eval", "model is required"), ("eval x", "--data is required"),
                ("eval x --data y --seq-length 0", "--seq-length: a whole number of at least 1"),
                ("eval x --data y --seq-length 1e3", "--seq-length: a whole number is needed, got 1e3"),
                ("eval x --data y --seq-length 010", "--seq-length: a whole number is needed, got 010"),
                ("sample x --prompt a --tokens 0x10", "--tokens: a whole number is needed, got 0x10"),
                ("data import nanogpt --out x.h5 --vocab-size 99999999999999999999 f", "99999999999999999999 is beyond 63 bits"),
                ("config check a --ranks 010", "--ranks: a whole number is needed, got 010"),
                ("eval x --data y --compute fp64", "--compute fp64: expected fp32, bf16 or fp8"),
                ("data prepare corpus", "--out is required"), ("data prepare --out x.h5", "inputs is required"),
                ("data prepare --out x.h5 --valid v.h5 --valid-fraction lots corpus", "--valid-fraction = lots"),
                ("data inspect", "shard is required"), ("data import tokens --out x.h5 f", "expected nanogpt, llmc or megatron"),
                ("checkpoint export-hf a", "out is required"), ("sample", "model is required"), ("checkpoint diff a", "b is required"),
                ("checkpoint inspect", "checkpoint is required"), ("checkpoint verify", "checkpoint is required"),
                ("checkpoint import-hf a", "out is required"), ("checkpoint export-hf a b --dtype f16", "expected fp32, bf16 or fp8"),
                ("config show", "config is required"), ("config check", "config is required"), ("config diff a", "b is required"),
                ("config check a --ranks 0", "--ranks: Value 0 not in range 1 to 65536"), ("completion", "shell is required"),
                ("completion csh", "csh not in {bash,zsh,fish}"), ("--color purple config show x", "purple not in {auto,always,never}")):
            with self.subTest(words):
                done = self.command(*words.split())
                self.assertEqual(done.code, 2, str(done))
                self.assertEqual(done.out, "")
                self.assertEqual(done.err.count("\n"), 1, str(done))
                self.assertEqual(len(done.messages()), 1, str(done))
                self.assertIn(text, done.err)
        done = self.command("train", ranks=3)
        self.assertEqual((done.code, len(done.messages())), (2, 1), str(done))

    def test_what_is_not_built_yet_says_exactly_that(self):
        for line in NOT_BUILT:
            with self.subTest(line):
                done = self.command(*line.format(config=self.config(), run=self.folder).split())
                self.assertEqual(done.code, 69, str(done))
                self.assertRegex(done.err, rf"^tael: {line.split(' {')[0].split(' --')[0].removesuffix(' corpus')} is not built yet\n$")
                self.assertEqual(done.out, "")
        for format in ("megatron", "llmc"):
            done = self.command("data", "import", format, "--out", "x.h5", "train.h5")
            self.assertEqual(done.code, 69, str(done))

    def test_help_has_two_examples_each(self):
        for verb in BUILT:
            done = self.command(*verb.split(), "--help")
            self.assertEqual((done.code, done.err), (0, ""), str(done))
            examples = done.out.partition("\nexamples:\n")[2].strip().splitlines()
            self.assertEqual(len(examples), 2, str(done))
            for example in examples:
                self.assertIn(f"tael {verb} ", example)
        for group in ("data", "checkpoint", "config"):
            examples = self.command(group, "--help").out.partition("\nexamples:\n")[2].strip().splitlines()
            self.assertEqual(len([e for e in examples if f"tael {group} " in e]), 2, group)
        done = self.command("--help")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(len(done.out.partition("\nexamples:\n")[2].strip().splitlines()), 2)
        for verb in ("train", "eval", "data", "checkpoint", "config", "completion", "plan", "sample", "report", "submit", "doctor", "selftest"):
            self.assertRegex(done.out, rf"(?m)^  {verb} ")
        self.assertEqual(self.command("train", "--help", ranks=2).out.count("examples:"), 1)

    def test_version(self):
        done = self.command("--version")
        self.assertEqual((done.code, done.err), (0, ""), str(done))
        self.assertRegex(done.out, r"^tael \d+\.\d+\.\d+, \w+, gcc [\d.]+, commit \w+\n$")

    def test_results_on_stdout_all_else_on_stderr(self):
        run = self.train()
        self.assertEqual(run.done.out, "")
        (self.folder / "a.bin").write_bytes(bytes(range(1, 101)) * 2)
        for words, progress in (
                (("eval", run.path, "--data", "valid.h5"), False), (("data", "inspect", "train.h5"), False),
                (("data", "prepare", "--out", self.fresh(".h5"), "corpus"), True),
                (("data", "import", "nanogpt", "--vocab-size", "65536", "--out", self.fresh(".h5"), "a.bin"), True),
                (("checkpoint", "export-hf", run.path, self.fresh()), False), (("config", "show", self.config()), False),
                (("checkpoint", "import-hf", run.path / "model", self.folder / "a.ckpt"), False),
                (("checkpoint", "inspect", self.folder / "a.ckpt"), False), (("checkpoint", "verify", self.folder / "a.ckpt"), False),
                (("checkpoint", "diff", self.folder / "a.ckpt", run.path / "model"), False)):
            done = self.command(*words)
            self.assertEqual(done.code, 0, str(done))
            self.assertNotEqual(done.out, "", str(done))
            if not progress:
                self.assertEqual(done.err, "", str(done))
        for words in (("eval", run.path, "--data", "valid.h5", "--json"), ("data", "inspect", "train.h5", "--json"),
                      ("checkpoint", "inspect", self.folder / "a.ckpt", "--json"), ("config", "show", self.config(), "--json"), ("config", "show", "models/deepseek_v3", "--json")):
            json.loads(self.command(*words).out)
        done = self.command("eval", run.path, "--data", "none.h5", "--json")
        self.assertEqual((done.code, done.out), (65, ""), str(done))

    def test_colour_where_it_is_wanted(self):
        wrong = ("config", "show", "nowhere")
        for words, environment, colour in (((), {}, False), (("--color", "always"), {}, True),
                                           (("--color", "never"), {"TERM": "xterm"}, False),
                                           (("--color", "always"), {"NO_COLOR": "1"}, True), ((), {"NO_COLOR": "1"}, False)):
            done = self.command(*words, *wrong, environment=environment)
            self.assertEqual(done.code, 78, str(done))
            self.assertEqual("\033" in done.err, colour, str(done))
        # The option may stand behind the verb as well.
        self.assertIn("\033", self.command(*wrong, "--color", "always").err)

    def test_dry_runs_write_nothing(self):
        before = sorted(self.folder.rglob("*"))
        run = self.train()
        (self.folder / "a.bin").write_bytes(bytes(200))
        kept = sorted(self.folder.rglob("*"))
        for words in (("data", "prepare", "--out", "x.h5", "corpus"), ("checkpoint", "export-hf", run.path, "y"),
                      ("checkpoint", "import-hf", run.path / "model", "w"),
                      ("data", "import", "nanogpt", "--vocab-size", "300", "--out", "z.h5", "a.bin")):
            done = self.command(*words, "--dry-run")
            self.assertEqual(done.code, 0, str(done))
            self.assertIn("would", done.out)
            self.assertEqual(sorted(self.folder.rglob("*")), kept)
        self.assertGreater(len(kept), len(before))

    def test_what_config_show_prints_is_a_configuration(self):
        shown = self.command("config", "show", self.config(), "run.dir=a", "--origin")
        self.assertEqual(shown.code, 0, str(shown))
        again = self.fresh(".yaml")
        again.write_text(shown.out)
        second = self.command("config", "show", again)
        self.assertEqual(second.code, 0, str(second))
        plain = self.command("config", "show", self.config(), "run.dir=a")
        self.assertEqual(second.out, plain.out)


if __name__ == "__main__":
    main()
