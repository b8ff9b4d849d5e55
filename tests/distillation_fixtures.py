"""Makes what distillation is tested against: values of TRL's losses with torch's gradients, and training runs of TRL's
trainers on fixed tokens.

Run by hand; needs torch, transformers 5.23 and trl 1.16:

    python tests/distillation_fixtures.py

Writes crates/hearken-objective/tests/fixtures/distillation.json and crates/hearken-train/tests/fixtures/trl/distill/.
Data, students and teachers are other fixtures, which this script does not make.
"""

import json
import pathlib
import tempfile

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.experimental.server_distillation.server_distillation_trainer import _add_tail_bucket, _jsd_divergence

ROOT = pathlib.Path(__file__).resolve().parent.parent / "crates"
MODELS = ROOT / "hearken-model" / "tests" / "fixtures" / "hf"
RUNS = ROOT / "hearken-train" / "tests" / "fixtures" / "trl"
VALUES = ROOT / "hearken-objective" / "tests" / "fixtures" / "distillation.json"
STEPS, BATCH, PAD = 12, 4, 1
COMMON = dict(
    max_steps=STEPS, per_device_train_batch_size=BATCH, gradient_accumulation_steps=1, learning_rate=1e-3,
    lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=1.0, logging_steps=1, save_strategy="no",
    report_to=[], bf16=False, use_cpu=True, gradient_checkpointing=False, seed=0,
)


def values():
    """Rows of five tokens in float64: the loss of each β with its gradient, whole and of three known tokens."""
    torch.manual_seed(1)
    rows = []
    for beta in [0.0, 0.1, 0.5, 0.9, 1.0]:
        student = (3 * torch.randn(5, dtype=torch.float64)).requires_grad_()
        teacher = 3 * torch.randn(5, dtype=torch.float64)
        loss = GKDTrainer.generalized_jsd_loss(student[None, None], teacher[None, None], beta=beta, reduction="sum")
        (grad,) = torch.autograd.grad(loss, student)
        known = torch.log_softmax(student, -1)[:3].detach().requires_grad_()
        is_known = torch.ones(3, dtype=torch.bool)
        own, mask = _add_tail_bucket(known[None, None], is_known[None, None])
        theirs, _ = _add_tail_bucket(torch.log_softmax(teacher, -1)[:3][None, None], is_known[None, None])
        partial = _jsd_divergence(own, theirs, beta, mask).sum()
        (partial_grad,) = torch.autograd.grad(partial, known)
        rows.append(dict(
            beta=beta, student=student.tolist(), teacher=teacher.tolist(), loss=loss.item(), grad=grad.tolist(),
            partial=partial.item(), partial_grad=partial_grad.tolist(),
        ))
    VALUES.write_text(json.dumps(rows, indent=1) + "\n")


def records():
    found = []
    for line in (RUNS / "sft" / "data.jsonl").read_text().splitlines():
        record = json.loads(line)
        start = record["loss_mask"].index(1)
        found.append(dict(prompt_ids=record["input_ids"][:start], completion_ids=record["input_ids"][start:]))
    return found


def load(name):
    return AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32, attn_implementation="eager")


def left(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


def right(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def collate(batch):
    prompts, prompt_mask = left([one["prompt_ids"] for one in batch])
    ids, mask = right([one["prompt_ids"] + one["completion_ids"] for one in batch])
    labels = torch.where(mask.bool(), ids, -100)
    for row, one in zip(labels, batch, strict=True):
        row[: len(one["prompt_ids"])] = -100
    return dict(
        input_ids=ids, attention_mask=mask, labels=labels, prompts=prompts, prompt_attention_mask=prompt_mask,
    )


class InOrder:
    """The records in the order of the file."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class OffPolicy(InOrder, GKDTrainer):
    def _prepare_dataset(self, dataset, *_, **__):
        return dataset


class Recorded(InOrder, DistillationTrainer):
    """The stable trainer, whose completions are those of the records."""

    def _generate_and_score_completions(self, inputs):
        prompts, prompt_mask = left([one["prompt_ids"] for one in inputs])
        completions, mask = right([one["completion_ids"] for one in inputs])
        return dict(
            prompt_ids=prompts, prompt_mask=prompt_mask, completion_ids=completions, completion_mask=mask,
            num_items_in_batch=mask.sum().float(),
        )


def write(name, trainer):
    trainer.train()
    steps = [log for log in trainer.state.log_history if "loss" in log]
    assert len(steps) == STEPS
    keys = ["loss", "grad_norm", "entropy"]
    with open(RUNS / "distill" / f"{name}.jsonl", "w") as file:
        for index, log in enumerate(steps):
            record = dict(step=index + 1) | {key: float(log[key]) for key in keys if key in log}
            file.write(json.dumps(record) + "\n")


class Precise:
    """The loss of a step as it is; the log of the trainer rounds it."""

    def training_step(self, *args, **kwargs):
        self.precise = super().training_step(*args, **kwargs).item()
        return torch.tensor(self.precise)

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            logs["loss"] = self.precise
        super().log(logs, *args, **kwargs)


class PreciseOffPolicy(Precise, OffPolicy):
    pass


class PreciseRecorded(Precise, Recorded):
    pass


def main():
    torch.set_num_threads(1)
    values()
    (RUNS / "distill").mkdir(exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "llama")
    rows = records()
    data = Dataset.from_list(rows)
    with tempfile.TemporaryDirectory() as folder:
        for name, beta in [("forward_kl", 0.0), ("jsd", 0.5), ("reverse_kl", 1.0)]:
            args = GKDConfig(folder, lmbda=0.0, beta=beta, max_length=None, **COMMON)
            write(name, PreciseOffPolicy(
                load("llama"), load("qwen3"), args, data_collator=collate, train_dataset=data,
                processing_class=tokenizer,
            ))
        args = DistillationConfig(folder, beta=0.3, temperature=0.7, shuffle_dataset=False, **COMMON)
        data = Dataset.from_list([row | dict(prompt="") for row in rows])
        import trl.trainer.distillation_trainer as module

        # The completions of a batch stay as they are; the sum over them does not depend on their order.
        module.shuffle_sequence_dict = lambda batch: batch
        write("capped", PreciseRecorded(
            load("gemma2"), load("llama"), args, train_dataset=data, processing_class=tokenizer,
        ))


if __name__ == "__main__":
    main()
