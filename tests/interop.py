"""Do Hearken and Transformers read each other's checkpoints, and compute the same?

Run by hand; needs torch, transformers, peft and tensorboard:

    cargo build --release
    cargo build --release -p hearken-model --example resave
    python tests/interop.py > docs/results/interop.txt

For each architecture: Transformers makes a random model and saves it; Hearken loads it, saves it
again and computes logits; Transformers loads what Hearken saved, unchanged, and computes them too.
Then the same for reward models, whose score head Hearken creates where there is none; and for adapters: PEFT
makes one, Hearken computes with it and saves it again, and PEFT loads what Hearken saved. And does TensorBoard read
the event files of a run that was killed and went on?
"""

import datetime
import json
import pathlib
import platform
import subprocess
import tempfile
import time

import peft
import tensorboard
import torch
import transformers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEARKEN = ROOT / "target" / "release" / "hearken"
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
    "llama, yarn": LlamaConfig(
        **WIDE, rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=64)
    ),
    "olmo2": Olmo2Config(**WIDE),
    "olmo3, window 24": Olmo3Config(sliding_window=24, **WIDE | dict(num_hidden_layers=4)),
    "olmo3, yarn, by list": Olmo3Config(
        layer_types=["full_attention", "sliding_attention", "full_attention"], sliding_window=7, attention_bias=True,
        rope_parameters=dict(
            full_attention=dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=64),
            sliding_attention=dict(rope_type="default", rope_theta=20000.0),
        ),
        **WIDE,
    ),
    "gemma": GemmaConfig(head_dim=40, **WIDE),
    "gemma, biases, erf": GemmaConfig(head_dim=16, attention_bias=True, hidden_act="gelu_python", **WIDE),
    "gemma2, window 16": Gemma2Config(head_dim=32, query_pre_attn_scalar=24, sliding_window=16, **WIDE),
    "gemma2, no caps, biases, linear rotary": Gemma2Config(
        head_dim=20, attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True,
        hidden_activation="gelu", layer_types=["full_attention", "full_attention", "sliding_attention"],
        sliding_window=40, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0), **WIDE,
    ),
    "gemma2, low caps, untied": Gemma2Config(
        head_dim=16, attn_logit_softcapping=2.0, final_logit_softcapping=1.5, tie_word_embeddings=False,
        query_pre_attn_scalar=4, sliding_window=3, hidden_activation="silu", **WIDE,
    ),
    "gemma3_text, window 16": Gemma3TextConfig(
        head_dim=32, query_pre_attn_scalar=40, sliding_window=16, sliding_window_pattern=3, **WIDE
    ),
    "gemma3_text, linear rotary, cap": Gemma3TextConfig(
        head_dim=16, sliding_window=9, final_logit_softcapping=5.0, attention_bias=True,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=500000.0, factor=8.0),
            sliding_attention=dict(rope_type="default", rope_theta=20000.0),
        ),
        **WIDE,
    ),
    "granite": GraniteConfig(
        embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.0625, logits_scaling=8.0, **WIDE
    ),
    "granite, odd factors, biases, tied": GraniteConfig(
        embedding_multiplier=3, residual_multiplier=1.7, attention_multiplier=0.3, logits_scaling=0.7,
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rope_parameters=LLAMA3, **WIDE,
    ),
    "smollm3": SmolLM3Config(**WIDE, no_rope_layer_interval=2),
    "phi3, long and short": Phi3Config(
        **WIDE, original_max_position_embeddings=128,
        rope_parameters=dict(
            rope_type="longrope", rope_theta=10000.0, short_factor=[1 + k / 4 for k in range(6)],
            long_factor=[2 + k for k in range(6)], partial_rotary_factor=0.75,
        ),
    ),
    "qwen3, heads of 32, tied": Qwen3Config(head_dim=32, tie_word_embeddings=True, **WIDE),
    "gpt_neox": GPTNeoXConfig(**NEOX),
    "gpt_neox, serial, half rotary": GPTNeoXConfig(use_parallel_residual=False, rotary_pct=0.5, **NEOX),
}


ADAPTERS = {
    "gpt2": ("gpt2", dict(r=4, lora_alpha=6, target_modules="all-linear")),
    "gpt2, some, 1/sqrt(r)": ("gpt2", dict(r=3, target_modules=["c_attn", "mlp.c_proj"], use_rslora=True)),
    "llama": ("llama", dict(r=16, lora_alpha=32, target_modules="all-linear")),
    "llama, one layer": ("llama", dict(target_modules=["q_proj", "v_proj"], layers_to_transform=1)),
    "llama, tied, biases": (
        "llama, tied, biases, Llama-3 rotary", dict(target_modules=["q_proj", "o_proj", "down_proj"])
    ),
    "mistral, ranks and alphas by pattern": (
        "mistral, window 16",
        dict(
            target_modules=["q_proj", "k_proj", "up_proj"],
            rank_pattern={"k_proj": 2, "layers.0.self_attn.q_proj": 5},
            alpha_pattern={"^model.layers.2.mlp.up_proj": 3},
        ),
    ),
    "qwen2, a pattern": ("qwen2", dict(target_modules=r"model\.layers\.\d+\.(?!mlp).*(q|v)_proj")),
    "qwen3, one left out": (
        "qwen3, heads of 32, tied", dict(target_modules="all-linear", exclude_modules=["v_proj"])
    ),
    "gemma2": ("gemma2, window 16", dict(r=4, target_modules="all-linear")),
    "gemma3_text": ("gemma3_text, window 16", dict(r=4, target_modules=["q_proj", "o_proj", "gate_proj", "down_proj"])),
    "gpt_neox": ("gpt_neox", dict(r=5, target_modules=["query_key_value", "dense"])),
    "gpt_neox, serial": ("gpt_neox, serial, half rotary", dict(target_modules="all-linear")),
}


# Transformers has no scorer of these.
NO_SCORER = (GraniteConfig,)


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


def process_reward_model(config, sequences, work):
    """Classes of steps: a language model gets a head here, and Transformers loads it as a token classifier."""
    randomize(AutoModelForCausalLM.from_config(config)).save_pretrained(work / "theirs")
    ours = resave(work / "theirs", work / "ours", sequences, "steps")
    model, info = AutoModelForTokenClassification.from_pretrained(
        work / "ours", dtype=torch.float32, output_loading_info=True
    )
    check(info)
    with torch.no_grad():
        theirs = [model.eval()(torch.tensor([ids])).logits.flatten() for ids in sequences]
    return largest(ours, theirs)


def adapter(of, settings, sequences, work, score=False):
    """The largest differences with PEFT's adapter here, and with ours there."""
    auto = AutoModelForSequenceClassification if score else AutoModelForCausalLM
    base = MODELS[of]
    base.num_labels = 1 if score else 2
    randomize(auto.from_config(base)).save_pretrained(work / "base")

    def load():
        return auto.from_pretrained(work / "base", dtype=torch.float32)

    def outputs(model):
        with torch.no_grad():
            return [model.eval()(torch.tensor([ids])).logits.flatten() for ids in sequences]

    task = "SEQ_CLS" if score else "CAUSAL_LM"
    model = peft.get_peft_model(load(), peft.LoraConfig(task_type=task, **settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(work / "theirs")
    mode = ["score"] if score else []
    ours = resave(work / "base", work / "ours", sequences, *mode, "adapter", work / "theirs")
    there = outputs(model)
    back = outputs(peft.PeftModel.from_pretrained(load(), work / "ours"))
    return largest(ours, there), largest(ours, back)


def check(info):
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[key], (key, info[key])


def whole_heads(sequences):
    """The families of which Transformers rotates whole heads, whatever `partial_rotary_factor` says: here it is refused."""
    by_kind = (Gemma3TextConfig, Olmo3Config)
    found = []
    for kind in (
        LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config, Olmo2Config, Olmo3Config, GraniteConfig,
        GemmaConfig, Gemma2Config, Gemma3TextConfig,
    ):
        def logits(factor):
            torch.manual_seed(0)
            rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=factor)
            if kind in by_kind:
                rope = dict(full_attention=dict(rope), sliding_attention=dict(rope))
            model = AutoModelForCausalLM.from_config(kind(rope_parameters=rope, **WIDE))
            with torch.no_grad():
                return randomize(model).eval()(torch.tensor([sequences[0]])).logits

        assert torch.equal(logits(1.0), logits(0.5)), kind.model_type
        found.append(kind.model_type)
    return found


def numbers(record, name=""):
    """The numbers of a record by their tags, as docs/metrics.md names them."""
    if isinstance(record, dict):
        for key, value in record.items():
            if name or key != "step":
                inner = name if name and key == "value" else f"{name}/{key}" if name else key
                yield from numbers(value, inner)
    elif isinstance(record, list):
        for index, value in enumerate(record):
            yield from numbers(value, f"{name}/{index}")
    elif isinstance(record, (int, float)) and not isinstance(record, bool):
        yield name, record


def events(work):
    """The scalars of a run that was killed, as TensorBoard reads them; they are those of metrics.jsonl."""
    fixtures = ROOT / "crates" / "hearken-train" / "tests" / "fixtures" / "trl"
    model = ROOT / "crates" / "hearken-model" / "tests" / "fixtures" / "hf" / "llama"
    sets = {
        "run.dir": work, "model.path": model, "data.train": fixtures / "sft" / "data.jsonl",
        "data.eval_fraction": 0.2, "train.steps": 60, "train.batch_size": 4, "train.save_every": 7,
        "train.eval_every": 10, "log.tensorboard": "true",
    }
    more = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    command = [HEARKEN, "sft", ROOT / "configs" / "sft.toml", *more]
    log = work / "metrics.jsonl"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while not log.exists() or len(log.read_text().splitlines()) < 20:
            assert child.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        child.kill()
    subprocess.run(command, check=True, capture_output=True)
    found = EventAccumulator(str(work / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    expected = {}
    for line in log.read_text().splitlines():
        record = json.loads(line)
        for tag, value in numbers(record):
            expected.setdefault(tag, []).append((record["step"], value))
    assert sorted(found.Tags()["scalars"]) == sorted(expected)
    for tag, values in expected.items():
        scalars = [(scalar.step, scalar.value) for scalar in found.Scalars(tag)]
        single = [(step, torch.tensor(value, dtype=torch.float32).item()) for step, value in values]
        assert scalars == single, tag
    return sum(map(len, expected.values())), len(expected)


def main():
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    generator = torch.Generator().manual_seed(1)
    sequences = [
        torch.randint(2, 512, (length,), generator=generator).tolist() for length in (100, 37, 5)
    ]
    print(f"{datetime.date.today()}  {platform.machine()}  torch {torch.__version__}  transformers {transformers.__version__}")
    print("largest difference in logits (3 sequences, 142 positions), f32")
    kinds = {"language model": language_model, "reward model": reward_model, "process reward model": process_reward_model}
    for kind, function in kinds.items():
        for name, config in MODELS.items():
            if function is reward_model and isinstance(config, NO_SCORER):
                continue
            if function is process_reward_model and type(config) not in AutoModelForTokenClassification._model_mapping:
                continue
            with tempfile.TemporaryDirectory() as work:
                difference = function(config, sequences, pathlib.Path(work))
            print(f"{kind:20} {name:38} {difference:.2e}")
            assert difference < 1e-4, name
    print(f"partial_rotary_factor 0.5 changes no logit of Transformers': {', '.join(whole_heads(sequences))}")
    print(f"adapters of PEFT {peft.__version__}: theirs here, and ours there")
    for score in (False, True):
        for name, (of, settings) in ADAPTERS.items():
            with tempfile.TemporaryDirectory() as work:
                here, there = adapter(of, settings, sequences, pathlib.Path(work), score)
            kind = "reward model" if score else "language model"
            print(f"{kind:20} {name:38} {here:.2e} {there:.2e}")
            assert max(here, there) < 1e-5, name
    with tempfile.TemporaryDirectory() as work:
        scalars, tags = events(pathlib.Path(work))
    print(f"event files of a run that was killed and went on: TensorBoard {tensorboard.__version__} reads {scalars}")
    print(f"scalars of {tags} tags, those of metrics.jsonl")


main()
