/**
 * The middle of `peft_roundtrip.py`: reads each adapter, writes it again, and computes loss or scores with the engine.
 *
 * node bench/parity/peft_roundtrip.ts FOLDER
 */
import { Effect } from "effect"
import { readFileSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"

const root = process.argv[2]
if (root === undefined) throw new Error("Give the folder that peft_roundtrip.py made.")

const one = Effect.fnUntraced(function* (name: string) {
  const folder = join(root, "adapters", name)
  const checkpoint = yield* Checkpoint.open(join(root, readFileSync(join(folder, "base.txt"), "utf8")))
  const lora = yield* Lora.read(folder, checkpoint.config)
  yield* Lora.write(join(folder, "written"), lora, checkpoint.dir)
  const { tensors } = yield* Safetensors.read(join(folder, "golden.safetensors"))
  const ids = yield* Safetensors.loadIntegers(tensors.get("ids")!)
  const rows = Array.from({ length: 4 }, (_, b) => ids.slice(b * 20, b * 20 + 20))
  const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
  const adapter = Adapters.fromLora(lora, checkpoint.config)
  const expected = yield* Safetensors.load(tensors.get(lora.taskType === "SEQ_CLS" ? "scores" : "loss")!)
  const scored = yield* Effect.forEach(rows, (row) =>
    lora.taskType === "SEQ_CLS"
      ? scorer.score({ ids: row, adapter, kind: "score", at: [row.length - 1], targets: [] })
      : scorer.score({ ids: row, adapter, kind: "logprobs", at: row.slice(1).map((_, t) => t), targets: row.slice(1) })
  )
  const flat = scored.flatMap((numbers) => [...numbers])
  const found = lora.taskType === "SEQ_CLS" ? flat : [-flat.reduce((a, b) => a + b, 0) / flat.length]
  const worst = Math.max(...found.map((x, i) => Math.abs(x - expected[i]!)))
  writeFileSync(join(folder, "charter.json"), JSON.stringify({ worst }))
  console.log(`${name}: ${lora.tensors.size} tensors, ${worst.toExponential(1)}`)
}, Effect.scoped)

await Effect.runPromise(Effect.forEach(readdirSync(join(root, "adapters")).toSorted(), one, { discard: true }))
