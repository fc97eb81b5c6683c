#!/usr/bin/env python3
"""A generated Hugging Face directory of a given size goes through `tael checkpoint export-hf`, alone and by way of a
checkpoint that `import-hf` makes: every tensor keeps its bytes, and the program's resident memory stays under a limit
however large the model is.

    tests/run/hf_export_test.py build/tael --size small --limit-mb 96
    tests/run/hf_export_test.py build/tael --size 8gb --limit-mb 1024 --scratch DIR

Only the standard library; numbers are made, compared and forgotten a piece at a time.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

BASE = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "first_k_dense_replace": 1,
    "moe_layer_freq": 1, "n_shared_experts": 1, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2,
    "norm_topk_prob": True, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "routed_scaling_factor": 2.5,
    "q_lora_rank": None, "qk_rope_head_dim": 64, "max_position_embeddings": 4096, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
    "num_nextn_predict_layers": 0, "torch_dtype": "bfloat16", "qk_nope_head_dim": 128, "v_head_dim": 128,
}
SIZES = {
    "small": dict(vocab_size=32000, hidden_size=512, intermediate_size=1536, moe_intermediate_size=256,
                  num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=128,
                  n_routed_experts=32),  # 0.2 GB
    "8gb": dict(vocab_size=129280, hidden_size=2048, intermediate_size=10944, moe_intermediate_size=1408,
                num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=16, kv_lora_rank=512,
                n_routed_experts=64),  # 9.3 GB: two shards
}
SHARD_BYTES = {"small": 50_000_000, "8gb": 2_000_000_000}
WIDTH = {"BF16": 2, "F32": 4}
PIECE = 1 << 20

# A megabyte of finite bfloat16 numbers with every mantissa and sign; the numbers of a tensor are rotations of it.
_raw = int.from_bytes(random.Random(8).randbytes(PIECE), "little")
_mask, _exponent = (int.from_bytes(struct.pack("<H", v) * (PIECE // 2), "little") for v in (0x81FF, 0x3E00))
POOL = ((_raw & _mask) | _exponent).to_bytes(PIECE, "little") * 2


def piece(name, begin, count):
    """Bytes [begin, begin + count) of a tensor, count <= PIECE: depends on name and place only."""
    start = (zlib.crc32(f"{name}/{begin // PIECE}".encode()) % PIECE) & ~3
    return POOL[start : start + count]


def tensors(config):
    """Name to (dtype, shape), as released checkpoints name them."""
    c, found = config, {}

    def matrix(name, *shape):
        found[name + ".weight"] = ("BF16", list(shape))

    def mlp(prefix, width):
        matrix(prefix + "gate_proj", width, c["hidden_size"])
        matrix(prefix + "up_proj", width, c["hidden_size"])
        matrix(prefix + "down_proj", c["hidden_size"], width)

    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    matrix("model.embed_tokens", c["vocab_size"], hidden)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        matrix(p + "input_layernorm", hidden)
        matrix(p + "post_attention_layernorm", hidden)
        matrix(p + "self_attn.q_proj", heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]), hidden)
        matrix(p + "self_attn.kv_a_proj_with_mqa", c["kv_lora_rank"] + c["qk_rope_head_dim"], hidden)
        matrix(p + "self_attn.kv_a_layernorm", c["kv_lora_rank"])
        matrix(p + "self_attn.kv_b_proj", heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), c["kv_lora_rank"])
        matrix(p + "self_attn.o_proj", hidden, heads * c["v_head_dim"])
        if i < c["first_k_dense_replace"]:
            mlp(p + "mlp.", c["intermediate_size"])
            continue
        matrix(p + "mlp.gate", c["n_routed_experts"], hidden)
        found[p + "mlp.gate.e_score_correction_bias"] = ("F32", [c["n_routed_experts"]])
        for e in range(c["n_routed_experts"]):
            mlp(f"{p}mlp.experts.{e}.", c["moe_intermediate_size"])
        mlp(p + "mlp.shared_experts.", c["n_shared_experts"] * c["moe_intermediate_size"])
    matrix("model.norm", hidden)
    matrix("lm_head", c["vocab_size"], hidden)
    return found


def size_of(tensor):
    count = WIDTH[tensor[0]]
    for d in tensor[1]:
        count *= d
    return count


def write_shard(path, names, table):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        header[name] = {"dtype": table[name][0], "shape": table[name][1], "data_offsets": [at, at + size_of(table[name])]}
        at += size_of(table[name])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            total = size_of(table[name])
            for begin in range(0, total, PIECE):
                f.write(piece(name, begin, min(PIECE, total - begin)))


def generate(folder, config, shard_bytes):
    """Shards in an order that is nobody's, so that a copy has to look every tensor up."""
    table = tensors(config)
    names = sorted(table, key=lambda name: zlib.crc32(name.encode()))
    shards, room = [[]], shard_bytes
    for name in names:
        if size_of(table[name]) > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size_of(table[name])
    folder.mkdir(parents=True)
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / file, shard, table)
        weight_map |= {name: file for name in shard}
    total = sum(map(size_of, table.values()))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return table, total


def compare(folder, table):
    """Every tensor of the copy against what it was made from."""
    left = dict(table)
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(length))
            header.pop("__metadata__")
            for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
                wanted = left.pop(name)
                assert (entry["dtype"], entry["shape"]) == (wanted[0], wanted[1]), name
                f.seek(8 + length + entry["data_offsets"][0])
                total = size_of(wanted)
                for begin in range(0, total, PIECE):
                    count = min(PIECE, total - begin)
                    assert f.read(count) == piece(name, begin, count), f"{name} differs after byte {begin}"
    assert not left, f"not in the copy: {sorted(left)[:3]}"


# In a small process of its own: a child's peak is at least its parent's at the time of the fork.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def export(arguments, limit_mb):
    run = subprocess.run([sys.executable, "-S", "-E", "-c", MEASURE, *arguments], stdout=subprocess.PIPE, text=True)
    assert run.returncode == 0, f"{' '.join(arguments)}: exit {run.returncode}"
    *said, kib = run.stdout.splitlines()
    peak_mb = int(kib) * 1024 / 1e6
    print("\n".join([*said, f"  {arguments[2]}: at most {peak_mb:.0f} MB resident"]))
    assert peak_mb <= limit_mb, f"{peak_mb:.0f} MB resident, at most {limit_mb} MB are allowed"
    return peak_mb


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tael")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--limit-mb", type=float, required=True)
    parser.add_argument("--scratch", help="where to put the directories (default: the system's)")
    options = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="tael_hf_", dir=options.scratch))
    try:
        config = BASE | SIZES[options.size]
        need = 3.3 * sum(map(size_of, tensors(config).values()))
        free = shutil.disk_usage(scratch).free
        assert free > need, f"{scratch}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed"
        table, total = generate(scratch / "model", config, SHARD_BYTES[options.size])
        print(f"generated {total / 1e9:.2f} GB in {len(table)} tensors")
        peaks = [export([options.tael, "checkpoint", "export-hf", str(scratch / "model"), str(scratch / "copy")],
                        options.limit_mb)]
        compare(scratch / "copy", table)
        assert (scratch / "copy/config.json").read_bytes() == (scratch / "model/config.json").read_bytes()
        shutil.rmtree(scratch / "copy")  # and through a checkpoint
        for verb, source, target in (("import-hf", "model", "ckpt"), ("export-hf", "ckpt", "copy")):
            peaks.append(export([options.tael, "checkpoint", verb, str(scratch / source), str(scratch / target)],
                                options.limit_mb))
        compare(scratch / "copy", table)
        assert (scratch / "copy/config.json").read_bytes() == (scratch / "model/config.json").read_bytes()
        shutil.rmtree(scratch / "ckpt")
        if options.size == "small":  # to float32 and back: bfloat16 survives exactly
            shutil.rmtree(scratch / "copy")
            for source, target, dtype in (("model", "wide", "fp32"), ("wide", "copy", "bf16")):
                peaks.append(export([options.tael, "checkpoint", "export-hf", str(scratch / source),
                                     str(scratch / target), "--dtype", dtype], options.limit_mb))
            compare(scratch / "copy", table)
        print(f"every tensor has its bytes; at most {max(peaks):.0f} MB resident of {options.limit_mb:.0f} MB allowed")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"hf_export_test: {error}")
