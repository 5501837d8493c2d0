import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as path from "node:path"
import * as Batch from "../../src/engine/Batch.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Golden from "./golden.ts"

const rates = { learningRates: [1e-2], weightDecays: [0.01], maxGradNorm: 1 }

/** The golden batch with equal weights on its masked tokens. */
const batch = (golden: { rows: Array<Array<number>>; lossMask: Float32Array }) =>
  golden.rows.map((ids, b) => ({ ids, weights: golden.lossMask.slice(b * 24, b * 24 + 24) }))

const adapterFolder = path.join(Golden.folder, "adapter")

// What it computes in one run is held against transformers in `families.test.ts`.
describe("a learning program against transformers", () => {
  for (const microBatches of [1, 3]) {
    it.effect(`takes the same five LoRA steps, in ${microBatches} micro-batches`, () =>
      Effect.gen(function* () {
        const golden = yield* Golden.load
        const adapter = yield* Lora.read(adapterFolder)
        const layout = Trainables.layout(
          Array.from(adapter.tensors, ([name, { shape }]) => ({ name, shape, group: "adapter" }))
        )
        const state = Learner.initialState(Trainables.pack(layout, (e) => adapter.tensors.get(e.name)!.data))
        const trained = { layout, scales: adapter.scales }
        const learner = yield* Learner.make(golden.checkpoint, trained, Objective.sft, { microTokens: 72 })
        const rows = batch(golden)
        const total = Batch.totalWeight(rows)
        const parts = microBatches === 1 ? [rows] : rows.map((row) => [row])
        const losses: Array<number> = []
        const norms: Array<number> = []
        for (let i = 0; i < 5; i++) {
          const metrics = yield* learner.step(
            state,
            parts.map((part) => Batch.supervised(part, total)),
            rates
          )
          losses.push(metrics.loss)
          norms.push(metrics.grad_norm)
        }
        expect(Golden.distance(losses, yield* golden.floats("lora_losses"))).toBeLessThan(1e-4)
        expect(Golden.distance(norms, yield* golden.floats("lora_grad_norms"))).toBeLessThan(1e-3)
        for (const [name, data] of Trainables.views(layout, state.parameters)) {
          const peft = `lora_after5.base_model.model.${name.replace(/lora_([AB])$/, "lora_$1.default.weight")}`
          const expected = yield* golden.floats(peft)
          expect(Golden.distance(data, expected), name).toBeLessThan(1e-3 * Golden.largest(expected))
        }
      })
    )
  }
})
