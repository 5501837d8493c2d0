"""Tiny random models of every family with the options that set them apart, and what transformers makes of them.

    python -m venv /tmp/parity && /tmp/parity/bin/pip install -r bench/parity/requirements.txt
    /tmp/parity/bin/python bench/parity/families.py /tmp/parity-models
    node bench/parity/families.ts /tmp/parity-models

One folder a case: the model as transformers saves it (or with a config.json as older versions wrote it), an adapter as
PEFT saves it, and golden.safetensors: of a padded batch the logits, the log-probabilities of tokens, the loss and the
gradient of every parameter; the same with the adapter, and five steps of AdamW on it; and a greedy text.

    /tmp/parity/bin/python bench/parity/families.py test/fixtures tiny

makes the smaller ones that the tests of the repository use.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

torch.set_num_threads(1)
logging.disable_progress_bar()

LENGTHS, PROMPT, NEW = [24, 19, 13], 8, 40

SMALL = dict(
    vocab_size=160,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(factor=4.0, original_max_position_embeddings=32)


def rope(kind, theta=10000.0, **keys):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **keys))


# name: (model_type, options[, keys of config.json as older versions wrote them, in place of rope_parameters])
CASES = {
    "llama": ("llama", dict(tie_word_embeddings=True)),
    "llama-llama3-biases": (
        "llama",
        dict(attention_bias=True, mlp_bias=True, head_dim=16, **rope("llama3", 5e5, **LLAMA3)),
    ),
    "llama-linear-old": (
        "llama",
        dict(num_key_value_heads=1),
        dict(rope_theta=5000.0, rope_scaling=dict(type="linear", factor=4.0)),
    ),
    "llama-yarn": ("llama", rope("yarn", **YARN)),
    "llama-yarn-options": (
        "llama",
        rope("yarn", **YARN, beta_fast=16.0, beta_slow=2.0, mscale=1.5, mscale_all_dim=0.7, truncate=False),
    ),
    "mistral-window": ("mistral", dict(sliding_window=8, head_dim=20)),
    "mistral-yarn": ("mistral", dict(sliding_window=None, **rope("yarn", 1e6, **YARN, attention_factor=0.9))),
    "mistral-old": ("mistral", dict(sliding_window=11), dict(rope_theta=1e6)),
    "ministral-types": (
        "ministral",
        dict(sliding_window=8, head_dim=20, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    ),
    "ministral-window-llama3": (
        "ministral",
        dict(sliding_window=11, head_dim=12, tie_word_embeddings=True, **rope("llama3", 5e5, **LLAMA3)),
    ),
    "ministral-yarn": (
        "ministral",
        dict(layer_types=["full_attention"] * 3, head_dim=12, num_key_value_heads=1, **rope("yarn", 1e6, **YARN)),
    ),
    "ministral-types-old": (
        "ministral",
        dict(sliding_window=8, head_dim=12, layer_types=["full_attention", "full_attention", "sliding_attention"]),
        dict(rope_theta=1e6, rope_scaling=dict(type="linear", factor=4.0)),
    ),
    "qwen2-window": ("qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)),
    "qwen2-yarn-old": (
        "qwen2",
        dict(tie_word_embeddings=True),
        dict(rope_theta=1e6, rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=32)),
    ),
    "qwen3-window": (
        "qwen3",
        dict(
            use_sliding_window=True,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            attention_bias=True,
            head_dim=24,
        ),
    ),
    "qwen3-llama3": ("qwen3", dict(head_dim=16, tie_word_embeddings=True, **rope("llama3", 1e6, **LLAMA3))),
    "gemma3_text-caps": (
        "gemma3_text",
        dict(
            num_hidden_layers=4,
            head_dim=16,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"] * 2,
            query_pre_attn_scalar=24,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=2.0,
            attention_bias=True,
            tie_word_embeddings=False,
            rope_parameters=dict(
                full_attention=dict(rope_type="yarn", rope_theta=1e6, **YARN),
                sliding_attention=dict(rope_type="default", rope_theta=5000.0),
            ),
        ),
    ),
    "gemma3_text-old": (
        "gemma3_text",
        dict(num_hidden_layers=4, head_dim=16, sliding_window=8, query_pre_attn_scalar=16),
        dict(
            rope_theta=2e5,
            rope_local_base_freq=5000.0,
            rope_scaling=dict(rope_type="linear", factor=8.0),
            sliding_window_pattern=2,
        ),
    ),
    "phi3": ("phi3", dict()),
    "phi3-window-partial": (
        "phi3",
        dict(sliding_window=8, hidden_size=64, **rope("default", 5000.0, partial_rotary_factor=0.5)),
    ),
    "phi3-longrope-old": (
        "phi3",
        dict(tie_word_embeddings=True, original_max_position_embeddings=64),
        dict(
            rope_theta=10000.0,
            rope_scaling=dict(
                type="longrope",
                short_factor=[1.0, 1.1, 1.3, 1.7, 2.0, 2.5],
                long_factor=[2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
            ),
        ),
    ),
    "smollm3": ("smollm3", dict(num_hidden_layers=5)),
    "smollm3-window-biases": (
        "smollm3",
        dict(
            no_rope_layers=[1, 0, 1],
            use_sliding_window=True,
            sliding_window=8,
            attention_bias=True,
            mlp_bias=True,
            tie_word_embeddings=False,
            **rope("yarn", 2e6, **YARN),
        ),
    ),
    "smollm3-types-old": (
        "smollm3",
        dict(
            use_sliding_window=True,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "full_attention"],
            no_rope_layer_interval=2,
        ),
        dict(rope_theta=5e6, rope_scaling=None),
    ),
    "olmo2": ("olmo2", dict()),
    "olmo2-llama3-biases": (
        "olmo2",
        dict(attention_bias=True, tie_word_embeddings=True, num_key_value_heads=4, **rope("llama3", 5e5, **LLAMA3)),
    ),
    "olmo2-linear-old": ("olmo2", dict(), dict(rope_theta=5e5, rope_scaling=dict(type="linear", factor=2.0))),
}


def randomise(model, generator):
    """Numbers large enough that every option shows in the logits."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() == 1 and "norm" in name:
                p.add_(0.2 * noise)
            else:
                p.copy_(noise * (0.3 if p.dim() == 1 else 1.2 / p.shape[-1] ** 0.5))


# The families that have no golden values of another source.
TINY = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, head_dim=8)
TINY_CASES = {
    "tiny-mistral": ("mistral", dict(**TINY, sliding_window=8)),
    "tiny-ministral": (
        "ministral",
        dict(**TINY, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    ),
    "tiny-phi3": (
        "phi3",
        dict(**{**TINY, "hidden_size": 32}, sliding_window=11, **rope("default", partial_rotary_factor=0.5)),
    ),
    "tiny-smollm3": ("smollm3", dict(**TINY, no_rope_layers=[1, 0], **rope("yarn", 2e6, **YARN))),
    "tiny-olmo2": ("olmo2", dict(**TINY, **rope("llama3", 5e5, **LLAMA3))),
}


def logprobs(logits, ids):
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


def batch_of(config, generator):
    """Rows padded on the right; of each but the first token some are learnt."""
    ids = torch.randint(3, config.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    attention = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    learnt = (torch.rand(ids.shape, generator=generator) < 0.8) & (attention == 1)
    return ids.where(attention == 1, 0), attention, learnt.float()


def train(peft, loss_of, golden):
    """Five steps of AdamW on the adapter."""
    trained = {name: p for name, p in peft.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    losses, norms = [], []
    for step in range(5):
        loss = loss_of(peft)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            golden |= {f"lora_grad.{name}": p.grad.clone() for name, p in trained.items()}
        losses.append(loss.detach())
        norms.append(torch.nn.utils.clip_grad_norm_(trained.values(), 1.0))
        optimizer.step()
    golden |= {"lora_losses": torch.stack(losses), "lora_grad_norms": torch.stack(norms)}
    golden |= {f"lora_after5.{name}": p for name, p in trained.items()}


def make(folder, model_type, options, old=None):
    generator = torch.Generator().manual_seed(sum(map(ord, folder.name)))
    config = AutoConfig.for_model(model_type, **{**SMALL, **options}, **(old or {}))
    made = AutoModelForCausalLM.from_config(config).float()
    randomise(made, generator)
    made.save_pretrained(folder)
    if old is not None:
        written = json.loads((folder / "config.json").read_text())
        for key in ("rope_parameters", "_sliding_window_pattern"):
            written.pop(key, None)
        if "layer_types" not in options:
            written.pop("layer_types", None)
        (folder / "config.json").write_text(json.dumps({**written, **old}, indent=2))

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config.eos_token_id = None
    ids, attention, learnt = batch_of(config, generator)
    logits_of = lambda network: network(input_ids=ids, attention_mask=attention).logits
    loss_of = lambda network: -(logprobs(logits_of(network), ids) * learnt[:, 1:]).sum() / learnt[:, 1:].sum()

    logits = logits_of(model)
    loss = loss_of(model)
    loss.backward()
    golden = {"ids": ids, "attention_mask": attention, "loss_mask": learnt, "logits": logits, "loss": loss}
    golden |= {"token_logprobs": logprobs(logits, ids)}
    golden |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    golden["greedy"] = model.generate(ids[:1, :PROMPT], max_new_tokens=NEW, do_sample=False)

    model.zero_grad()
    adapter = LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    peft = get_peft_model(model, adapter)
    with torch.no_grad():
        for name, p in peft.named_parameters():
            if "lora_" in name:
                p.copy_(0.15 * torch.randn(p.shape, generator=generator))
    peft.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    saved = folder / "adapter" / "adapter_config.json"
    saved.write_text(json.dumps({**json.loads(saved.read_text()), "base_model_name_or_path": None}, indent=2) + "\n")
    golden["lora_logits"] = logits_of(peft)
    train(peft, loss_of, golden)
    save_file({k: v.detach().contiguous().clone() for k, v in golden.items()}, folder / "golden.safetensors")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["tiny"]):
        sys.exit("usage: python bench/parity/families.py FOLDER [tiny]")
    for name, case in (TINY_CASES if sys.argv[2:] else CASES).items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, *case)
        print(name, flush=True)
