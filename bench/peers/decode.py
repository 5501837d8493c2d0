"""transformers' `generate`: --batch prompts of --length tokens continued by --tokens at temperature 1. Units: tokens."""

import torch
from transformers import AutoModelForCausalLM

import turns

args = turns.arguments()
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=turns.dtype(args)).eval()
prompts = torch.tensor(turns.rows(args.batch, args.length, model.config.vocab_size))
# Nothing ends early.
model.generation_config.eos_token_id = None


def generate(tokens):
    with torch.inference_mode():
        found = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=tokens,
            pad_token_id=0,
        )
    return found[:, args.length :].numel()


turns.take(args, lambda: generate(2), lambda: generate(args.tokens))
