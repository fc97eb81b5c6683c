"""The real program, run as people run it: alone or under mpirun, on a tiny model and a corpus of a few pages.

    class Some(ProgramTest): def test_it(self): run = self.train(ranks=2, changes=["optimizer.lr=1e-2"])
    if __name__ == "__main__": main()          # some_test.py build/tael [unittest arguments]

Only the standard library. Everything is written under one scratch directory per test class.
"""
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

TAEL = None  # the program under test, from the command line
TIMEOUT = 60  # seconds in which any of these runs has ended, or hangs

# Settings of Open MPI for tests: as root in containers, more ranks than cores.
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
       "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}

MODEL = """{vocab_size: 272, hidden_size: 32, intermediate_size: 64, moe_intermediate_size: 16, num_hidden_layers: 2,
  q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, num_attention_heads: 2,
  num_key_value_heads: 2, n_routed_experts: 8, num_experts_per_tok: 2, n_group: 4, topk_group: 2}"""
CONFIG = f"""schema: 1
defaults: [models/deepseek_v3_tiny]
run: {{dir: RUN, seed: 1}}
model: {MODEL}
router: {{bias_update_rate: 1e-2, aux_loss: {{type: seq_aux_loss, coeff: 1e-3}}}}
data: {{train: [train.h5], valid: [valid.h5]}}
training: {{seq_length: 32, micro_batch_size: 2, global_batch_size: 8, train_steps: 4, eval_interval: 2}}
optimizer: {{lr: 1e-2}}
lr_scheduler: {{warmup_steps: 2}}
cluster: {{threads_per_rank: 1}}
"""


class Done:
    """A command that has ended."""

    def __init__(self, command, code, out, err, seconds):
        self.command, self.code, self.out, self.err, self.seconds = command, code, out, err, seconds

    def messages(self):
        """What the program said before it gave up: one line each."""
        return [line for line in self.err.splitlines() if line.startswith("tael: ")]

    def __str__(self):
        return f"{' '.join(map(str, self.command))}\nexit {self.code} after {self.seconds:.1f} s\n{self.out}{self.err}"


class Run:
    """A run directory."""

    def __init__(self, path, done):
        self.path, self.done = pathlib.Path(path), done

    def metrics(self, kind=None):
        text = (self.path / "metrics.jsonl").read_text()
        # Of a run that goes on the last line may be half there.
        lines = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
        return [line for line in lines if kind is None or line["kind"] == kind]

    def status(self):
        return json.loads((self.path / "status.json").read_text())

    def weights(self):
        """Name to bytes, of the files of model/ that hold tensors."""
        return {file.name: file.read_bytes() for file in (self.path / "model").glob("*.safetensors")}

    def numbers(self):
        """What must be equal in every digit for every layout: all numbers of the training, none of its speed."""
        kept = ("train/", "valid/", "moe/")
        return [{k: v for k, v in line.items() if k.startswith(kept) or k in ("step", "tokens", "kind")}
                for line in self.metrics()]


class ProgramTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="tael-run-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.count = 0
        words = [bytes(97 + (i * j + i // j) % 26 for j in range(1, 2 + i % 7)) for i in range(1, 200)]
        lines = [b" ".join(words[(i * i + j * 7) % len(words)] for j in range(12)) for i in range(240)]
        for i in range(12):
            (cls.folder / "corpus").mkdir(exist_ok=True)
            (cls.folder / "corpus" / f"{i:02}.txt").write_bytes(b".\n".join(lines[i * 20:i * 20 + 20]))
        done = cls.command("data", "prepare", "--out", "train.h5", "--valid", "valid.h5", "--valid-fraction", "0.15", "corpus")
        assert done.code == 0, str(done)

    @classmethod
    def environment(cls, changes=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
        environment.update(MPI)
        environment.update(changes or {})
        return environment

    @classmethod
    def words(cls, arguments, ranks=None, file_limit=None):
        launcher = [] if ranks is None else ["mpirun", "-n", str(ranks)]
        if file_limit is not None:
            launcher += ["prlimit", f"--fsize={file_limit}"]
        return [*launcher, str(TAEL), *map(str, arguments)]

    @classmethod
    def command(cls, *arguments, ranks=None, environment=None, timeout=TIMEOUT, stdout=subprocess.PIPE, file_limit=None):
        """Runs `tael ARGUMENTS` to its end in the scratch directory. file_limit: the most bytes that a file may have."""
        words, start = cls.words(arguments, ranks, file_limit), time.monotonic()
        child = subprocess.Popen(words, cwd=cls.folder, env=cls.environment(environment), stdin=subprocess.DEVNULL,
                                 stdout=stdout, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return cls.wait(child, words, start, timeout)

    @classmethod
    def wait(cls, child, words, start, timeout=TIMEOUT):
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            raise AssertionError(f"still running after {timeout} s: {' '.join(words)}\n{out}{err}") from None
        return Done(words, child.returncode, out or "", err or "", time.monotonic() - start)

    @classmethod
    def start(cls, *arguments, ranks=None):
        """Starts `tael ARGUMENTS`; end it with finish()."""
        words = cls.words(arguments, ranks)
        child = subprocess.Popen(words, cwd=cls.folder, env=cls.environment(), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        child.words, child.started = words, time.monotonic()
        return child

    @classmethod
    def finish(cls, child, timeout=TIMEOUT):
        return cls.wait(child, child.words, child.started, timeout)

    @classmethod
    def fresh(cls, suffix=""):
        cls.count += 1
        return cls.folder / f"{cls.__name__}{cls.count}{suffix}"

    @classmethod
    def config(cls, text=CONFIG):
        path = cls.fresh(".yaml")
        path.write_text(text)
        return path

    @classmethod
    def train_words(cls, changes=(), text=CONFIG, directory=None):
        directory = directory or cls.fresh()
        return directory, ["train", cls.config(text), f"run.dir={directory}", *changes]

    def train(self, ranks=None, changes=(), text=CONFIG, **options):
        """A run that must succeed."""
        directory, words = self.train_words(changes, text)
        done = self.command(*words, ranks=ranks, **options)
        self.assertEqual(done.code, 0, str(done))
        return Run(directory, done)

    def refuse(self, code, pattern, ranks=None, changes=(), text=CONFIG, **options):
        """A run that is refused with exactly one message and leaves nothing behind."""
        directory, words = self.train_words(changes, text)
        done = self.command(*words, ranks=ranks, **options)
        self.assertEqual(done.code, code, str(done))
        self.assertEqual(len(done.messages()), 1, str(done))
        self.assertRegex(done.messages()[0], pattern)
        self.assertEqual(done.out if ranks is None else "", "", str(done))
        self.assertFalse(directory.exists(), str(done))
        return done

    def wait_until(self, condition, what, child=None, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        while not condition():
            if child is not None and child.poll() is not None:
                self.fail(f"{what}: the program ended first\n{self.finish(child)}")
            if time.monotonic() > end:
                self.fail(f"{what}: not within {timeout} s")
            time.sleep(0.005)


def children_of(pid):
    """Processes below `pid` that run the program, deepest included."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                todo += map(int, task.read_text().split())
            except OSError:
                continue
        try:
            if os.path.basename(os.readlink(f"/proc/{parent}/exe")) == "tael":
                found.append(parent)
        except OSError:
            continue
    return sorted(found)


def safetensors(path):
    """(name to (dtype, shape, begin, end), where the data begins) of a file."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], *v["data_offsets"]) for k, v in header.items()}, 8 + size


def plant(directory, tensor, first, values):
    """Overwrites float32 numbers of a tensor of a Hugging Face directory of one file."""
    path = pathlib.Path(directory, "model.safetensors")
    tensors, base = safetensors(path)
    dtype, _, begin, end = tensors[tensor]
    assert dtype == "F32" and begin + 4 * (first + len(values)) <= end
    with open(path, "r+b") as file:
        file.seek(base + begin + 4 * first)
        file.write(struct.pack(f"<{len(values)}f", *values))


def main():
    global TAEL
    # A test imports this file as a module of its own: what main sets must be seen there.
    sys.modules["program"].TAEL = TAEL = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(module="__main__", verbosity=2)
