"""What `charter train` wrote, loaded in transformers and peft: the evaluation loss must be the same within 1e-3.

    charter train sft --model M --data ROWS --eval ROWS --out OUT [--full]
    python bench/parity/trained.py M OUT ROWS

ROWS are {input_ids, labels}, or pairs of token ids for a reward model.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

model_dir, out, rows_file = sys.argv[1:4]
rows = [json.loads(line) for line in open(rows_file)]
summary = json.load(open(f"{out}/summary.json"))
expected = summary["last"]["eval_loss"]
full = json.load(open(f"{out}/train.json"))["training"]["lora"] is None
torch.set_grad_enabled(False)


def load(kind, **more):
    if full:
        return kind.from_pretrained(out, dtype=torch.float32, **more).eval()
    from peft import PeftModel

    base = kind.from_pretrained(model_dir, dtype=torch.float32, **more)
    return PeftModel.from_pretrained(base, out).eval()


if summary["train"] == "reward":
    model = load(AutoModelForSequenceClassification, num_labels=1, pad_token_id=0)

    def score(ids):
        return model(input_ids=torch.tensor([ids])).logits[0, 0]

    losses = []
    for row in rows:
        prompt = row.get("prompt_input_ids", [])
        d = score(prompt + row["chosen_input_ids"]) - score(prompt + row["rejected_input_ids"])
        losses.append(torch.nn.functional.softplus(-d).item())
    loss = sum(losses) / len(losses)
else:
    model = load(AutoModelForCausalLM)
    total, count = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        n = int((labels[:, 1:] != -100).sum())
        total += model(input_ids=ids, labels=labels).loss.item() * n
        count += n
    loss = total / count

difference = abs(loss - expected)
print(f"{out}: {summary['train']}{' --full' if full else ''} {expected:.6f} here, {loss:.6f} there, apart by {difference:.1e}")
sys.exit(0 if difference < 1e-3 else 1)
