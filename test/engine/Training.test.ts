import { describe, expect, it } from "@effect/vitest"
import { Effect, Result, Stream } from "effect"
import path from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Training from "../../src/engine/Training.ts"
import * as TrainingData from "../../src/engine/TrainingData.ts"
import * as TrainingState from "../../src/engine/TrainingState.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Session from "../../src/onnx/Session.ts"
import type { LearnOptions } from "../../src/Policy.ts"
import { workplace } from "../workplace.ts"
import * as Golden from "./golden.ts"

const options = (stateDir: string): LearnOptions => ({
  seed: 3,
  epochs: 3,
  batchSize: 3,
  microTokens: 24,
  learningRate: 1e-2,
  schedule: "cosine",
  warmupSteps: 2,
  floor: 0.1,
  weightDecay: 0.01,
  maxGradNorm: 1,
  maxLength: 64,
  stateDir
})

/** Rows of many lengths; eight do not divide into threes, so each epoch ends with a smaller batch. */
const rows = Array.from({ length: 8 }, (_, i) => {
  const ids = Array.from({ length: 4 + ((i * 5) % 9) }, (_, t) => 3 + ((i * 37 + t * 11) % 300))
  return { id: `row ${i}`, ids, weights: ids.map((_, t) => (t < 2 ? 0 : 1)) }
})

const train = Effect.fnUntraced(function* (stateDir: string, steps: number, trainee?: Adapters.Adapter) {
  const { checkpoint } = yield* Golden.load
  const fresh = yield* Effect.fromResult(
    Lora.init(checkpoint.config, { rank: 4, alpha: 8, targets: Lora.allTargets(checkpoint.config) }, 1)
  )
  const adapter = trainee ?? Adapters.fromLora(fresh, checkpoint.config)
  const how = options(stateDir)
  const stream = Training.run(checkpoint, adapter, Objective.sft, TrainingData.supervised(rows, how), how)
  const metrics = yield* Stream.runCollect(Stream.take(stream, steps))
  return {
    adapter,
    losses: Array.from(metrics, (m) => m.loss),
    steps: metrics[0]?.steps,
    first: metrics[0]?.step
  }
})

/** Rows of one batch each in a known order, of which those named have no finite loss. */
const trainBad = Effect.fnUntraced(function* (stateDir: string, bad: ReadonlyArray<number>) {
  const { checkpoint } = yield* Golden.load
  const lora = yield* Lora.read(`${Golden.folder}/adapter`, checkpoint.config)
  const adapter = Adapters.fromLora(lora, checkpoint.config)
  const how = { ...options(stateDir), batchSize: 1, epochs: 1 }
  const order = Array.from({ length: rows.length }, (_, i) => Training.batches(rows, how)(i)[0]!.id)
  const plain = TrainingData.supervised(rows, how)
  const poisoned: typeof plain = {
    ...plain,
    collate: (batch) =>
      Effect.map(plain.collate(batch), (parts) =>
        parts.map((part) => {
          const weights = part.feeds["weights"]!
          if (!bad.some((i) => order[i] === batch[0]!.id)) return part
          const nothing = new Float32Array(Number(weights.dims[0])).fill(Number.NaN)
          return { ...part, feeds: { ...part.feeds, weights: Session.float32(nothing, weights.dims) } }
        })
      )
  }
  const skips: Array<Training.Skip> = []
  const before = adapter.vector
  const onSkip = (skip: Training.Skip) => Effect.sync(() => void skips.push(skip))
  const stream = Training.run(checkpoint, adapter, Objective.sft, poisoned, { ...how, onSkip })
  const steps: Array<number> = []
  const exit = yield* Effect.result(Stream.runForEach(stream, ({ step }) => Effect.sync(() => steps.push(step))))
  return { exit, skips, steps, order, moved: Golden.distance(before, adapter.vector), vector: adapter.vector }
})

describe("a training", () => {
  it.effect("that was cut off at any step ends with the same bytes as one that was not", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const whole = yield* train(path.join(dir, "whole"), 100)
      expect(whole.steps).toBe(9)
      expect(whole.losses).toHaveLength(9)
      for (const cut of [1, 4, 8]) {
        const state = path.join(dir, `cut${cut}`)
        const before = yield* train(state, cut)
        const after = yield* train(state, 100)
        // The state is behind what was taken from the stream, never ahead of it.
        expect(after.first).toBeLessThanOrEqual(cut + 1)
        expect([...before.losses.slice(0, after.first! - 1), ...after.losses]).toEqual(whole.losses)
        expect(Buffer.from(after.adapter.vector.buffer)).toEqual(Buffer.from(whole.adapter.vector.buffer))
      }
    })
  )

  it.effect("that was cut off before a step of its was saved begins as it began, though its adapter has learnt", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const whole = yield* train(path.join(dir, "whole"), 100)
      const cut = yield* train(path.join(dir, "cut"), 1)
      const again = yield* train(path.join(dir, "cut"), 100, cut.adapter)
      expect(again.first).toBe(1)
      expect(again.losses).toEqual(whole.losses)
      expect(again.adapter.vector).toEqual(whole.adapter.vector)
    })
  )

  it.effect("that is finished is not repeated", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const first = yield* train(dir, 100)
      const again = yield* train(dir, 100)
      expect(again.losses).toEqual([])
      expect(again.adapter.vector).toEqual(first.adapter.vector)
    })
  )

  it.effect("does not take over parameters that are not finite, though the gradient was", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const lora = yield* Lora.read(`${Golden.folder}/adapter`, checkpoint.config)
      const adapter = Adapters.fromLora(lora, checkpoint.config)
      const learner = yield* Learner.make(checkpoint, adapter, Objective.sft, { microTokens: 64 })
      const state = Learner.initialState(adapter.vector)
      const row = { ids: [5, 6, 7, 8], weights: [1, 1, 1, 1] }
      const far = { learningRates: [1e39], weightDecays: [0], maxGradNorm: 1 }
      const metrics = yield* learner.step(state, [Batch.supervised([row], 3)], far)
      expect(Learner.applied(metrics)).toBe(false)
      expect([state.parameters, state.step]).toEqual([adapter.vector, 0])
    })
  )

  it.effect("gives each step its learning rate, and the weight decay", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const adapter = Adapters.fromLora(yield* Lora.read(`${Golden.folder}/adapter`), checkpoint.config)
      const asked: Array<Learner.Rates> = []
      const step = (_: Learner.State, __: unknown, rates: Learner.Rates) =>
        Effect.sync(() => {
          asked.push(rates)
          return { loss: 1, grad_norm: 1 }
        })
      const learner: Learner.Learner = { step, measure: () => Effect.succeed({ loss: 1 }) }
      const schedule = { schedule: "linear", warmupSteps: 2, floor: 0, learningRate: 1 } as const
      const how = { ...options(workplace()), ...schedule, batchSize: 8, epochs: 6 }
      const data = TrainingData.supervised(rows, how)
      const metrics = yield* Stream.runCollect(Training.runWith(learner, adapter, data, how))
      // Half the rate and the whole, and then down to what the next step would find gone.
      const rates = [0.5, 1, 0.8, 0.6, 0.4, 0.2]
      asked.forEach(({ learningRates }, i) => expect(learningRates[0]).toBeCloseTo(rates[i]!, 12))
      expect(Array.from(metrics, (m) => m.learning_rate)).toEqual(asked.map(({ learningRates }) => learningRates[0]))
      expect(asked.map(({ maxGradNorm, weightDecays }) => [weightDecays[0], maxGradNorm])).toEqual(
        rates.map(() => [0.01, 1])
      )
    })
  )

  it("has an order of the rows for each epoch and seed", () => {
    const orderOf = (seed: number, epoch: number) =>
      [0, 1, 2].flatMap((i) => Training.batches(rows, { batchSize: 3, seed })(3 * epoch + i).map(({ id }) => id))
    expect(orderOf(1, 0)).toEqual(orderOf(1, 0))
    expect(orderOf(1, 1)).not.toEqual(orderOf(1, 0))
    expect(orderOf(2, 0)).not.toEqual(orderOf(1, 0))
  })

  it.effect("looks at the rows of a step alone, however many there are for the others", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const adapter = Adapters.fromLora(yield* Lora.read(`${Golden.folder}/adapter`), checkpoint.config)
      let looks = 0
      const many = new Proxy(
        Array.from({ length: 300 }, (_, i) => ({ ...rows[i % rows.length]!, id: `row ${i}` })),
        {
          get: (rows, name, self) => {
            if (typeof name === "string" && /^\d+$/.test(name)) looks++
            return Reflect.get(rows, name, self) as unknown
          }
        }
      )
      const learner: Learner.Learner = {
        step: () => Effect.succeed({ loss: 1, grad_norm: 1 }),
        measure: () => Effect.succeed({ loss: 1 })
      }
      const how = { ...options(workplace()), batchSize: 3, epochs: 2 }
      const data = { ...TrainingData.supervised(many, how), collate: () => Effect.succeed([]) }
      yield* Stream.runDrain(Training.runWith(learner, adapter, data, how))
      expect(looks).toBe(2 * many.length)
    })
  )

  it("makes micro-batches within the bound out of every row, the longest first", () => {
    const lengths = [3, 9, 4, 40, 5, 5]
    const parts = Training.microBatches(lengths, (n) => n, 20)
    expect(parts.flat().sort()).toEqual([...lengths].sort())
    for (const part of parts) expect(part.length === 1 || part.reduce((a, b) => a + b) <= 20).toBe(true)
    expect(parts).toEqual([[40], [9, 5, 5], [4, 3]])
    expect(Training.microBatches([5, 5], (n) => n, 10)).toEqual([[5, 5]])
  })

  it("cuts families where a micro-batch would have more rows than it may", () => {
    const families = [["a", "b", "c"], ["d"], ["e", "f"]]
    expect(Training.bounded(families, 2)).toEqual([[["a", "b"]], [["c"], ["d"]], [["e", "f"]]])
    expect(Training.bounded(families, Infinity)).toEqual([families])
  })

  it.effect("skips a step without a finite loss, says of which samples, and goes on", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const { exit, order, skips, steps, vector } = yield* trainBad(dir, [1, 2, 5])
      expect(Result.isSuccess(exit)).toBe(true)
      expect(steps).toEqual([1, 4, 5, 7, 8])
      expect(skips.map(({ ids, step }) => [step, ids])).toEqual([
        [2, [order[1]]],
        [3, [order[2]]],
        [6, [order[5]]]
      ])
      expect(vector.every(Number.isFinite)).toBe(true)
    })
  )

  it.effect("stops after three such steps in a row with everything saved", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const { exit, order, steps } = yield* trainBad(dir, [2, 3, 4])
      expect(steps).toEqual([1, 2])
      expect(Result.isFailure(exit) && exit.failure._tag).toBe("TrainingError")
      expect(Result.isFailure(exit) && exit.failure.message).toContain(
        `in 3 steps in a row, the last one (step 5) of ${order[4]}`
      )
      const saved = yield* TrainingState.load(dir, 8960)
      expect(saved?.progress).toBe(5)
      expect(saved?.state.step).toBe(2)
      // Started again it goes on behind them; another bad step ends it at once.
      const again = yield* trainBad(dir, [])
      expect(again.steps).toEqual([6, 7, 8])
    })
  )

  it.effect("that gave up on its last steps gives up again, however often it is started", () =>
    Effect.gen(function* () {
      const dir = workplace()
      for (let i = 0; i < 3; i++) {
        const { exit, order } = yield* trainBad(dir, [5, 6, 7])
        expect(Result.isFailure(exit) && exit.failure.message).toContain(`the last one (step 8) of ${order[7]}`)
      }
    })
  )
})
