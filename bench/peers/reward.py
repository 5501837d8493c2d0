"""TRL's RewardTrainer: steps over --batch pairs of answers of --tokens to a prompt of --length. Units: pairs."""

from transformers import AutoTokenizer
from trl import RewardConfig, RewardTrainer

import learning
import turns

args = turns.arguments()
tokenizer = AutoTokenizer.from_pretrained(args.model)
prompts, chosen, rejected = (
    turns.rows(args.batch, length, len(tokenizer), seed)
    for seed, length in enumerate([args.length, args.tokens, args.tokens])
)
trainer = RewardTrainer(
    model=args.model,
    args=RewardConfig(**learning.settings(args)),
    train_dataset=learning.batches(
        [{"chosen_ids": p + a, "rejected_ids": p + b} for p, a, b in zip(prompts, chosen, rejected)]
    ),
    processing_class=tokenizer,
    peft_config=learning.lora("SEQ_CLS"),
)
learning.train(trainer, args, args.batch)
