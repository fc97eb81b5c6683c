#!/usr/bin/env python3
"""What a run leaves behind: RUN/ as interface.md has it, read by other people's means, and by the program itself.

    tests/run/run_directory_test.py build/tael
"""
import json
import math
import re
import struct
import sys

sys.dont_write_bytecode = True
from program import CONFIG, ProgramTest, Run, main, safetensors  # noqa: E402

FIELDS = {"t", "attempt", "step", "tokens", "kind"}
STEP = FIELDS | {
    "train/loss", "train/mtp_loss", "train/balance_loss", "train/grad_norm", "train/lr", "perf/tokens_per_s",
    "perf/tokens_per_s_per_gpu", "perf/step_ms", "perf/tflops_per_gpu", "perf/mfu", "mem/peak_gib", "moe/max_violation",
    "moe/bias_abs_max", "comm/bytes_between_hosts", "comm/bytes_within_host", "cost/gpu_hours"}
EVAL = FIELDS | {"valid/loss", "valid/ppl", "valid/bits_per_byte"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF


def records(path):
    """The records of a TensorBoard file, checksums checked."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        length, length_crc = struct.unpack_from("<QI", data, at)
        record = data[at + 12:at + 12 + length]
        assert length_crc == masked(data[at:at + 8]), at
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(record), at
        yield record
        at += 16 + length


def message(data):
    """Field number to values of a protocol buffer: bytes, or the raw number."""
    fields, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}[key & 7] if key & 7 != 2 else varint()
            value, at = data[at:at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def scalars(path):
    """(tag, step) to value of a TensorBoard file."""
    found = {}
    for record in records(path):
        event = message(record)
        for summary in event.get(5, []):
            for value in message(summary).get(1, []):
                fields = message(value)
                found[fields[1][0].decode(), event[2][0]] = struct.unpack("<f", fields[2][0])[0]
    return found


class RunDirectory(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory, words = cls.train_words(["cluster.price_per_device_hour={usd: 3.5}"])
        done = cls.command(*words, ranks=2)
        assert done.code == 0, str(done)
        cls.run_ = Run(directory, done)

    def test_holds_the_files_of_the_contract_and_no_others(self):
        run = self.run_
        found = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()}
        events = {name for name in found if name.startswith("tb/")}
        self.assertEqual(found - events, {
            "config.yaml", "env.json", "metrics.jsonl", "ledger.jsonl", "experts.jsonl", "status.json",
            "attempts/00000001.json", "checkpoints/latest", "checkpoints/step-00000004/manifest.json", "checkpoints/step-00000004/shard-00000.h5",
            "checkpoints/step-00000004/shard-00001.h5", "model/config.json", "model/generation_config.json",
            "model/model.safetensors"})
        self.assertEqual(len(events), 1)
        self.assertRegex(events.pop(), r"^tb/events\.out\.tfevents\.\d{10}\.[^/]+$")

    def test_metrics_have_the_fields_of_the_contract(self):
        run = self.run_
        self.assertEqual([(line["kind"], line["step"]) for line in run.metrics()],
                         [("step", 1), ("step", 2), ("eval", 2), ("step", 3), ("step", 4),
                          ("checkpoint", 4), ("eval", 4), ("end", 4)])
        for line in run.metrics():
            self.assertRegex(line["t"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual(line["attempt"], 1)
            self.assertEqual(line["tokens"], line["step"] * 8 * 32)
        hours = 0
        for line in run.metrics("step"):
            self.assertEqual(set(line), STEP | {"cost/money"})
            self.assertAlmostEqual(line["cost/money"], 3.5 * line["cost/gpu_hours"])
            self.assertAlmostEqual(line["perf/tokens_per_s_per_gpu"], line["perf/tokens_per_s"] / 2)
            self.assertAlmostEqual(line["perf/tokens_per_s"] * line["perf/step_ms"] / 1e3, 8 * 32, delta=1e-6)
            self.assertGreater(line["cost/gpu_hours"], hours)
            self.assertGreater(line["mem/peak_gib"], 0)
            self.assertGreater(line["comm/bytes_within_host"], 0)
            self.assertEqual(line["comm/bytes_between_hosts"], 0)
            hours = line["cost/gpu_hours"]
        for line in run.metrics("checkpoint"):
            self.assertEqual(set(line), FIELDS | {"checkpoint/bytes", "checkpoint/stall_ms", "checkpoint/seconds"})
        for line in run.metrics("eval"):
            self.assertEqual(set(line), EVAL)
            self.assertAlmostEqual(line["valid/ppl"], math.exp(line["valid/loss"]))
        self.assertEqual(run.metrics("end")[0]["state"], "done")

    def test_rates_are_of_the_steps_own_tokens(self):
        for size in ("[[0, 4], [300, 16]]", "{start: 4, end: 16, over: 700, increment: 4}"):
            run, before = self.train(changes=[f"training.global_batch_size={size}", "training.train_steps=6"]), 0
            sizes = []
            for line in run.metrics("step"):
                sizes.append((line["tokens"] - before) // 32)
                self.assertAlmostEqual(line["perf/tokens_per_s"] * line["perf/step_ms"] / 1e3, line["tokens"] - before, delta=1e-6)
                before = line["tokens"]
            self.assertEqual((sizes[0], sizes[-1]), (4, 16))

    def test_speed_is_what_the_printed_peak_and_cost_of_a_token_make_of_it(self):
        found = re.search(r"([\d.]+) GFLOP/s a rank .* a token costs ([\d.]+) MFLOPs", self.run_.done.out + self.run_.done.err)
        self.assertIsNotNone(found, str(self.run_.done))
        peak, token = float(found[1]) * 1e9, float(found[2]) * 1e6
        for line in self.run_.metrics("step"):
            flops = line["perf/tflops_per_gpu"] * 1e12
            # Printed with one and two digits behind the point.
            self.assertAlmostEqual(flops / line["perf/tokens_per_s_per_gpu"], token, delta=0.0051e6)
            self.assertAlmostEqual(flops / line["perf/mfu"], peak, delta=0.051e9)

    def test_fields_of_parts_that_a_model_lacks_are_absent(self):
        dense = self.train(changes=["model.num_nextn_predict_layers=0", "model.n_routed_experts=null", "data.valid=[]",
                                    "model.first_k_dense_replace=2", "metrics.tensorboard=false"])
        for line in dense.metrics("step"):
            self.assertEqual(set(line), STEP - {"train/mtp_loss", "train/balance_loss", "moe/max_violation",
                                                "moe/bias_abs_max"})
        self.assertEqual(dense.metrics("eval"), [])
        self.assertFalse((dense.path / "tb").exists())

    def test_tensorboard_says_what_the_metrics_say(self):
        run = self.run_
        found = scalars(next((run.path / "tb").iterdir()))
        expected = {(name, line["step"]): value for line in run.metrics() for name, value in line.items()
                    if name not in FIELDS | {"state"}}
        self.assertEqual(set(found), set(expected))
        for key, value in expected.items():
            self.assertEqual(found[key], struct.unpack("<f", struct.pack("<f", value))[0], key)

    def test_status_and_environment(self):
        status = self.run_.status()
        self.assertEqual((status["state"], status["step"], status["steps"], status["tokens"], status["eta"]),
                         ("done", 4, 4, 4 * 8 * 32, None))
        self.assertGreater(status["device_hours"], 0)
        env = json.loads((self.run_.path / "env.json").read_text())
        self.assertEqual((env["ranks"], env["threads_per_rank"], len(env["hosts"])), (2, 1, 2))
        self.assertIn("train", env["command"])

    def test_its_configuration_gives_the_same_run(self):
        again = self.fresh()
        done = self.command("train", self.run_.path / "config.yaml", f"run.dir={again}")
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual(Run(again, done).weights(), self.run_.weights())
        self.assertEqual(Run(again, done).numbers(), self.run_.numbers())
        one, other = ((path / "config.yaml").read_text().splitlines() for path in (self.run_.path, again))
        self.assertEqual([a for a, b in zip(one, other, strict=True) if a != b],
                         [line for line in one if line.strip().startswith("dir:")])

    def evaluate(self, model, *options, ranks=None):
        done = self.command("eval", model, "--data", "valid.h5", "--json", *options, ranks=ranks)
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual(done.err if ranks is None else "", "")
        return json.loads(done.out)

    def test_the_yardstick_is_fitted_on_the_very_text_or_not_at_all(self):
        kept = (self.folder / "train.h5").read_bytes()
        self.addCleanup((self.folder / "train.h5").write_bytes, kept)
        self.assertIn("order1_bits_per_byte", self.evaluate(self.run_.path))
        (self.folder / "other.txt").write_bytes(b"another text altogether, " * 400)
        done = self.command("data", "prepare", "--out", "other.h5", "other.txt")
        self.assertEqual(done.code, 0, str(done))
        for content in ((self.folder / "other.h5").read_bytes(), kept[:-1], None):
            (self.folder / "train.h5").unlink()
            if content is not None:
                (self.folder / "train.h5").write_bytes(content)
            self.assertEqual(set(self.evaluate(self.run_.path)), {"loss", "ppl", "bits_per_byte", "tokens"})
            if content is None:
                (self.folder / "train.h5").write_bytes(kept)

    def test_numbers_beside_text_are_evaluated_without_a_yardstick(self):
        (self.folder / "numbers.bin").write_bytes(struct.pack("<300H", *(i * i % 251 for i in range(300))))
        done = self.command("data", "import", "nanogpt", "--out", "numbers.h5", "--vocab-size", "251", "numbers.bin")
        self.assertEqual(done.code, 0, str(done))
        run = self.train(changes=["training.train_steps=1", "data.valid=[valid.h5, numbers.h5]"])
        for order in (("valid.h5", "numbers.h5"), ("numbers.h5", "valid.h5")):
            done = self.command("eval", run.path, "--data", *order, "--json")
            self.assertEqual(done.code, 0, str(done))
            self.assertNotIn("order1_bits_per_byte", json.loads(done.out))
            self.assertAlmostEqual(json.loads(done.out)["loss"], run.metrics("eval")[-1]["valid/loss"], delta=1e-6)
        # They do not say where a document ends, in training as in eval.
        self.refuse(65, r"numbers\.h5: it does not say which token ends a document, so document_mask cannot be used",
                    changes=["data.document_mask=true", "data.valid=[numbers.h5]"])

    def test_eval_says_what_the_run_said(self):
        run, last = self.run_, self.run_.metrics("eval")[-1]
        result = self.evaluate(run.path)
        self.assertEqual(set(result), {"loss", "ppl", "bits_per_byte", "tokens", "order1_bits_per_byte"})
        self.assertAlmostEqual(result["loss"], last["valid/loss"], delta=1e-6)
        self.assertAlmostEqual(result["bits_per_byte"], last["valid/bits_per_byte"], delta=1e-6)
        inspected = json.loads(self.command("data", "inspect", "valid.h5", "--json").out)
        self.assertEqual(result["tokens"], inspected["tokens"] - 1)
        self.assertEqual(self.evaluate(run.path), result)
        self.assertEqual(self.evaluate(run.path, ranks=2), result)
        self.assertEqual(self.evaluate(run.path, ranks=3), result)
        # The model alone does not know with which length it was trained.
        self.assertEqual(self.evaluate(run.path / "model", "--seq-length", "32")["loss"], result["loss"])
        longer = self.evaluate(run.path, "--seq-length", "64")
        self.assertNotEqual(longer["loss"], result["loss"])
        self.assertEqual(longer["tokens"], result["tokens"])
        self.assertEqual(self.evaluate(run.path / "model"), self.evaluate(run.path / "model", "--seq-length", "4096"))
        plain = self.command("eval", run.path, "--data", "valid.h5")
        self.assertEqual(plain.err, "")
        self.assertRegex(plain.out, f"loss +{result['loss']:.5f} nats")

    def test_eval_refuses_what_does_not_fit(self):
        for code, text, words in (
                (78, "4097", (self.run_.path, "--data", "valid.h5", "--seq-length", "4097")),
                (65, "none.h5", (self.run_.path, "--data", "none.h5")),
                (65, "nothing", ("nothing", "--data", "valid.h5")),
                (2, "--seq-length", (self.run_.path, "--data", "valid.h5", "--seq-length", "0"))):
            for ranks in (None, 2):
                done = self.command("eval", *words, ranks=ranks)
                self.assertEqual(done.code, code, str(done))
                self.assertIn(text, done.err)
                if code != 2:
                    self.assertEqual(len(done.messages()), 1, str(done))

    def test_a_run_starts_from_the_weights_of_another(self):
        path, last = self.run_.path, self.run_.metrics("eval")[-1]
        for source in (path, path / "model"):
            # One step at a rate of nothing: the weights, their losses and the gate's bias come back.
            run = self.train(2, [f"checkpoint.initial_load_path={source}", "optimizer.lr=0", "lr_scheduler.min_lr=0",
                                 "router.bias_update_rate=0", "training.train_steps=1"])
            self.assertEqual(run.weights(), self.run_.weights())
            self.assertEqual(run.metrics("eval")[-1]["valid/loss"], last["valid/loss"])
        for change, key in (("vocab_size=300", "vocab_size 272"), ("num_nextn_predict_layers=0", "num_nextn_predict_layers 1"),
                            ("n_shared_experts=0", "n_shared_experts 1"), ("tie_word_embeddings=true", "tie_word_embeddings false")):
            self.refuse(78, fr": holds another model: {key} \(needed: {change.split('=')[1]}\)$",
                        changes=[f"checkpoint.initial_load_path={path}", "model." + change])
        self.refuse(65, "no such|does not exist|nowhere", changes=["checkpoint.initial_load_path=nowhere"])
        # What takes part in other numbers than there is said, what is only carried along is not.
        run = self.train(None, [f"checkpoint.initial_load_path={path}", "model.rope_theta=5000", "model.eos_token_id=3",
                                "training.train_steps=1"])
        self.assertEqual(re.findall(r"(?m)^! (.*)$", run.done.err),
                         [f"model.rope_theta is 5000 here, and 10000 where the weights are from, {path}/model"])

    def test_the_model_is_a_hugging_face_directory(self):
        tensors, _ = safetensors(self.run_.path / "model" / "model.safetensors")
        config = json.loads((self.run_.path / "model" / "config.json").read_text())
        self.assertEqual({dtype for dtype, *_ in tensors.values()}, {"F32"})
        self.assertEqual(config["vocab_size"], 272)
        self.assertEqual(tensors["model.embed_tokens.weight"][1], [272, 32])
        self.assertEqual(tensors["model.layers.1.mlp.gate.e_score_correction_bias"][1], [8])
        self.assertIn("model.layers.2.eh_proj.weight", tensors)  # the MTP module
        out = self.fresh()
        done = self.command("checkpoint", "export-hf", self.run_.path, out)
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual((out / "model.safetensors").read_bytes(), self.run_.weights()["model.safetensors"])

    def test_the_console_shows_the_start_every_step_and_the_end(self):
        err = self.run_.done.err
        for name in ("tael", "run", "world", "model", "data", "batch", "numbers", "memory", "peak", "done"):
            self.assertEqual(len(re.findall(rf"^{name} ", err, re.M)), 1, name + "\n" + err)
        self.assertEqual(len(re.findall(r"^ +[1-4] +\d\.\d{5} ", err, re.M)), 4, err)
        self.assertEqual(len(re.findall(r"^ +valid  step [24] ", err, re.M)), 2, err)
        self.assertNotIn("\033", err)
        self.assertEqual(self.run_.done.out, "")

    def test_log_interval_thins_the_console_only(self):
        run = self.train(changes=["training.log_interval=3", "data.valid=[]"], text=CONFIG)
        self.assertEqual(re.findall(r"^ +(\d+) +\d\.\d{5} ", run.done.err, re.M), ["3", "4"])
        self.assertEqual(len(run.metrics("step")), 4)

    def test_a_trial_shorter_than_the_warm_up_is_a_run(self):
        run = self.train(changes=["lr_scheduler.warmup_steps=100"])
        self.assertEqual([line["train/lr"] for line in run.metrics("step")],
                         [1e-2 * (step / 100) for step in (1, 2, 3, 4)])


if __name__ == "__main__":
    main()
