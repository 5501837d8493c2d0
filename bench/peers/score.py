"""Log-probabilities of the tokens of --batch rows of --length tokens by transformers, 16 rows at a time. Units: tokens."""

import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import selective_log_softmax

import turns

AT_ONCE = 16

args = turns.arguments()
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=turns.dtype(args)).eval()
rows = torch.tensor(turns.rows(args.batch, args.length, model.config.vocab_size))


def score(rows):
    with torch.inference_mode():
        for part in rows.split(AT_ONCE):
            logits = model(input_ids=part, use_cache=False).logits[:, :-1]
            selective_log_softmax(logits, part[:, 1:])
    return rows.numel()


turns.take(args, lambda: score(rows[:AT_ONCE]), lambda: score(rows))
