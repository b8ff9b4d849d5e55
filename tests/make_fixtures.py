"""Makes tiny models with golden numbers, in the form of the others in crates/hearken-model/tests/fixtures.

Run by hand; needs torch, transformers, peft and safetensors:

    python tests/make_fixtures.py NAME ...

Texts, prompts and tokenizer are those of the model `llama` there, which this script does not make. What it writes
depends on the versions of torch and transformers in its last bits.
"""

import pathlib
import shutil
import sys

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GraniteConfig,
    Olmo3Config,
    Phi3Config,
)

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "crates" / "hearken-model" / "tests" / "fixtures"
LLAMA = FIXTURES / "hf" / "llama"
SMALL = dict(
    vocab_size=384, hidden_size=64, intermediate_size=144, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=0, pad_token_id=1,
)
YARN = dict(rope_type="yarn", rope_theta=500000.0, factor=4.0, original_max_position_embeddings=64)
MODELS = {
    "gemma": GemmaConfig(**SMALL, head_dim=24),
    "granite": GraniteConfig(
        **SMALL, embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.0625,
        logits_scaling=8.0, tie_word_embeddings=True,
    ),
    "olmo3": Olmo3Config(
        **SMALL | dict(num_hidden_layers=3), sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters=dict(
            full_attention=YARN, sliding_attention=dict(rope_type="default", rope_theta=500000.0)
        ),
    ),
    "phi3_partial": Phi3Config(
        **SMALL, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)
    ),
}
ADAPTERS = {
    "gemma3_text": dict(r=3, lora_alpha=5, target_modules="all-linear"),
}


def randomize(model):
    """Norms and biases too: at their initial 1 and 0 a mix-up would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def next_logprobs(model, ids, mask):
    logits = model(input_ids=ids, attention_mask=mask).logits
    logprobs = torch.log_softmax(logits[:, :-1], -1).gather(2, ids[:, 1:, None])[..., 0]
    return logits, logprobs * mask[:, 1:]


def greedy(model, prompt, length=24):
    ids = prompt.long()
    for _ in range(length):
        ids = torch.cat([ids, model(input_ids=ids[None]).logits[0, -1].argmax()[None]])
    return ids[len(prompt) :]


def language_model(name, config):
    target = FIXTURES / "hf" / name
    config._attn_implementation = "eager"
    model = randomize(AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    model.save_pretrained(target)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(LLAMA / file, target)
    given = load_file(LLAMA / "golden.safetensors")
    ids, mask = given["input_ids"], given["attention_mask"]
    logits, logprobs = next_logprobs(model, ids.long(), mask.long())
    loss = -logprobs.sum() / mask[:, 1:].sum()
    loss.backward()
    golden = dict(input_ids=ids, attention_mask=mask, logits=logits, token_logprobs=logprobs, loss=loss[None])
    golden |= {f"grad.{key}": parameter.grad for key, parameter in model.named_parameters()}
    with torch.no_grad():
        for i in range(3):
            prompt = given[f"greedy.{i}.prompt"]
            golden[f"greedy.{i}.prompt"] = prompt
            golden[f"greedy.{i}.completion"] = greedy(model, prompt).to(prompt.dtype)
    golden = {key: value.detach().contiguous() for key, value in golden.items()}
    save_file(golden, target / "golden.safetensors")


def adapter(name, settings):
    target = FIXTURES / "peft" / name
    base = FIXTURES / "hf" / name
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    model.peft_config["default"].base_model_name_or_path = f"../../hf/{name}"
    model.save_pretrained(target)
    (target / "README.md").unlink()
    ids = load_file(FIXTURES / "peft" / "llama" / "golden.safetensors")["input_ids"]
    with torch.no_grad():
        logits = model.eval()(input_ids=ids.long().reshape(1, -1)).logits[0]
    save_file(dict(input_ids=ids, logits=logits.contiguous()), target / "golden.safetensors")


def main():
    for name in sys.argv[1:]:
        torch.manual_seed(0)
        if name in MODELS:
            language_model(name, MODELS[name])
        if name in ADAPTERS:
            adapter(name, ADAPTERS[name])


main()
