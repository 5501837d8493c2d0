"""Loads the files that datasets_check.ts writes with the Python library `datasets`, checks their columns, and writes them
again for datasets_check.ts to read.

    python -m venv /tmp/datasets && /tmp/datasets/bin/pip install datasets==5.2.0 zstandard==0.25.0
    node bench/parity/datasets_check.ts write /tmp/datasets-files
    /tmp/datasets/bin/python bench/parity/datasets_check.py /tmp/datasets-files
    node bench/parity/datasets_check.ts read /tmp/datasets-files
"""

import sys
from pathlib import Path

import datasets
from datasets import List, Value, load_dataset

datasets.disable_progress_bars()
folder = Path(sys.argv[1])
back = folder / "back"
cache = str(folder / "cache")

TEXT = Value("string")
TURNS = List({"role": Value("string"), "content": Value("string")})
SHAPES = {
    "language-modelling": lambda t: {"text": t} if t is TEXT else {"messages": t},
    "prompt-only": lambda t: {"prompt": t},
    "prompt-completion": lambda t: {"prompt": t, "completion": t},
    "preference": lambda t: {"prompt": t, "chosen": t, "rejected": t, "margin": Value("float64")},
    "preference-implicit": lambda t: {"chosen": t, "rejected": t},
    "unpaired-preference": lambda t: {"prompt": t, "completion": t, "label": Value("bool")},
}
CAI = {
    **{
        name: TEXT
        for name in [
            "init_prompt",
            "init_response",
            "critic_prompt",
            "critic_response",
            "revision_prompt",
            "revision_response",
            "prompt",
        ]
    },
    "messages": TURNS,
    "chosen": TURNS,
    "rejected": TURNS,
}
SPLITS = ["train_sft", "train_prefs", "test_sft", "test_prefs"]


def same(found, expected):
    """Equal features; the order of role and content within a message is no matter."""
    return list(found) == list(expected) and all(found[name] == expected[name] for name in expected)


def shown(features):
    return ", ".join(f"{name}: {'messages' if value == TURNS else value.dtype}" for name, value in features.items())


print(f"datasets {datasets.__version__}")
for form, kind in [("standard", TEXT), ("conversational", TURNS)]:
    for shape, columns in SHAPES.items():
        expected, rows = columns(kind), None
        for ending, builder in [("jsonl", "json"), ("jsonl.gz", "json"), ("jsonl.zst", "json"), ("parquet", "parquet")]:
            file = str(folder / f"{form}-{shape}.{ending}")
            data = load_dataset(builder, data_files=file, split="train", cache_dir=cache)
            assert same(data.features, expected), (file, data.features)
            assert rows is None or data.to_list() == rows, file
            rows = data.to_list()
        data.to_json(str(back / f"{form}-{shape}.jsonl"), force_ascii=False)
        data.to_parquet(str(back / f"{form}-{shape}.parquet"))
        print(f"{form} {shape}: {len(rows)} rows of {shown(data.features)}")

files = {split: str(folder / f"{split}-00000-of-00001.parquet") for split in SPLITS}
cai = load_dataset("parquet", data_files=files, cache_dir=cache)
assert list(cai) == SPLITS, list(cai)
for split, data in cai.items():
    assert same(data.features, CAI), data.features
    data.to_parquet(str(back / f"{split}-00000-of-00001.parquet"))
print(f"cai-conversation-harmless, {', '.join(cai)}: {len(data)} rows each of {shown(data.features)}")
