"""Writes the frequencies that transformers computes for each kind of rotary embedding, as test/fixtures/rope.json.

    /tmp/parity/bin/python bench/parity/rope.py test/fixtures/rope.json
"""

import json
import sys

import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=4096)
HEADS = dict(hidden_size=256, num_attention_heads=8)

CONFIGS = {
    "default": dict(model_type="llama", **HEADS, rope_theta=10000.0),
    "linear": dict(model_type="llama", **HEADS, rope_theta=5e5, rope_scaling=dict(type="linear", factor=4.0)),
    "llama3": dict(
        model_type="llama",
        hidden_size=512,
        num_attention_heads=8,
        max_position_embeddings=131072,
        rope_parameters=dict(rope_type="llama3", rope_theta=5e5, **LLAMA3),
    ),
    "yarn": dict(model_type="llama", **HEADS, max_position_embeddings=16384, rope_theta=1e6, rope_scaling=YARN),
    "yarn with mscale": dict(
        model_type="llama",
        **HEADS,
        max_position_embeddings=16384,
        rope_theta=1e4,
        rope_scaling=dict(**YARN, beta_fast=16.0, beta_slow=2.0, mscale=1.2, mscale_all_dim=0.6, truncate=False),
    ),
    "yarn with an attention factor": dict(
        model_type="llama",
        **HEADS,
        max_position_embeddings=16384,
        rope_theta=1e4,
        rope_scaling=dict(**YARN, attention_factor=0.75),
    ),
    "partial": dict(model_type="phi3", **HEADS, rope_theta=1e4, partial_rotary_factor=0.75),
    "longrope": dict(
        model_type="phi3",
        **HEADS,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rope_theta=1e4,
        rope_scaling=dict(
            type="longrope",
            short_factor=[1 + 0.05 * i for i in range(16)],
            long_factor=[1 + 2.0 * i for i in range(16)],
        ),
    ),
}

CLASSES = {"llama": LlamaRotaryEmbedding, "phi3": Phi3RotaryEmbedding}
# Whole turns are where the roundings of frequencies and angles show.
POSITIONS = [0, 1, 7, 4095]


def main(target):
    cases = []
    for name, config in CONFIGS.items():
        rotary = CLASSES[config["model_type"]](AutoConfig.for_model(**json.loads(json.dumps(config))))
        positions = torch.tensor([POSITIONS])
        cos, sin = rotary(torch.zeros(1), positions)
        half = rotary.inv_freq.numel()
        cases.append(
            dict(
                name=name,
                config=config,
                frequencies=rotary.inv_freq.tolist(),
                attention_factor=rotary.attention_scaling,
                positions=POSITIONS,
                cos=cos[0, :, :half].flatten().tolist(),
                sin=sin[0, :, :half].flatten().tolist(),
            )
        )
    with open(target, "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/parity/rope.py FILE")
    main(sys.argv[1])
