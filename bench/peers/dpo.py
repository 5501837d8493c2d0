"""TRL's DPOTrainer: steps over --batch pairs of answers of --tokens to a prompt of --length. Units: pairs."""

from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

import learning
import turns
import words

args = turns.arguments()
tokenizer = AutoTokenizer.from_pretrained(args.model)
# The trainer ends each answer with a token of its own.
counts = [args.length, args.tokens - 1, args.tokens - 1]
pairs = [dict(zip(["prompt", "chosen", "rejected"], words.of(tokenizer, counts, seed))) for seed in range(args.batch)]
trainer = DPOTrainer(
    model=args.model,
    args=DPOConfig(**learning.settings(args), beta=0.1),
    train_dataset=learning.batches(pairs),
    processing_class=tokenizer,
    peft_config=learning.lora(),
)
learning.train(trainer, args, args.batch)
