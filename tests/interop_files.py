"""Do Hearken and others read each other's files: GGUF, SentencePiece in GGUF, Parquet?

Run by hand; needs torch, transformers, gguf, sentencepiece, pyarrow and datasets:

    cargo build --release
    python tests/interop_files.py > docs/results/interop-files.txt

GGUF: Transformers makes a random model; Hearken writes it as GGUF, the package gguf reads that, and Hearken reads
it again into a folder whose logits Transformers computes. A vocabulary of SentencePiece goes through GGUF and
gives the same token ids. Parquet: tables of pyarrow, in every codec and two versions of pages, and of datasets,
come out of `hearken data convert` as pyarrow reads them.
"""

import datetime
import json
import pathlib
import platform
import random
import subprocess
import tempfile

import datasets
import gguf
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece
import torch
import transformers
from gguf.quants import dequantize
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEARKEN = ROOT / "target" / "release" / "hearken"
WIDE = dict(
    vocab_size=512, bos_token_id=0, eos_token_id=0, pad_token_id=1, hidden_size=96, intermediate_size=224,
    num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=512,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)
MODELS = {
    "llama": LlamaConfig(**WIDE),
    "llama, tied, Llama 3's positions": LlamaConfig(**WIDE, tie_word_embeddings=True, rope_parameters=LLAMA3),
    "llama, biases": LlamaConfig(**WIDE, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**WIDE),
    "qwen3, head of 32": Qwen3Config(**WIDE, head_dim=32),
}


def hearken(*arguments):
    subprocess.run([HEARKEN, *map(str, arguments)], check=True, capture_output=True)


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(2, 130)[None]
    with torch.no_grad():
        return model(ids).logits


def through_gguf(config, dtype, work):
    """The largest differences of weights as gguf reads them, relative to each tensor's largest, and of logits."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(work / "theirs")
    hearken("convert", "--model", work / "theirs", "--output", work / "m.gguf", "--dtype", dtype)
    hearken("convert", "--model", work / "m.gguf", "--output", work / "back", "--dtype", "f32")
    weights = load_file(work / "theirs" / "model.safetensors")
    sizes = sorted(float(value.abs().max()) for value in weights.values())
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(work / "m.gguf").tensors}
    back = load_file(work / "back" / "model.safetensors")
    assert len(read) - ("rope_freqs.weight" in read) == len(back) and sizes
    # Weights that keep the order of their rows are compared as gguf has them, the others as they come back.
    gate = dequantize(read["blk.0.ffn_gate.weight"].data, read["blk.0.ffn_gate.weight"].tensor_type)
    own = weights["model.layers.0.mlp.gate_proj.weight"].numpy()
    differences = [np.abs(gate.reshape(own.shape) - own).max() / np.abs(own).max()]
    for name, value in weights.items():
        differences.append(float((back[name] - value).abs().max() / value.abs().max()))
    there, here = logits(work / "theirs"), logits(work / "back")
    return max(differences), float((there - here).abs().max() / there.abs().max())


def pieces(work):
    """How many of some texts get the same ids from SentencePiece and from what went through GGUF."""
    rng = random.Random(1)
    words = [w for path in sorted((ROOT / "docs").glob("*.md")) for w in path.read_text().split()]
    (work / "text.txt").write_text("\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(work / "text.txt"), model_prefix=str(work / "sp"), vocab_size=1000, model_type="bpe",
        byte_fallback=True, character_coverage=0.999, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, minloglevel=2,
    )
    sp = sentencepiece.SentencePieceProcessor(model_file=str(work / "sp.model"))
    writer = gguf.GGUFWriter(work / "sp.gguf", "llama")
    count = sp.vocab_size()
    kinds = [
        gguf.TokenType.UNKNOWN if sp.is_unknown(i) else gguf.TokenType.CONTROL if sp.is_control(i)
        else gguf.TokenType.BYTE if sp.is_byte(i) else gguf.TokenType.NORMAL
        for i in range(count)
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([sp.id_to_piece(i) for i in range(count)])
    writer.add_token_scores([sp.get_score(i) for i in range(count)])
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_bos_token_id(sp.bos_id())
    writer.add_eos_token_id(sp.eos_id())
    writer.add_unk_token_id(sp.unk_id())
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    shapes = {
        "token_embd": (count, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,),
        "blk.0.attn_q": (32, 32), "blk.0.attn_k": (32, 32), "blk.0.attn_v": (32, 32), "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name + ".weight", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    hearken("convert", "--model", work / "sp.gguf", "--output", work / "sp")
    ours = PreTrainedTokenizerFast.from_pretrained(work / "sp")
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 20))) for _ in range(300)]
    texts += ["äöü 你好 😀", "  two  spaces ", "12345 3.14", "a\nb\tc"]
    same = [ours(text).input_ids == [sp.bos_id(), *sp.encode(text)] for text in texts]
    assert all(ours.decode(ours(text).input_ids, skip_special_tokens=True) == text for text in texts)
    return sum(same), len(same)


def tables(work):
    """Every table as pyarrow reads it, from each codec and page version."""
    rng = random.Random(2)
    rows = [
        {
            "messages": [{"role": "user", "content": f"q{n} ä😀"}, {"role": "assistant", "content": "a" * (n % 50)}],
            "tags": None if n % 7 == 0 else [f"t{k}" for k in range(n % 4)],
            "nested": {"a": n, "b": [[k, None] for k in range(n % 3)]},
            "score": rng.random(), "small": float(np.float32(rng.random())), "n": n * 10**12, "yes": n % 2 == 0,
            "none": None,
        }
        for n in range(2500)
    ]
    schema = pa.Table.from_pylist(rows).schema
    schema = schema.set(schema.get_field_index("small"), pa.field("small", pa.float32()))
    schema = schema.set(schema.get_field_index("none"), pa.field("none", pa.string()))
    table = pa.Table.from_pylist(rows, schema=schema)
    files = {}
    for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        for version in ("1.0", "2.0"):
            path = work / f"{codec}-{version}.parquet"
            pq.write_table(table, path, compression=codec, data_page_version=version, row_group_size=700)
            files[f"pyarrow, {codec}, pages {version}"] = path
    path = work / "datasets.parquet"
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).to_parquet(path)
    files["datasets"] = path
    for name, path in files.items():
        hearken("data", "convert", path, work / "out.jsonl")
        found = [json.loads(line) for line in open(work / "out.jsonl")]
        wanted = pq.read_table(path).to_pylist()
        for row in wanted:
            row["small"] = float(str(np.float32(row["small"]))) if "datasets" not in name else row["small"]
        assert found == wanted, name
        yield name, len(found)


def main():
    transformers.logging.set_verbosity_error()
    print(
        f"{datetime.date.today()}  {platform.machine()}  gguf 0.19.0  transformers {transformers.__version__}  "
        f"pyarrow {pa.__version__}  datasets {datasets.__version__}  sentencepiece {sentencepiece.__version__}"
    )
    print("through GGUF: largest difference of weights and of logits, each relative to the largest")
    for name, config in MODELS.items():
        for dtype, most in (("f32", 0), ("f16", 6e-4), ("q8_0", 6e-3)):
            with tempfile.TemporaryDirectory() as work:
                weights, out = through_gguf(config, dtype, pathlib.Path(work))
            print(f"{name:34} {dtype:5} {weights:.2e} {out:.2e}")
            assert weights <= most, name
    with tempfile.TemporaryDirectory() as work:
        same, count = pieces(pathlib.Path(work))
    print(f"SentencePiece through GGUF: {same} of {count} texts have the same ids")
    assert same == count
    with tempfile.TemporaryDirectory() as work:
        for name, count in tables(pathlib.Path(work)):
            print(f"Parquet: {name:34} {count} rows equal")


main()
