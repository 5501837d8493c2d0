"""Texts of so many tokens, for trainers that take no token ids."""

import random
import re


def of(tokenizer, counts, seed=1):
    """A text for each count, of random words that are a token each."""
    source = random.Random(seed)
    known = sorted(token for token in tokenizer.get_vocab() if re.fullmatch("Ġ[a-z]+", token))
    texts = ["".join(" " + source.choice(known)[1:] for _ in range(count)) for count in counts]
    found = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert found == list(counts), (found, counts)
    return texts
