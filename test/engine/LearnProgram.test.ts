import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import fs from "node:fs"
import os from "node:os"
import * as path from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Calibration from "../../src/engine/Calibration.ts"
import * as LearnProgram from "../../src/engine/LearnProgram.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import type { Base } from "../../src/engine/Base.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import type * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Quantized from "../../src/model/Quantized.ts"
import type * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Golden from "./golden.ts"

const rates = { learningRates: [1e-2], weightDecays: [0.01], maxGradNorm: 1 }

/** The golden batch with equal weights on its masked tokens. */
const batch = (golden: { rows: Array<Array<number>>; lossMask: Float32Array }) =>
  golden.rows.map((ids, b) => ({ ids, weights: golden.lossMask.slice(b * 24, b * 24 + 24) }))

/** The maps of a checkpoint in 8 bits, kept for one test. */
const quantise = (checkpoint: Checkpoint.Checkpoint) =>
  Effect.gen(function* () {
    const cache = fs.mkdtempSync(path.join(os.tmpdir(), "charter-int8-"))
    yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(cache, { recursive: true })))
    return yield* Quantized.open(checkpoint, Calibration.activations(checkpoint), cache)
  })

const adapterFolder = path.join(Golden.folder, "adapter")

// What it computes in one run is held against transformers in `families.test.ts`.
describe("a learning program against transformers", () => {
  it.effect("computes the same gradient where layers are computed again, and keeps nothing else of them", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const adapter = Adapters.fromLora(yield* Lora.read(adapterFolder), golden.checkpoint.config)
      const rows = batch(golden)
      const micro = Batch.supervised(rows, Batch.totalWeight(rows))
      const learnt = (recompute: boolean) =>
        Effect.gen(function* () {
          const how = { microTokens: 72, recompute }
          const learner = yield* Learner.make(golden.checkpoint, adapter, Objective.sft, how)
          const state = Learner.initialState(adapter.vector.slice())
          const { loss } = yield* learner.step(state, [micro], rates)
          return { loss, moment: state.m }
        })
      const [kept, again] = [yield* learnt(false), yield* learnt(true)]
      expect(Math.abs(kept.loss - again.loss)).toBeLessThan(1e-6)
      expect(Golden.distance(kept.moment, again.moment)).toBeLessThan(1e-6 * Golden.largest(kept.moment) + 1e-9)

      // In the graph: no node of the backward pass reads what a node of a layer's forward pass made, but its result.
      const shape = { chunks: 1, shares: false, recompute: true }
      const { graph } = LearnProgram.accumulate(golden.checkpoint, adapter, Objective.sft, shape)
      const place = new Map(graph.nodes.flatMap((node) => node.outputs.map((value) => [value, node.label] as const)))
      const results = new Set<Graph.Value>()
      const activations = new Set(graph.inputs.filter(({ name }) => name === "ids"))
      for (const node of graph.nodes) {
        if (node.inputs.some((x) => x !== null && activations.has(x))) node.outputs.forEach((x) => activations.add(x))
        if (node.label.startsWith("gradient")) continue
        for (const x of node.inputs) if (x !== null && place.get(x) !== node.label) results.add(x)
      }
      const read = graph.nodes
        .filter((node) => node.label.startsWith("gradient"))
        .flatMap((node) => node.inputs.filter((x) => x !== null))
        .filter((x) => (place.get(x) ?? "").startsWith("layer") && !results.has(x))
        .filter((x) => activations.has(x) && x.dtype === "float32")
      expect(read.map((x) => x.name)).toEqual([])
    })
  )

  it.effect("computes nearly the same gradient with frozen maps in 8 bits, forward and backward", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const adapter = Adapters.fromLora(yield* Lora.read(adapterFolder), golden.checkpoint.config)
      const rows = batch(golden)
      const micro = Batch.supervised(rows, Batch.totalWeight(rows))
      const quantized = yield* quantise(golden.checkpoint)
      const learnt = Effect.fnUntraced(function* (checkpoint: Base) {
        const learner = yield* Learner.make(checkpoint, adapter, Objective.sft, { microTokens: 72 })
        const state = Learner.initialState(adapter.vector.slice())
        const { loss } = yield* learner.step(state, [micro], rates)
        return { loss, moment: state.m }
      })
      const exact = yield* learnt(golden.checkpoint)
      const rough = yield* learnt({ ...golden.checkpoint, quantized })
      expect(rough.loss).not.toBe(exact.loss)
      expect(Math.abs(rough.loss - exact.loss)).toBeLessThan(0.01)
      const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0)
      const cosine =
        dot(exact.moment, rough.moment) / Math.sqrt(dot(exact.moment, exact.moment) * dot(rough.moment, rough.moment))
      expect(cosine).toBeGreaterThan(0.999)
    })
  )

  it.live("learns log-probabilities at a temperature, of capped logits, too", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const capped = { ...golden.checkpoint, config: { ...golden.checkpoint.config, logitSoftCap: 3 } }
      const adapter = Adapters.fromLora(yield* Lora.read(adapterFolder), capped.config)
      const ids = golden.rows[0]!.slice(0, 20)
      const [at, targets] = [ids.slice(1).map((_, t) => t), ids.slice(1)]
      const scorer = yield* Scorer.make(capped, { maxTokens: 4096 })
      const request = { ids, adapter, kind: "logprobs", at, targets } as const
      const warm = yield* scorer.score(request)
      const cool = yield* scorer.score({ ...request, temperature: 0.4 })
      expect(Golden.distance(warm, cool)).toBeGreaterThan(0.1)
      const micro = Batch.supervised([{ ids, weights: new Float32Array(ids.length).fill(1, 1) }], at.length)
      const learner = yield* Learner.make(capped, adapter, Objective.sft, { microTokens: 72, temperature: 0.4 })
      const loss = (parameters: Float32Array) => Effect.map(learner.measure(parameters, [micro]), ({ loss }) => loss)
      expect(yield* loss(adapter.vector)).toBeCloseTo(-cool.reduce((a, b) => a + b, 0) / cool.length, 5)
      // The first moment of a first step is a tenth of the gradient, clipped at a norm of 1.
      const state = Learner.initialState(adapter.vector.slice())
      const { grad_norm } = yield* learner.step(state, [micro], rates)
      const gradient = state.m.map((m) => 10 * m * Math.max(1, grad_norm))
      const along = gradient.map((g) => g / grad_norm)
      const moved = (by: number) => loss(adapter.vector.map((x, i) => x + by * along[i]!))
      const slope = ((yield* moved(1e-2)) - (yield* moved(-1e-2))) / 2e-2
      expect(Math.abs(slope / grad_norm - 1)).toBeLessThan(1e-2)
    })
  )

  // Ratios and differences to a reference compare what the learner computes with what the scorer and the decoder did.
  it.live("has the scorer's log-probabilities in 8 bits, also of a head in chunks", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const adapter = Adapters.fromLora(yield* Lora.read(adapterFolder), golden.checkpoint.config)
      const base = { ...golden.checkpoint, quantized: yield* quantise(golden.checkpoint) }
      const ids = golden.rows[0]!.slice(0, 20)
      const at = Array.from({ length: ids.length - 1 }, (_, t) => t)
      const scorer = yield* Scorer.make(base, { maxTokens: 4096 })
      const scores = yield* scorer.score({ ids, adapter, kind: "logprobs", at, targets: ids.slice(1) })
      const mean = scores.reduce((sum, x) => sum + x, 0) / scores.length
      const micro = Batch.supervised([{ ids, weights: new Float32Array(ids.length).fill(1, 1) }], at.length)
      for (const microTokens of [72, 200_000]) {
        const learner = yield* Learner.make(base, adapter, Objective.sft, { microTokens })
        const { loss } = yield* learner.measure(adapter.vector, [micro])
        expect(Math.abs(loss + mean)).toBeLessThan(1e-5)
        const stepped = yield* learner.step(Learner.initialState(adapter.vector.slice()), [micro], rates)
        expect(Math.abs(stepped.loss + mean)).toBeLessThan(1e-5)
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

describe("an objective that is wrong", () => {
  const mean = (outputs: Objective.Outputs, weights: Graph.Value) => Objective.mean(outputs.logprobs(), weights)
  const wrong: Readonly<Record<string, [Objective.Objective["build"], RegExp]>> = {
    "a loss that is no scalar": [(o) => ({ loss: o.logprobs(), metrics: {} }), /loss must be a scalar/],
    "a metric that is no scalar": [
      (o, { weights }) => ({ loss: mean(o, weights!), metrics: { nats: o.logprobs() } }),
      /nats must be a float32 scalar \(inputs: float32\[N\]/
    ],
    "a metric that is a count": [
      (o, { weights }) => ({ loss: mean(o, weights!), metrics: { count: Op.cast(mean(o, weights!), "int64") } }),
      /count must be a float32 scalar \(inputs: int64\[\]/
    ],
    "a loss that is detached from the model": [
      (o, { weights }) => ({ loss: Op.detach(mean(o, weights!)), metrics: {} }),
      /the loss depends on nothing that is trained/
    ],
    "a metric in place of the loss": [
      (o, { weights }) => ({ loss: mean(o, weights!), metrics: { loss: Op.neg(mean(o, weights!)) } }),
      /no metric can have the name loss/
    ],
    "a metric in place of what a step reports": [
      (o, { weights }) => ({ loss: mean(o, weights!), metrics: { grad_norm: Op.neg(mean(o, weights!)) } }),
      /no metric can have the name grad_norm/
    ],
    "scores without a head for them": [
      (o, { weights }) => ({ loss: Objective.mean(o.scores(), weights!), metrics: {} }),
      /has no score head; Lora\.init adds one with \{ score: true \}/
    ],
    "values without a head for them": [
      (o, { weights }) => ({ loss: Objective.mean(o.values(), weights!), metrics: {} }),
      /has no value head; Adapters\.fromLora adds one with \{ value: true \}/
    ]
  }
  for (const [name, [build, says]] of Object.entries(wrong)) {
    it.effect(`says so when it is built: ${name}`, () =>
      Effect.gen(function* () {
        const { checkpoint } = yield* Golden.load
        const adapter = Adapters.fromLora(yield* Lora.read(adapterFolder), checkpoint.config)
        const objective = { name: "wrong", inputs: { weights: Objective.perToken }, build }
        expect(() => LearnProgram.accumulate(checkpoint, adapter, objective, { chunks: 1, shares: false })).toThrow(
          says
        )
      })
    )
  }
})
