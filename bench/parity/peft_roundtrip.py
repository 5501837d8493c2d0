"""Adapters of every kind that Charter reads, through PEFT, through Charter, and through PEFT again.

    /tmp/parity/bin/python bench/parity/peft_roundtrip.py make /tmp/peft-roundtrip
    node bench/parity/peft_roundtrip.ts /tmp/peft-roundtrip
    /tmp/parity/bin/python bench/parity/peft_roundtrip.py check /tmp/peft-roundtrip

`make` writes two tiny models (a tied and an untied one), adapters on them as PEFT saves them, and what PEFT computes:
the loss over a batch, or the scores of a reward model. The middle step reads and writes each adapter and computes the
same in Charter's engine. `check` loads what Charter wrote and compares loss and tensors.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig
from transformers.utils import logging

torch.set_num_threads(1)
logging.disable_progress_bar()

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "list": ("untied", dict(r=4, lora_alpha=8, target_modules=SEVEN)),
    "all-linear": ("untied", dict(r=3, lora_alpha=5, target_modules="all-linear")),
    "pattern": ("untied", dict(r=4, lora_alpha=8, target_modules=r".*layers\.(?P<layer>1|2)\..*\.(q|down)_proj")),
    "rank-alpha-pattern": (
        "untied",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=SEVEN,
            rank_pattern={"layers.0.self_attn.q_proj": 2, "q_proj": 6, "^model.layers.1.mlp.*": 1},
            alpha_pattern={"down_proj|up_proj": 3, "layers.2.*": 24},
        ),
    ),
    "rslora": ("untied", dict(r=9, lora_alpha=6, target_modules=SEVEN, use_rslora=True)),
    "rslora-rank-pattern": (
        "untied",
        dict(r=9, lora_alpha=6, target_modules=SEVEN, use_rslora=True, rank_pattern={"v_proj": 4}),
    ),
    "modules-to-save": ("untied", dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"])),
    "tied-lm-head": ("tied", dict(r=4, lora_alpha=8, target_modules="all-linear", modules_to_save=["lm_head"])),
    "tied-both": (
        "tied",
        dict(r=4, lora_alpha=8, target_modules=["v_proj", "o_proj"], modules_to_save=["embed_tokens", "lm_head"]),
    ),
    "reward": ("untied", dict(r=4, lora_alpha=8, target_modules=SEVEN, task_type="SEQ_CLS")),
}

command, root = sys.argv[1], Path(sys.argv[2])


def base(kind, task):
    folder = root / kind
    if task == "SEQ_CLS":
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=0, dtype=torch.float32)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def results(model, task, ids):
    model.eval()
    with torch.no_grad():
        if task == "SEQ_CLS":
            return {"scores": model(input_ids=ids).logits[:, 0].contiguous()}
        return {"loss": model(input_ids=ids, labels=ids).loss.reshape(1)}


if command == "make":
    torch.manual_seed(7)
    for kind in ["untied", "tied"]:
        config = LlamaConfig(
            vocab_size=160,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=kind == "tied",
            initializer_range=0.2,
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(root / kind)
    ids = torch.randint(3, 160, (4, 20))
    for name, (kind, options) in CASES.items():
        task = options.get("task_type", "CAUSAL_LM")
        model = get_peft_model(base(kind, task), LoraConfig(**{"task_type": task, **options}))
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = root / "adapters" / name
        model.save_pretrained(folder)
        (folder / "base.txt").write_text(kind)
        save_file({"ids": ids, **results(model, task, ids)}, folder / "golden.safetensors")
else:
    rows = []
    for name, (kind, options) in CASES.items():
        task = options.get("task_type", "CAUSAL_LM")
        folder = root / "adapters" / name
        golden = load_file(folder / "golden.safetensors")
        before = load_file(folder / "adapter_model.safetensors")
        after = load_file(folder / "written" / "adapter_model.safetensors")
        equal = before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
        model = PeftModel.from_pretrained(base(kind, task), folder / "written")
        found = results(model, task, golden["ids"])
        worst = max(float((found[key] - golden[key]).abs().max()) for key in found)
        ours = json.loads((folder / "charter.json").read_text())["worst"]
        rows.append((name, len(before), equal, ours, worst))
    print("| adapter | tensors | equal after writing | Charter against PEFT | PEFT with what Charter wrote |")
    print("|---|---|---|---|---|")
    for name, count, equal, ours, worst in rows:
        print(f"| {name} | {count} | {'yes' if equal else 'NO'} | {ours:.1e} | {worst:.1e} |")
    if not all(equal and ours < 1e-4 and worst < 1e-4 for _, _, equal, ours, worst in rows):
        sys.exit("The limit is 1e-4.")
