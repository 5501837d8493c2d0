"""Learning: what the trainers of TRL have in common here: LoRA of rank 16 on all linear layers, and the turns.

bf16 is TRL's way of it: weights in fp32, products in bf16 by autocast. Layers are kept, not computed again in the
backward pass, as that is faster.
"""

import sys

from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

import turns


def lora(task="CAUSAL_LM"):
    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type=task)


def settings(args):
    return dict(
        output_dir="/nowhere",
        max_steps=1_000_000 if args.led else 1 + args.turns,
        per_device_train_batch_size=args.batch,
        learning_rate=1e-4,
        bf16=args.precision == "bf16",
        gradient_checkpointing=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        seed=1,
    )


class Steps(TrainerCallback):
    """Makes turns of a trainer's steps; the first is for warming up."""

    def __init__(self, args, units):
        self.args, self.units, self.done = args, units, -1

    def on_step_begin(self, *_, **__):
        if self.done >= 0 and not turns.await_turn(self.args, self.done):
            sys.exit()
        self.watch = turns.Stopwatch().__enter__()

    def on_step_end(self, *_, **__):
        self.watch.__exit__()
        if self.done >= 0:
            turns.report(self.args, self.watch, self.units)
        self.done += 1


def train(trainer, args, units):
    for shown in [PrinterCallback, ProgressCallback]:
        trainer.remove_callback(shown)
    trainer.add_callback(Steps(args, units))
    trainer.train()


def batches(rows):
    """A data set of some batches of these rows."""
    return Dataset.from_list(rows * 4)
