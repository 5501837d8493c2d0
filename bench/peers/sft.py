"""TRL's SFTTrainer: steps over --batch rows of --length tokens. Units: tokens."""

from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

import learning
import turns

args = turns.arguments()
tokenizer = AutoTokenizer.from_pretrained(args.model)
rows = [{"input_ids": ids} for ids in turns.rows(args.batch, args.length, len(tokenizer))]
trainer = SFTTrainer(
    model=args.model,
    args=SFTConfig(**learning.settings(args), max_length=args.length),
    train_dataset=learning.batches(rows),
    processing_class=tokenizer,
    peft_config=learning.lora(),
)
learning.train(trainer, args, args.batch * args.length)
