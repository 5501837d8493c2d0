import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as path from "node:path"
import * as Batch from "../../src/engine/Batch.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Program from "../../src/engine/Program.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Config from "../../src/model/ModelConfig.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as Transformer from "../../src/model/Transformer.ts"
import * as Gradient from "../../src/onnx/Gradient.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Golden from "./golden.ts"

const rates = { learningRates: [1e-2], weightDecays: [0.01], maxGradNorm: 1 }

/** The golden batch with equal weights on its masked tokens. */
const batch = (golden: { rows: Array<Array<number>>; lossMask: Float32Array }) =>
  golden.rows.map((ids, b) => ({ ids, weights: golden.lossMask.slice(b * 24, b * 24 + 24) }))

const adapterFolder = path.join(Golden.folder, "adapter")

describe("a learning program against transformers", () => {
  it.effect("computes the same logits with and without the adapter, in both forms of adaptation", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const adapter = yield* Lora.read(adapterFolder)
      for (const adaptation of [undefined, "factored", "merged"] as const) {
        const graph = Graph.make("logits")
        const weight = Program.frozen(graph, golden.checkpoint)
        const constant = (name: string) => {
          const { data, shape } = adapter.tensors.get(name)!
          return Graph.constant(graph, "float32", shape, data)
        }
        const parameters: Transformer.Parameters = {
          weight,
          ...(adaptation === undefined
            ? {}
            : {
                adaptation,
                lora: (of: string) => ({
                  a: constant(`${of}.lora_A`),
                  b: constant(`${of}.lora_B`),
                  scale: adapter.config.alpha / adapter.config.rank
                })
              })
        }
        const { config } = golden.checkpoint
        const { hidden } = Transformer.build(config, parameters, Program.tokenInputs(graph), 64)
        Graph.output(graph, "logits", Transformer.logits(config, parameters, hidden))
        const session = yield* Session.make(graph, { folder: Program.weightsFolder })
        const { logits } = yield* session.run(Program.tokenFeeds(golden.rows))
        const expected = yield* golden.floats(adaptation === undefined ? "logits" : "lora_logits")
        const mask = yield* golden.integers("attention_mask")
        const ours = Session.floats(logits!)
        // Padded positions hold nothing that is ever used, and transformers masks them otherwise.
        let worst = 0
        mask.forEach((m, i) => {
          if (m === 0) return
          const slice = (x: Float32Array) => x.subarray(i * config.vocabSize, (i + 1) * config.vocabSize)
          worst = Math.max(worst, Golden.distance(slice(ours), slice(expected)))
        })
        expect(worst).toBeLessThan(1e-4)
      }
    })
  )

  it.effect("computes the same loss and the same gradient of every parameter", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const layout = Trainables.layout(
        Array.from(Config.parameters(golden.checkpoint.config), ([name, shape]) => ({ name, shape, group: "all" }))
      )
      const rows = batch(golden)
      const { feeds, rows: ids } = Batch.supervised(rows, Batch.totalWeight(rows))
      const graph = Graph.make("gradients")
      const vector = Trainables.input(graph, layout, "parameters")
      const trainable = Trainables.values(layout, vector)
      const parameters: Transformer.Parameters = { weight: (name) => trainable.get(name)! }
      const { config } = golden.checkpoint
      const { hidden } = Transformer.build(config, parameters, Program.tokenInputs(graph), 64)
      const at = Graph.input(graph, "at", "int64", ["N"])
      const targets = Graph.input(graph, "targets", "int64", ["N"])
      const weights = Graph.input(graph, "weights", "float32", ["N"])
      const { tokenLogprobs } = yield* Effect.promise(() => import("../../src/onnx/Op.ts"))
      const logprobs = () => tokenLogprobs(Transformer.logits(config, parameters, Program.pick(hidden, at)), targets)
      const none = () => weights
      const { loss } = Objective.sft.build({ logprobs, values: none, scores: none }, { weights })
      Graph.output(graph, "loss", loss)
      const names = layout.entries.map((e) => e.name)
      Gradient.gradients(
        loss,
        names.map((name) => trainable.get(name)!)
      ).forEach((g, i) => Graph.output(graph, `grad.${names[i]}`, g))

      const stored = new Map<string, Float32Array>()
      for (const name of names) stored.set(name, yield* Safetensors.load(golden.checkpoint.tensors.get(name)!))
      const session = yield* Session.make(graph)
      const results = yield* session.run({
        ...Program.tokenFeeds(ids),
        ...feeds,
        parameters: Session.float32(
          Trainables.pack(layout, (e) => stored.get(e.name)!),
          [layout.size]
        )
      })
      expect(Math.abs(Session.floats(results["loss"]!)[0]! - (yield* golden.floats("loss"))[0]!)).toBeLessThan(1e-5)
      for (const name of names) {
        const expected = yield* golden.floats(`grad.${name}`)
        const worst = Golden.distance(Session.floats(results[`grad.${name}`]!), expected)
        expect(worst, name).toBeLessThan(1e-4 * Golden.largest(expected))
      }
    })
  )

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
