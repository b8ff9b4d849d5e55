"""The works of `hearken bench` done by TRL on PyTorch: one work per process, one JSON line.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.23.0 trl==1.16.0 accelerate datasets
    venv/bin/pip install --no-deps --target trl-with-ppo trl==1.9.2    # the last one that has PPO
    venv/bin/python bench/trl_peer.py sft --shape small30 --dtype bf16 --steps 3
    PYTHONPATH=trl-with-ppo venv/bin/python bench/trl_peer.py ppo --dtype bf16

Tokens per step, counted as docs/performance.md says: every token of every sequence, the prompt once
for each completion; for generation new tokens only. Random weights, random text. The first step does
not count, the median of the others does.
"""

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

END, PAD = 0, 1
LLAMA = {
    "small30": dict(
        vocab_size=8192, hidden_size=512, intermediate_size=1408, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4,
    ),
    "smol135": dict(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3,
    ),
}
# What text is made of; every shape has at least these tokens.
WORDS = 8192


class Times(TrainerCallback):
    """Seconds from the beginning to the end of each optimizer step."""

    def __init__(self):
        self.began, self.seconds = None, []

    def on_step_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.began)


class Peer:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(0)
        self.folder = tempfile.mkdtemp(prefix="trl-peer-")
        self.tokenizer = word_tokenizer()
        self.config = self.model_config()
        self.checkpoints = {}
        self.times = Times()

    def model_config(self):
        if self.options.shape == "gpt2":
            return GPT2Config(bos_token_id=END, eos_token_id=END, pad_token_id=PAD, num_labels=1)
        return LlamaConfig(
            **LLAMA[self.options.shape], max_position_embeddings=2048, tie_word_embeddings=True,
            bos_token_id=END, eos_token_id=END, pad_token_id=PAD, num_labels=1,
        )

    def load(self, of_gpt2, of_llama):
        """A model with the same random weights each time, from a checkpoint as a user's would be."""
        kind = of_gpt2 if self.options.shape == "gpt2" else of_llama
        if kind not in self.checkpoints:
            self.checkpoints[kind] = os.path.join(self.folder, kind.__name__)
            kind(self.config).save_pretrained(self.checkpoints[kind])
        return kind.from_pretrained(self.checkpoints[kind], dtype=torch.float32)

    def policy(self):
        return self.load(GPT2LMHeadModel, LlamaForCausalLM)

    def scorer(self):
        return self.load(GPT2ForSequenceClassification, LlamaForSequenceClassification)

    def ids(self, count):
        return [self.random.randrange(2, WORDS) for _ in range(count)]

    def text(self, tokens):
        return self.tokenizer.decode(self.ids(tokens))

    def records(self, record):
        """Enough for every step, each used once."""
        from datasets import Dataset

        return Dataset.from_list(
            [record() for _ in range(self.options.batch * (self.options.steps + 1))]
        )

    def arguments(self, **more):
        """What every trainer is told."""
        options = self.options
        return dict(
            output_dir=self.folder, per_device_train_batch_size=options.batch,
            max_steps=options.steps + 1, learning_rate=1e-6, bf16=options.dtype == "bf16",
            gradient_checkpointing=False, use_cpu=True, report_to=[], save_strategy="no",
            logging_steps=1, disable_tqdm=True, **more,
        )

    def train(self, trainer):
        trainer.add_callback(self.times)
        trainer.train()
        return self.times.seconds

    def sft(self):
        from trl import SFTConfig, SFTTrainer

        length = self.options.completion_tokens
        data = self.records(lambda: dict(text=self.text(length)))
        arguments = SFTConfig(max_length=length, **self.arguments())
        return self.train(
            SFTTrainer(
                self.policy(), args=arguments, train_dataset=data, processing_class=self.tokenizer
            )
        )

    def pairs(self):
        options = self.options
        return self.records(
            lambda: dict(
                prompt=self.text(options.prompt_tokens),
                chosen=" " + self.text(options.completion_tokens),
                rejected=" " + self.text(options.completion_tokens),
            )
        )

    def pair_tokens_max(self):
        # The trainers add an end token.
        return self.options.prompt_tokens + self.options.completion_tokens + 8

    def reward(self):
        from trl import RewardConfig, RewardTrainer

        arguments = RewardConfig(max_length=self.pair_tokens_max(), **self.arguments())
        return self.train(
            RewardTrainer(
                self.scorer(), args=arguments, train_dataset=self.pairs(),
                processing_class=self.tokenizer,
            )
        )

    def dpo(self):
        from trl import DPOConfig, DPOTrainer

        arguments = DPOConfig(max_length=self.pair_tokens_max(), **self.arguments())
        return self.train(
            DPOTrainer(
                self.policy(), args=arguments, train_dataset=self.pairs(),
                processing_class=self.tokenizer,
            )
        )

    def grpo(self):
        from trl import GRPOConfig, GRPOTrainer

        options = self.options
        data = self.records(lambda: dict(prompt=self.text(options.prompt_tokens)))
        arguments = GRPOConfig(
            num_generations=options.batch, max_completion_length=options.completion_tokens,
            beta=0.04, **self.arguments(),
        )
        return self.train(
            GRPOTrainer(
                self.policy(), reward_funcs=even_words, args=arguments,
                train_dataset=data, processing_class=self.tokenizer,
            )
        )

    def ppo(self):
        import trl.experimental.ppo.ppo_trainer as module
        from trl.experimental.ppo import PPOConfig, PPOTrainer

        options = self.options
        data = self.records(lambda: dict(input_ids=self.ids(options.prompt_tokens)))
        arguments = self.arguments(
            gradient_accumulation_steps=1, num_mini_batches=1, num_ppo_epochs=4,
            response_length=options.completion_tokens, num_sample_generations=0,
            local_rollout_forward_batch_size=options.batch,
            total_episodes=options.batch * (options.steps + 1),
        )
        for unknown in ("max_steps", "disable_tqdm", "logging_steps"):
            del arguments[unknown]
        trainer = PPOTrainer(
            PPOConfig(**arguments), processing_class=self.tokenizer, model=self.policy(),
            ref_model=self.policy(), reward_model=self.scorer(), value_model=self.scorer(),
            train_dataset=data, eval_dataset=data,
        )
        # An iteration begins where it samples.
        began, sample = [], module.batch_generation

        def sample_and_note(*positional, **named):
            began.append(time.perf_counter())
            return sample(*positional, **named)

        module.batch_generation = sample_and_note
        trainer.train()
        began.append(time.perf_counter())
        return [end - start for start, end in zip(began, began[1:])]

    def generate(self):
        options = self.options
        dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
        model = self.policy().eval().to(dtype)
        seconds = []
        for _ in range(options.steps + 1):
            prompts = torch.tensor([self.ids(options.prompt_tokens) for _ in range(options.batch)])
            start = time.perf_counter()
            with torch.no_grad():
                model.generate(
                    prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0,
                    max_new_tokens=options.completion_tokens,
                    min_new_tokens=options.completion_tokens, pad_token_id=PAD,
                )
            seconds.append(time.perf_counter() - start)
        return seconds


def even_words(completions, **_):
    """The share of words with an even number: it differs between random completions."""
    words = [completion.split() for completion in completions]
    return [sum(word[-1] in "02468" for word in some) / max(1, len(some)) for some in words]


def word_tokenizer():
    """One token per word of an invented language, so that text has a known number of tokens."""
    words = {"<end>": END, "<pad>": PAD, **{f"w{index}": index for index in range(2, WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<end>", eos_token="<end>", pad_token="<pad>"
    )


# work: (batch, tokens of a prompt, tokens of a completion, tokens per step from these)
WORKS = {
    "sft": (8, 0, 256, lambda batch, prompt, completion: batch * (prompt + completion)),
    "reward": (8, 128, 128, lambda batch, prompt, completion: 2 * batch * (prompt + completion)),
    "dpo": (8, 128, 128, lambda batch, prompt, completion: 2 * batch * (prompt + completion)),
    "grpo": (8, 64, 64, lambda batch, prompt, completion: batch * (prompt + completion)),
    "generate": (32, 64, 64, lambda batch, prompt, completion: batch * completion),
    "ppo": (8, 60, 64, lambda batch, prompt, completion: batch * (prompt + completion)),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--shape", choices=[*LLAMA, "gpt2"], default="small30")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--steps", type=int, default=3, help="steps that count")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--prompt-tokens", type=int)
    parser.add_argument("--completion-tokens", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    batch, prompt, completion, _ = WORKS[options.work]
    options.batch = options.batch or batch
    options.prompt_tokens = options.prompt_tokens or prompt
    options.completion_tokens = options.completion_tokens or completion
    return options


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    seconds = getattr(Peer(options), options.work)()
    step = statistics.median(seconds[1:])
    sizes = (options.batch, options.prompt_tokens, options.completion_tokens)
    tokens = WORKS[options.work][3](*sizes)
    import trl

    result = dict(
        work=options.work, shape=options.shape, dtype=options.dtype, tokens_per_s=tokens / step,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        threads=options.threads, batch=options.batch, prompt_tokens=options.prompt_tokens,
        completion_tokens=options.completion_tokens, tokens_per_step=tokens, step_s=step,
        steps_s=seconds[1:],
        versions=dict(
            torch=torch.__version__, transformers=transformers.__version__, trl=trl.__version__
        ),
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
