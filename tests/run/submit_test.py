#!/usr/bin/env python3
"""tael submit, and the script that it writes, without a Slurm: sbatch, sinfo, scontrol and mpirun are small programs that
record what they get. scripts/drill slurm does the same under a real Slurm.

    tests/run/submit_test.py build/tael
"""
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from program import CONFIG, ProgramTest, main  # noqa: E402

# A launcher that writes down its words and environment, ends as LAUNCHER_EXIT says, or is stopped by the second USR1.
MPIRUN = r"""#!/bin/bash
printf '%s\n' "$0" "$@" >"$RECORD/launcher"
env >"$RECORD/environment"
pwd >"$RECORD/directory"
if [[ -n ${LAUNCHER_EXIT:-} ]]; then exit "$LAUNCHER_EXIT"; fi
count=0
[[ -n ${LAUNCHER_DIES:-} ]] || trap 'count=$((count + 1)); echo $count >"$RECORD/signals"' USR1
echo >"$RECORD/ready"
while ((count < 2)); do sleep 0.05; done
sleep 0.3
exit 75
"""
SCONTROL = """#!/bin/bash
echo "$*" >>"$RECORD/scontrol"
exit "${SCONTROL_EXIT:-0}"
"""
SBATCH = """#!/bin/bash
[[ $1 != --version ]] || exit 0
printf '%s\\n' "$@" >"$RECORD/sbatch"
cp "${@: -1}" "$RECORD/queued"
if [[ -n ${SBATCH_ERROR:-} ]]; then
  echo "sbatch: error: $SBATCH_ERROR" >&2
  exit 1
fi
echo "17;cluster"
"""
SINFO = """#!/bin/bash
printf '%s\\n' "$@" >"$RECORD/sinfo"
printf '%s\\n' $NODES
"""
TWO_BY_TWO = ["cluster.nodes=2", "cluster.devices_per_node=2"]


class SubmitTest(ProgramTest):
    def programs(self, **texts):
        """A directory for PATH with these programs and nothing else; its parent records what they were given."""
        record = self.fresh()
        (record / "bin").mkdir(parents=True)
        for name, text in texts.items():
            (record / "bin" / name).write_text(text)
            (record / "bin" / name).chmod(0o755)
        return record

    def submit(self, *changes, flags=(), record=None, directory=None, text=CONFIG, environment=None):
        directory = directory or self.fresh()
        record = record or self.programs()
        # No other PATH, so that a Slurm of this machine is not asked.
        found = {"PATH": f"{record}/bin:{self.shells()}", "RECORD": str(record), **(environment or {})}
        done = self.command("submit", self.config(text), f"run.dir={directory}", *changes, *flags, environment=found)
        return directory, done

    def shells(self):
        """What the recording programs themselves call."""
        folder = self.folder / "shells"
        if not folder.exists():
            folder.mkdir()
            for name in ("cp",):
                (folder / name).symlink_to(shutil.which(name))
        return folder

    def submitted(self, *changes, **options):
        directory, done = self.submit(*changes, **options)
        self.assertEqual(done.code, 0, str(done))
        return directory, done

    def check_refused(self, code, pattern, *changes, **options):
        directory, done = self.submit(*changes, **options)
        self.assertEqual(done.code, code, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertRegex(done.messages()[0], pattern)
        self.assertEqual(done.out, "", str(done))
        self.assertFalse(directory.exists(), str(done))
        return done


class Writing(SubmitTest):
    def test_the_script_and_nothing_else(self):
        directory, done = self.submitted(*TWO_BY_TWO, "time_limit=90 min", "slurm.partition=all",
                                         "cluster.price_per_device_hour={usd: 1.5}")
        self.assertEqual(sorted(str(p.relative_to(directory)) for p in directory.rglob("*")), ["log", "submit.sh"])
        self.assertEqual(done.out, f"{directory}/submit.sh\n")
        script = (directory / "submit.sh").read_text()
        self.assertEqual(subprocess.run(["bash", "-n", directory / "submit.sh"]).returncode, 0)
        for line in ("--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--cpus-per-task=1", "--time=01:30:00", "--requeue",
                     "--open-mode=append", f"--output={directory}/log/slurm-%j.out", "--partition=all"):
            self.assertIn(f"\n#SBATCH {line}\n", script)
        self.assertRegex(script, r"\n#SBATCH --signal=B:USR1@\d+\n")
        # 4 ranks for an hour and a half at 1.5 dollars.
        self.assertRegex(done.err, r"(?m)^asks for +6 device-hours at most, 9\.00 usd")
        self.assertRegex(done.err, r"(?m)^step .* by 4 ranks of 25% of [\d.]+ GFLOP/s")
        self.assertRegex(done.err, r"(?m)^time .*the whole run")
        self.assertRegex(done.err, r"(?m)^memory +a node: 2 x ")

    def test_shellcheck_has_nothing_to_say(self):
        if shutil.which("shellcheck") is None:
            return  # bash -n above is the check that every machine has
        for flags in ([], ["--launcher", "srun"]):
            directory, _ = self.submitted(*TWO_BY_TWO, "optimizer.betas=[0.9, 0.95]", flags=flags)
            done = subprocess.run(["shellcheck", directory / "submit.sh"], capture_output=True, text=True)
            self.assertEqual(done.stdout, "")

    def test_a_dry_run_prints_it(self):
        directory, done = self.submitted(flags=["--dry-run"])
        self.assertFalse(directory.exists())
        self.assertTrue(done.out.startswith("#!/bin/bash\n"), str(done))
        self.assertIn(f"run.dir={directory}", done.out)

    def test_without_a_limit_one_is_chosen_and_said(self):
        directory, done = self.submitted()
        self.assertIn("#SBATCH --time=00:10:00\n", (directory / "submit.sh").read_text())
        self.assertRegex(done.err, r"(?m)^limit +00:10:00 \(chosen")
        self.assertNotIn("usd", done.err)

    def test_again_replaces_the_script(self):
        directory, _ = self.submitted("time_limit=1h")
        self.submitted("time_limit=2h", directory=directory)
        self.assertIn("--time=02:00:00", (directory / "submit.sh").read_text())

    def test_steps_of_earlier_attempts_tell_the_time(self):
        run = self.train(ranks=2)
        directory, done = self.submitted("cluster.devices_per_node=2", "training.train_steps=1000", directory=run.path)
        self.assertRegex(done.err, r"(?m)^step .*a rank's in the median of 4 steps of earlier")
        self.assertRegex(done.err, r"(?m)^run +.*, 1,000 steps, 4 done")
        median = sorted(line["perf/step_ms"] for line in run.metrics("step"))[2]

        def said(err):
            number, unit = re.search(r"(?m)^step +([\d.e+-]+) (s) expected", err).groups()
            return float(number)
        self.assertAlmostEqual(said(done.err) / (median / 1e3), 1, delta=0.06)  # two digits are printed
        # The same steps by half as many ranks take twice as long.
        _, done = self.submitted("training.train_steps=1000", directory=run.path)
        self.assertAlmostEqual(said(done.err) / (2 * median / 1e3), 1, delta=0.06)
        # And so do steps of twice as many sequences; a step that does not fit into the limit is refused all the same.
        _, done = self.submitted("cluster.devices_per_node=2", "training.train_steps=1000",
                                 "training.global_batch_size=16", directory=run.path)
        self.assertAlmostEqual(said(done.err) / (2 * median / 1e3), 1, delta=0.06)
        _, done = self.submit("training.train_steps=1000", "training.global_batch_size=1048576", "time_limit=1min",
                              directory=run.path)
        self.assertEqual(done.code, 78, str(done))
        self.assertRegex(done.err, r"time_limit: .* is too short: .* one step \(")


class Refusals(SubmitTest):
    def test_come_before_anything_is_written(self):
        for code, pattern, *changes in (
                (78, r"time_limit: 12 s is too short: start-up .* one step .* a save .* the whole run", "time_limit=12s"),
                (78, r"time_limit: expected a duration", "time_limit=soon"),
                (78, r"budget\.gpu_hours: 0\.001 device-hours are too little: start-up, one step and a checkpoint are expected",
                 "budget.gpu_hours=0.001"),
                (78, r"does not fit: 2 ranks on a host need \d+ MiB, 64 MiB are there", "slurm.mem=64M", *TWO_BY_TWO),
                (78, r"does not fit", "training.micro_batch_size=16384", "training.global_batch_size=65536",
                 "training.seq_length=4096", "parallelism.reduction=fast"),
                (78, r"slurm\.time: --time is left to tael submit: give time_limit", "slurm.time=5"),
                (78, r"slurm\.comment: a value with quotes", 'slurm.comment=a" --x="'),
                (78, r"slurm\.comment: a value with quotes", "slurm.comment=a\nrm -rf x"),
                (78, r"slurm\.Bad", "slurm.Bad=1"),
                (78, r"optimizer\.lrr", "optimizer.lrr=1"),
                (78, r"3 data ranks do not divide the 4 lanes", "cluster.devices_per_node=3"),
                (78, r"5 x 4 data ranks does not divide a global batch of 8; the nearest that fits is 2 ",
                 "training.micro_batch_size=5", "cluster.nodes=2", "cluster.devices_per_node=2"),
                (78, r"parallelism\.data_parallel: pipeline 1 x data 4 x tensor 1 are 4 ranks, but 2 were started",
                 "parallelism.data_parallel=4", "cluster.nodes=2"),
                (78, r"precision\.compute: fp8 is not built yet", "precision.compute=fp8"),
                (78, r"more than the 65536", "cluster.nodes=1000", "cluster.devices_per_node=1000"),
                (65, r"none\.h5: no such file", "data.train=[none.h5]"),
        ):
            with self.subTest(changes):
                self.check_refused(code, pattern, *changes)

    def test_a_directory_that_cannot_be(self):
        (self.folder / "file").write_text("")
        _, done = self.submit(directory=self.folder / "file")
        self.assertEqual(done.code, 78, str(done))
        _, done = self.submit(directory=self.folder / "file" / "run")
        self.assertEqual(done.code, 74, str(done))

    def test_what_sinfo_says_of_memory_counts(self):
        record = self.programs(sinfo=SINFO)
        environment = {"NODES": "64+ 100"}
        done = self.check_refused(78, r"does not fit: 2 ranks on a host need \d+ MiB, 100 MiB are there", *TWO_BY_TWO,
                                  "slurm.partition=big", record=record, environment=environment)
        self.assertEqual((record / "sinfo").read_text().split(), ["--noheader", "--format=%m", "--partition=big"], str(done))
        _, done = self.submitted(*TWO_BY_TWO, record=record, environment={"NODES": "8000 512000"})
        self.assertRegex(done.err, r"of 500\.0 GiB \(of a node, says sinfo\)")
        _, done = self.submitted(*TWO_BY_TWO, "slurm.mem=8G", record=record, environment=environment)
        self.assertRegex(done.err, r"of 8\.0 GiB \(asked of Slurm\)")


class Queueing(SubmitTest):
    def test_the_job_is_handed_to_sbatch(self):
        record = self.programs(sbatch=SBATCH)
        directory, done = self.submitted("time_limit=1h", record=record, flags=["--submit"])
        self.assertEqual(done.out, "17\n")
        self.assertEqual((record / "sbatch").read_text().splitlines(), ["--parsable", f"{directory}/submit.sh"])
        self.assertEqual((record / "queued").read_text(), (directory / "submit.sh").read_text())
        self.assertTrue((directory / "log").is_dir())
        self.assertIn(f"{directory}/log/slurm-17.out", done.err)

    def test_what_sbatch_refuses_leaves_nothing(self):
        record = self.programs(sbatch=SBATCH)
        self.check_refused(69, r"sbatch refused the job \(exit code 1\): invalid partition specified: none$", record=record,
                           flags=["--submit"], environment={"SBATCH_ERROR": "invalid partition specified: none"})
        self.assertTrue((record / "queued").exists())
        # Nor of the directories above that were not there; and an sbatch that queued nothing has refused.
        silent = self.programs(sbatch="#!/bin/sh\n[ \"$1\" = --version ] || echo 'sbatch: error: only a test' >&2\n")
        above = self.fresh()
        self.check_refused(69, r"sbatch queued no job that has a number: only a test$", record=silent, flags=["--submit"],
                           directory=above / "deep" / "er")
        self.assertFalse(above.exists())

    def test_without_sbatch(self):
        self.check_refused(69, r"sbatch: no such program on PATH", flags=["--submit"])

    def test_a_dry_run_queues_nothing(self):
        record = self.programs(sbatch=SBATCH)
        directory, _ = self.submitted(record=record, flags=["--submit", "--dry-run"])
        self.assertFalse((record / "sbatch").exists())
        self.assertFalse(directory.exists())


class Script(SubmitTest):
    """The script itself under bash, as Slurm starts it."""

    def start_script(self, changes=(), flags=(), job="42", **environment):
        record = self.programs(mpirun=MPIRUN, srun=MPIRUN, scontrol=SCONTROL)
        directory, _ = self.submitted(*TWO_BY_TWO, *changes, flags=flags)
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TAEL_", "NCCL_", "OMP_", "UCX_", "CUDA_"))}
        variables.update({"PATH": f"{record}/bin:{os.environ['PATH']}", "RECORD": str(record), **environment})
        if job is not None:
            variables["SLURM_JOB_ID"] = job
        child = subprocess.Popen(["bash", directory / "submit.sh"], env=variables, cwd="/", stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        child.words, child.started = ["bash", str(directory / "submit.sh")], time.monotonic()
        return record, child

    def test_exit_codes_are_the_jobs(self):
        for code in (0, 1, 65, 76, 77, 78, 137):
            record, child = self.start_script(LAUNCHER_EXIT=str(code))
            done = self.finish(child)
            self.assertEqual(done.code, code, str(done))
            self.assertFalse((record / "scontrol").exists(), str(done))

    def test_75_goes_back_into_the_queue(self):
        record, child = self.start_script(LAUNCHER_EXIT="75")
        done = self.finish(child)
        self.assertEqual(done.code, 75, str(done))
        self.assertEqual((record / "scontrol").read_text(), "requeue 42\n")
        self.assertEqual(done.err, "")

    def test_where_requeueing_is_forbidden_it_says_how_to_go_on(self):
        for job, calls in (("42", True), (None, False)):
            record, child = self.start_script(job=job, LAUNCHER_EXIT="75", SCONTROL_EXIT="1")
            done = self.finish(child)
            self.assertEqual(done.code, 75, str(done))
            self.assertIn("stopped before its end; go on with: sbatch ", done.err)
            script = shlex.split(done.err.split("sbatch ")[1])[0]
            self.assertEqual(script, child.words[1])
            self.assertEqual((record / "scontrol").exists(), calls)
        # Ended by Slurm in the middle of it: that was the requeueing.
        _, child = self.start_script(LAUNCHER_EXIT="75", SCONTROL_EXIT="143")
        self.assertEqual(self.finish(child).err, "")

    def test_every_usr1_reaches_the_launcher_and_the_real_code_counts(self):
        for flags in ([], ["--launcher", "srun"]):
            record, child = self.start_script(flags=flags)
            self.wait_until((record / "ready").exists, "the launcher", child)
            for count in (1, 2):
                child.send_signal(signal.SIGUSR1)
                self.wait_until(lambda: (record / "signals").exists()
                                and (record / "signals").read_text() == f"{count}\n", f"signal {count}", child)
                self.assertFalse((record / "scontrol").exists())
            done = self.finish(child)
            self.assertEqual(done.code, 75, str(done))
            self.assertEqual((record / "scontrol").read_text(), "requeue 42\n")

    def test_a_launcher_that_usr1_kills_before_it_can_take_it_is_queued_again(self):
        record, child = self.start_script(LAUNCHER_EXIT="138")
        self.assertEqual(self.finish(child).code, 138)  # nobody asked
        record, child = self.start_script(LAUNCHER_DIES="1")
        self.wait_until((record / "ready").exists, "the launcher", child)
        child.send_signal(signal.SIGUSR1)
        done = self.finish(child)
        self.assertEqual(done.code, 75, str(done))
        self.assertEqual((record / "scontrol").read_text(), "requeue 42\n")

    def test_usr1_is_said_again_to_a_launcher_that_missed_it(self):
        record, child = self.start_script()
        self.wait_until((record / "ready").exists, "the launcher", child)
        child.send_signal(signal.SIGUSR1)
        done = self.finish(child)  # it leaves after the second
        self.assertEqual(done.code, 75, str(done))
        self.assertEqual((record / "signals").read_text(), "2\n")

    def test_the_command_arrives_as_it_was_typed(self):
        odd = "data.train=[train.h5, {path: train.h5}]"
        before = time.time()
        record, child = self.start_script([odd], LAUNCHER_EXIT="0", NCCL_DEBUG="INFO", OMP_NUM_THREADS="3", TAEL_X="a b",
                                          OTHER="x")
        self.assertEqual(self.finish(child).code, 0)
        words = (record / "launcher").read_text().splitlines()[1:]
        self.assertEqual(words[:6], ["-n", "4", "--map-by", "ppr:2:node", "--bind-to", "none"])
        tael = words.index("train") - 1
        self.assertIn(odd, words[tael:])
        self.assertNotIn("time_limit", " ".join(words))
        passed = {words[i + 1] for i in range(6, tael) if words[i] == "-x"}
        self.assertEqual(passed, {"NCCL_DEBUG", "OMP_NUM_THREADS", "TAEL_X", "TAEL_JOB_STARTED"})
        self.assertEqual((record / "directory").read_text().strip(), str(self.folder.resolve()))
        variables = dict(line.split("=", 1) for line in (record / "environment").read_text().splitlines() if "=" in line)
        self.assertLess(abs(float(variables["TAEL_JOB_STARTED"]) - before), 30)


class Training(SubmitTest):
    def test_one_rank_alone_in_a_job_of_many_is_warned(self):
        for tasks, ranks, warned in (("4", None, True), ("4", 2, False), ("1", None, False), ("many", None, False)):
            _, words = self.train_words()
            done = self.command(*words, "--dry-run", ranks=ranks, environment={"SLURM_NTASKS": tasks})
            self.assertEqual(done.code, 0, str(done))
            self.assertEqual("! the Slurm job has 4 tasks, but this is one rank alone" in done.err, warned, str(done))

    def test_the_machines_of_the_configuration_are_those_that_were_started(self):
        self.refuse(78, r"cluster\.nodes: 2 nodes x 2 devices_per_node are 4 ranks, but 2 were started", 2, TWO_BY_TWO)
        self.refuse(78, r"cluster\.nodes: 4 do not divide the 2 ranks", 2, ["cluster.nodes=4"])
        self.train(ranks=4, changes=TWO_BY_TWO)


if __name__ == "__main__":
    main()
