#!/usr/bin/env python3
"""Many ranks, one set of numbers: under real mpirun, every number of ranks, micro-batch and thread count gives the same
losses, in every digit, and the same weights, in every byte.

    tests/run/train_test.py build/tael
"""
import json
import sys

sys.dont_write_bytecode = True
from program import CONFIG, ProgramTest, main  # noqa: E402

# (ranks or None for a start without mpirun, micro-batch, threads)
LAYOUTS = [(1, 8, 1), (1, 4, 3), (2, 1, 2), (2, 4, 1), (4, 1, 1), (4, 2, 2)]
RAMP = "training.global_batch_size=[[0, 8], [512, 16]]"
VARIANTS = {
    # MTP, balance loss, ramp, document mask; the last two steps run with the larger batch.
    "everything": [RAMP, "data.document_mask=true", "model.num_nextn_predict_layers=1"],
    "tied tables, two MTP modules, before the final norm": [
        "model.num_nextn_predict_layers=2", "model.tie_word_embeddings=true", "mtp.hidden=before_final_norm",
        "parallelism.reduction_lanes=8", "parallelism.reduction_segments=2"],
    "V2: softmax gate, no low-rank queries": [
        "model.model_type=deepseek_v2", "model.scoring_func=softmax", "model.topk_method=group_limited_greedy",
        "model.q_lora_rank=null", "model.num_nextn_predict_layers=0", "model.norm_topk_prob=false"],
}


class OneSetOfNumbers(ProgramTest):
    def test_for_ranks_micro_batches_and_threads(self):
        for name, changes in VARIANTS.items():
            alone = self.train(changes=changes)
            self.assertEqual(len(alone.metrics("step")), 4)
            weights, numbers = alone.weights(), alone.numbers()
            self.assertTrue(weights)
            for ranks, micro, threads in LAYOUTS:
                with self.subTest(name, ranks=ranks, micro=micro, threads=threads):
                    run = self.train(ranks, [*changes, f"training.micro_batch_size={micro}",
                                             f"cluster.threads_per_rank={threads}"])
                    self.assertEqual(run.numbers(), numbers)
                    self.assertEqual(run.weights(), weights)

    def test_on_every_instruction_set(self):
        best = json.loads((self.train().path / "env.json").read_text())["cpu_isa"]
        sets = ["portable", "avx2", "avx512"]
        losses = {}
        for isa in sets[:sets.index(best) + 1]:
            alone = self.train(changes=[f"cluster.cpu_isa={isa}"])
            two = self.train(2, [f"cluster.cpu_isa={isa}", "training.micro_batch_size=1"])
            self.assertEqual(json.loads((two.path / "env.json").read_text())["cpu_isa"], isa)
            self.assertEqual(alone.numbers(), two.numbers())
            self.assertEqual(alone.weights(), two.weights())
            losses[isa] = alone.metrics("step")[-1]["train/loss"]
        for loss in losses.values():
            self.assertAlmostEqual(loss, losses["portable"], delta=1e-4)

    def test_fast_takes_any_number_of_ranks_and_is_close(self):
        size = "training.global_batch_size=12"
        canonical = self.train(changes=[size])
        for ranks in (1, 3):
            run = self.train(ranks, [size, "parallelism.reduction=fast"])
            for a, b in zip(run.metrics("step"), canonical.metrics("step"), strict=True):
                self.assertAlmostEqual(a["train/loss"], b["train/loss"], delta=1e-4)
                self.assertAlmostEqual(a["train/grad_norm"], b["train/grad_norm"], delta=1e-3)
                self.assertEqual(a["tokens"], b["tokens"])
        self.refuse(78, "3 data ranks do not divide the 4 lanes", 3, [size])

    def test_the_numbers_depend_on_what_they_should(self):
        base = self.train()
        self.assertEqual(self.train().weights(), base.weights())
        for change in ("run.seed=2", "optimizer.lr=1.01e-2", "parallelism.reduction_lanes=8",
                       "data.document_mask=true", "data.shuffle=false", "router.bias_update_rate=0"):
            self.assertNotEqual(self.train(changes=[change]).weights(), base.weights(), change)

    def test_a_training_learns(self):
        run = self.train(2, ["training.train_steps=60"], CONFIG)
        losses = [line["valid/loss"] for line in run.metrics("eval")]
        self.assertLess(losses[-1], 3.5)
        self.assertLess(losses[-1], losses[0] - 1)


if __name__ == "__main__":
    main()
