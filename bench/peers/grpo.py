"""TRL's GRPOTrainer: steps of --batch rollouts of --tokens, 8 to each prompt of --length; the reward costs nothing.
Units: rollouts.
"""

from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

import learning
import turns
import words

SAMPLES = 8

args = turns.arguments()
tokenizer = AutoTokenizer.from_pretrained(args.model)
prompts = words.of(tokenizer, [args.length] * (args.batch // SAMPLES))


def reward(completions, **_):
    return [sum(map(ord, completion)) % 97 / 97 for completion in completions]


trainer = GRPOTrainer(
    model=args.model,
    reward_funcs=reward,
    args=GRPOConfig(
        **learning.settings(args),
        num_generations=SAMPLES,
        max_completion_length=args.tokens,
        generation_kwargs={"min_new_tokens": args.tokens},
    ),
    train_dataset=learning.batches([{"prompt": prompt} for prompt in prompts]),
    processing_class=tokenizer,
    peft_config=learning.lora(),
)
learning.train(trainer, args, args.batch)
