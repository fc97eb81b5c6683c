#!/usr/bin/env python3
"""The configuration tools as people use them: show, check, diff, other programs' names, completion in a real bash.

    tests/run/config_tools_test.py build/tael
"""
import json
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import program  # noqa: E402
from program import CONFIG, ProgramTest, main  # noqa: E402


class Check(ProgramTest):
    def check(self, *words, **options):
        return self.command("config", "check", *words, **options)

    def test_passes_and_writes_nothing(self):
        config, run = self.config(), self.fresh()
        before = sorted(self.folder.rglob("*"))
        done = self.check(config, f"run.dir={run}", "--ranks", "2")
        self.assertEqual((done.code, done.err), (0, ""), str(done))
        self.assertRegex(done.out, r"(?m)^world    2 ranks x 1 thread, ")
        self.assertRegex(done.out, r"(?m)^memory   a rank: \d+ MiB expected, at most \d+: ")
        self.assertEqual(done.out.splitlines()[-1],
                         "check    passed for 2 ranks on 1 host; run.dir can be made; nothing was written")
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def test_says_what_the_dry_run_of_training_says(self):
        config, run = self.config(), self.fresh()
        for ranks in (1, 2):
            dry = self.command("train", config, f"run.dir={run}", "--dry-run", ranks=ranks)
            done = self.check(config, f"run.dir={run}", "--ranks", ranks)
            self.assertEqual((dry.code, done.code), (0, 0), f"{dry}\n{done}")

            def facts(text):
                text = re.sub(r"\d+ MiB expected, at most \d+|program \d+", "", text)  # with and without MPI's own
                return [line for line in text.splitlines() if not re.match(r"tael |check |dry run", line)]
            self.assertEqual(facts(done.out), facts(dry.err))

    def test_refuses_what_training_refuses_with_the_same_line(self):
        config, run = self.config(), self.fresh()
        for change, code in (("training.seq_lenght=3", 78), ("training.micro_batch_size=3", 78), ("data.train=[none.h5]", 65),
                             ("precision.compute=fp8", 78), ("model.vocab_size=258", 78), ("lr_scheduler.min_lr_factor=0.1", 78),
                             ("data.train=[{config}]", 65), ("training", 2)):
            change = change.format(config=config)
            dry = self.command("train", config, f"run.dir={run}", change, "--dry-run")
            done = self.check(config, f"run.dir={run}", change)
            self.assertEqual((done.code, done.out, done.messages()), (code, "", dry.messages()), f"{dry}\n{done}")
            self.assertEqual(dry.code, code)
            self.assertEqual(len(done.messages()), 1)
        self.assertEqual(self.check(config, "--ranks", "0").code, 2)
        self.assertEqual(self.check(config, "--ranks", "2", "--hosts", "3").code, 2)
        self.assertEqual(self.check("nowhere.yaml").code, 78)

    def test_a_run_is_checked_by_its_directory(self):
        run = self.train()
        done = self.check(run.path)
        self.assertEqual(done.code, 0, str(done))
        self.assertIn("run.dir exists already", done.out)


class ShowAndDiff(ProgramTest):
    def test_origin_is_a_place_for_every_value(self):
        config = self.config()
        done = self.command("config", "show", config, "optimizer.lr=0.5", "train-iters=3", "--origin")
        self.assertEqual((done.code, done.err), (0, ""), str(done))
        values = [line for line in done.out.splitlines()[1:] if re.match(r" *\w+: \S", line)]
        self.assertGreater(len(values), 90)
        for line in values:
            self.assertRegex(line, r"  # (default|command line|\S+\.yaml:\d+)( \(written \S+\))?$")
        self.assertRegex(done.out, r"(?m)^  lr: 0\.5 +# command line$")
        self.assertRegex(done.out, r"(?m)^  train_steps: 3 +# command line \(written train-iters\)$")
        self.assertRegex(done.out, rf"(?m)^  seed: 1 +# {config.name}:3$")
        self.assertRegex(done.out, r"(?m)^  norm_topk_prob: true +# \S*configs/models/deepseek_v3_tiny\.yaml:\d+$")
        self.assertRegex(done.out, r"(?m)^# train-iters is read as training\.train_steps$")
        origins = json.loads(self.command("config", "show", config, "--json", "--origin").out)["origins"]
        self.assertEqual(origins["run.seed"], f"{config}:3:23")

    def test_a_run_and_what_it_came_from(self):
        config = self.config()
        run = self.fresh()
        done = self.command("train", config, f"run.dir={run}", "lr=2e-2")
        self.assertEqual(done.code, 0, str(done))
        self.assertIn("config   lr is read as optimizer.lr\n", done.err)  # named at start
        done = self.command("config", "diff", config, run)
        self.assertEqual((done.code, done.err), (1, ""), str(done))
        keys = [line for line in done.out.splitlines() if re.fullmatch(r"[\w.]+", line)]
        self.assertEqual(keys, ["run.dir", "optimizer.lr"])
        self.assertRegex(done.out, rf"(?m)^- 0\.01 +{config.name}:10\n\+ 0\.02 +{run.name}/config\.yaml:\d+$")
        self.assertRegex(done.out, r"\n2 of \d+ keys differ\n$")
        again = self.command("config", "diff", run, run, "--json")
        self.assertEqual(again.code, 0, str(again))
        self.assertEqual(json.loads(again.out)["differences"], [])
        for words in (("deepseek_v3",), ("deepseek_v3", "nowhere"), (self.folder, run)):
            done = self.command("config", "diff", *words)
            self.assertIn(done.code, (2, 78), str(done))
            self.assertEqual((done.out, len(done.messages())), ("", 1), str(done))

    def test_both_names_contradict_each_other(self):
        config = self.config(CONFIG + "lr: 1e-3\n")
        done = self.command("train", config, f"run.dir={self.fresh()}")
        self.assertEqual(done.code, 78)
        self.assertRegex(done.err, rf"^tael: \S*{config.name}:13:5: lr is another name of optimizer\.lr; give one of them\n$")


class Completion(ProgramTest):
    """Words are given to bash as its own line editor gives them: cut at "=" and ":"."""

    def bash(self, line, program="tael", cut=True):
        """What Tab offers at the end of the line, in a bash that knows nothing but the script."""
        words = [word for part in line.split(" ") for word in (re.findall(r"[=:]+|[^=:]+", part) if cut else [part]) or [""]]
        script = self.command("completion", "bash").out
        text = f"""{script}
COMP_WORDS=({program} {' '.join("'" + word + "'" for word in words)})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
$(complete -p tael | sed 's/.*-F \\([a-z_]*\\) .*/\\1/') tael
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run(["bash", "--noprofile", "--norc", "-eu", "-c", text], cwd=self.folder, capture_output=True,
                              text=True, timeout=program_timeout())
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{line}\n{done}")
        return done.stdout.split("\n")[:-1]

    def test_verbs_and_options_are_those_of_help(self):
        """Of the whole tree, from what --help prints: completion cannot fall behind."""
        def walk(path):
            text = self.command(*path, "--help").out
            section = text.partition("\nSubcommands:\n")[2].partition("\n\n")[0]
            verbs = re.findall(r"(?m)^  (\S+)", section)
            options = re.findall(r"(?m)^  (?:-\w,)?(--[\w-]+)", text)
            if verbs:
                self.assertEqual(self.bash(" ".join([*path, ""])), verbs, path)
            offered = self.bash(" ".join([*path, "--"]))
            self.assertTrue(set(options) <= set(offered), f"{path}: {options} and {offered}")
            self.assertEqual(len(offered), len(set(offered)))
            for verb in verbs:
                if "not built yet" not in next(line for line in section.splitlines() if line.startswith(f"  {verb} ")):
                    walk([*path, verb])
        walk([])

    def test_keys_and_their_words(self):
        shown = json.loads(self.command("config", "show", self.config(), "--json").out)
        for section in ("training", "optimizer", "parallelism"):
            self.assertEqual(self.bash(f"train x {section}."), [f"{section}.{key}=" for key in shown[section]])
        self.assertEqual(self.bash("train x precision.comp"), ["precision.compute="])
        for cut in (True, False):  # a readline that does not cut at "=" gets whole words
            front = "" if cut else "precision.compute="
            self.assertEqual(self.bash("train x precision.compute=", cut=cut), [front + w for w in ("auto", "fp32", "bf16", "fp8")])
            self.assertEqual(self.bash("train x precision.compute=b", cut=cut), [front + "bf16"])
        self.assertEqual(self.bash("train x data.train=tr"), ["train.h5"])
        self.assertEqual(self.bash("config show x data.shuffle="), ["true", "false"])
        self.assertEqual(self.bash("train x model.preset=kimi"), ["kimi_k2"])
        self.assertEqual(self.bash("submit x time"), ["time_limit="])
        self.assertEqual(self.bash("submit x slurm.pa"), ["slurm.partition="])
        self.assertEqual(self.bash("train x slurm."), [""])
        # Everything that is offered behind "=" is accepted there.
        for key in ("parallelism.pipeline_schedule", "parallelism.data_parallel", "optimizer.lr", "cluster.cpu_isa"):
            for word in self.bash(f"train x {key}="):
                done = self.command("config", "show", self.config(), f"{key}={word}")
                self.assertEqual(done.code, 0, str(done))

    def test_configurations_and_files(self):
        self.assertEqual(self.bash("train experiments/q"), ["experiments/quickstart"])
        self.assertEqual(self.bash("data inspect val"), ["valid.h5"])
        self.assertEqual(self.bash("config diff models/moon"), ["models/moonlight"])
        (self.folder / "with space.h5").write_bytes(b"")
        self.assertEqual(self.bash("data inspect with"), ["with space.h5"])
        self.assertEqual(self.bash("eval --compute "), ["fp32", "bf16", "fp8"])
        self.assertEqual(self.bash("nonsense "), [""])  # nothing

    def test_asks_the_program_that_was_typed(self):
        self.assertEqual(self.bash("config di", program=str(program.TAEL)), ["diff"])
        self.assertEqual(self.bash("config di", program="./nowhere/tael"), ["diff"])  # not there: the one that wrote the script

    def test_scripts(self):
        for shell in ("bash", "zsh", "fish"):
            done = self.command("completion", shell)
            self.assertEqual((done.code, done.err), (0, ""), str(done))
            self.assertIn(f"'{program.TAEL}'", done.out)
        self.assertEqual(self.command("completion", "tcsh").code, 2)
        self.assertEqual(self.command("completion").code, 2)
        # The question that the scripts ask is no command for people, and it is harmless whatever follows.
        self.assertNotIn("__complete", self.command("--help").out)
        for words in ((), ("--color",), ("train", "--nonsense", "="), ("\t", "\n"), ("x" * 5000,)):
            done = self.command("__complete", *words)
            self.assertEqual((done.code, done.err), (0, ""), str(done))


def program_timeout():
    return program.TIMEOUT


if __name__ == "__main__":
    main()
