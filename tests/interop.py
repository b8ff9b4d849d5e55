"""Do Hearken and Transformers read each other's checkpoints, and compute the same?

Run by hand; needs torch and transformers:

    cargo build --release -p hearken-model --example resave
    python tests/interop.py > docs/results/interop.txt

For each architecture: Transformers makes a random model and saves it; Hearken loads it, saves it
again and computes logits; Transformers loads what Hearken saved, unchanged, and computes them too.
Then the same for reward models, whose score head Hearken creates where there is none.
"""

import datetime
import json
import pathlib
import platform
import subprocess
import tempfile

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESAVE = ROOT / "target" / "release" / "examples" / "resave"
COMMON = dict(vocab_size=512, bos_token_id=0, eos_token_id=0, pad_token_id=1)
WIDE = dict(
    hidden_size=96,
    intermediate_size=200,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=512,
    **COMMON,
)
NEOX = {key: value for key, value in WIDE.items() if key != "num_key_value_heads"}
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
MODELS = {
    "gpt2": GPT2Config(n_embd=96, n_layer=3, n_head=6, n_positions=512, **COMMON),
    "gpt2, gelu, scaled by layer": GPT2Config(
        n_embd=96, n_layer=3, n_head=6, activation_function="gelu",
        scale_attn_by_inverse_layer_idx=True, **COMMON,
    ),
    "llama": LlamaConfig(**WIDE),
    "llama, tied, biases, Llama-3 rotary": LlamaConfig(
        tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3, **WIDE
    ),
    "llama, linear rotary": LlamaConfig(
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0), **WIDE
    ),
    "mistral, window 16": MistralConfig(sliding_window=16, **WIDE),
    "mistral, no window": MistralConfig(sliding_window=None, **WIDE),
    "qwen2": Qwen2Config(**WIDE),
    "qwen2, window 20 from layer 1": Qwen2Config(
        use_sliding_window=True, sliding_window=20, max_window_layers=1, **WIDE
    ),
    "qwen3, heads of 32, tied": Qwen3Config(head_dim=32, tie_word_embeddings=True, **WIDE),
    "gpt_neox": GPTNeoXConfig(**NEOX),
    "gpt_neox, serial, half rotary": GPTNeoXConfig(use_parallel_residual=False, rotary_pct=0.5, **NEOX),
}


def randomize(model):
    """Norms and biases too: at their initial 1 and 0 a mix-up would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def resave(source, target, sequences, *mode):
    ids, out = target.parent / "ids.json", target.parent / "out.json"
    ids.write_text(json.dumps(sequences))
    subprocess.run([RESAVE, source, target, ids, out, *mode], check=True)
    return [torch.tensor(values) for values in json.loads(out.read_text())]


def largest(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs))


def language_model(config, sequences, work):
    randomize(AutoModelForCausalLM.from_config(config)).save_pretrained(work / "theirs")
    ours = resave(work / "theirs", work / "ours", sequences)
    model, info = AutoModelForCausalLM.from_pretrained(
        work / "ours", dtype=torch.float32, output_loading_info=True
    )
    check(info)
    with torch.no_grad():
        theirs = [model.eval()(torch.tensor([ids])).logits.flatten() for ids in sequences]
    return largest(ours, theirs)


def reward_model(config, sequences, work):
    randomize(AutoModelForCausalLM.from_config(config)).save_pretrained(work / "theirs")
    ours = resave(work / "theirs", work / "ours", sequences, "score")
    model, info = AutoModelForSequenceClassification.from_pretrained(
        work / "ours", dtype=torch.float32, output_loading_info=True
    )
    check(info)
    with torch.no_grad():
        theirs = [model.eval()(torch.tensor([ids])).logits.flatten() for ids in sequences]
    return largest(ours, theirs)


def check(info):
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[key], (key, info[key])


def main():
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    generator = torch.Generator().manual_seed(1)
    sequences = [
        torch.randint(2, 512, (length,), generator=generator).tolist() for length in (100, 37, 5)
    ]
    print(f"{datetime.date.today()}  {platform.machine()}  torch {torch.__version__}  transformers {transformers.__version__}")
    print("largest difference in logits (3 sequences, 142 positions), f32")
    for kind, function in (("language model", language_model), ("reward model", reward_model)):
        for name, config in MODELS.items():
            with tempfile.TemporaryDirectory() as work:
                difference = function(config, sequences, pathlib.Path(work))
            print(f"{kind:15} {name:38} {difference:.2e}")
            assert difference < 1e-4, name


main()
