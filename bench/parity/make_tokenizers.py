"""
Small tokenizers of the kinds that mainstream models have, and what Python's `tokenizers` makes of awkward texts.

Usage: python bench/parity/make_tokenizers.py test/fixtures/tokenizers
Needs: pip install tokenizers
"""

import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CORPUS = [
    "The assistant answers a question, and the critic says what is harmful in the answer.",
    "Please don't tell me how it's done; I'll find out. We've 12 of 345 apples, or 1,234.56 of them.",
    "Ein Überblick über die Größe der Straßen; l'été à la plage, mañana por la mañana.",
    "日本語の文章です。東京へ行きました。 Привет, как дела?",
    "def f(x):\n    return x + 1\n\n\nprint(f(2))\t# done",
] * 40

TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading and trailing  ",
    "two  spaces   three\n\n\nlines\r\n\ttabs",
    "don't DON'T I'll we've 'tis",
    "12345 1,234.56 ½ ٣ Ⅷ",
    "café cafe\u0301 Å A\u030a ﬁ ①",
    "日本語と中文 한국어 ไทย",
    "🙂👍🏽👨‍👩‍👧‍👦🇩🇪 a🙂b",
    "<s>special</s> tokens <|im_start|>user\nhi<|im_end|> and <|im_start",
    " <s> x </s>y",
    "zero\u200bwidth \u00a0nbsp \u2028line \ufeffbom \u0085nel",
    "a\u0000b\u0007",
    "ＦＵＬＬ　ｗｉｄｔｈ",
    "x" * 50,
    "▁under ▁▁score _ __",
    "mixed: naïve Straße ΑΒΓ абв \u05d0\u05d1 \u0627\u0644",
    "\ufeffmark first",
    "https://example.com/a?b=c&d=%20#e",
]

SPECIAL = [AddedToken(t, special=True, normalized=False) for t in ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]]


def byte_level(pattern, ignore_merges):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback(kind):
    """BPE over pieces with a mark for spaces, and tokens for the bytes of what is not in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    elif kind == "mistral":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps if kind == "gemma" else [*steps, decoders.Strip(" ", 1, 0)])
    byte_tokens = [AddedToken(f"<0x{b:02X}>", special=False, normalized=False) for b in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=620, special_tokens=[*SPECIAL, *byte_tokens], limit_alphabet=90, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # The bytes are ordinary tokens of a model's vocabulary, not added ones.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(data))


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def unigram_bytes():
    """A unigram model that writes what it does not know in tokens for its bytes; it cuts at each mark for a space."""
    data = json.loads(unigram().to_str())
    data["normalizer"] = {"type": "NFKC"}
    data["model"]["byte_fallback"] = True
    data["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    data["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, data["decoder"]]}
    return Tokenizer.from_str(json.dumps(data))


def words(level):
    """Words as wholes, or pieces of them, with one token for what is not known."""
    if level:
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
        trainer = trainers.WordLevelTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, limit_alphabet=40, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def splits():
    """Byte-level BPE after a split of each behavior."""
    split, regex = pre_tokenizers.Split, Regex
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            split(regex(r"\r?\n|\t"), behavior="removed"),
            split(regex(r"\d|,"), behavior="contiguous"),
            split(regex(r"[^\w\s]"), behavior="merged_with_previous"),
            split(" ", behavior="merged_with_next"),
            split(regex(r"[aeiou]+"), behavior="merged_with_previous", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS = {
    "llama3": lambda: byte_level(LLAMA3, True),
    "qwen2": lambda: byte_level(QWEN2, False),
    "mistral": lambda: byte_fallback("mistral"),
    "mistral-v3": lambda: byte_fallback("mistral-v3"),
    "gemma": lambda: byte_fallback("gemma"),
    "unigram": unigram,
    "unigram-bytes": unigram_bytes,
    "words": lambda: words(True),
    "word-pieces": lambda: words(False),
    "splits": splits,
}

out = Path(sys.argv[1])
for name, make in KINDS.items():
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    golden = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "golden.json").write_text(f"[\n{golden}\n]\n", encoding="utf-8")
    print(name, tokenizer.get_vocab_size(), "tokens,", len(rows), "texts")
