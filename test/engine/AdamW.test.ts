/** The step over whole vectors; what it computes of each number is held against PyTorch in `Optimizer.test.ts`. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as AdamW from "../../src/engine/AdamW.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Optimizer from "../../src/onnx/Optimizer.ts"

const of = (sizes: Readonly<Record<string, number>>) =>
  Trainables.layout(Object.entries(sizes).map(([group, size]) => ({ name: `of ${group}`, shape: [size], group })))

const numbers = (size: number, scale: number) => Float32Array.from({ length: size }, (_, i) => scale * Math.sin(i + 1))

/** A state as bytes, which are compared at once. */
const bytes = ({ m, parameters, step, v }: AdamW.State) =>
  Buffer.concat([...[parameters, m, v].map((x) => new Uint8Array(x.buffer)), Buffer.from([step])])

/** Algorithm 2 of Loshchilov & Hutter 2019 for the first step, in double precision. */
const first = (x: number, g: number, learningRate: number, weightDecay: number): number =>
  x - learningRate * (g / (Math.abs(g) + Optimizer.defaults.epsilon) + weightDecay * x)

describe("a step of AdamW", () => {
  it.effect("goes through vectors of more than a piece, each group at its own rates, clipped by the norm of all", () =>
    Effect.gen(function* () {
      const layout = of({ policy: 300_001, value: 3 })
      const step = yield* AdamW.make(layout)
      const begun = numbers(layout.size, 1)
      const gradient = numbers(layout.size, 0.1)
      const state = Learner.initialState(begun)
      const rates = { learningRates: [0.1, 0.5], weightDecays: [0.01, 0], maxGradNorm: 1 }
      const norm = yield* step(state, gradient, rates)
      expect(norm).toBeCloseTo(Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0)), 3)
      const clip = 1 / (norm + 1e-6)
      for (const i of [0, 1, 262_143, 262_144, 300_000, 300_001, 300_003]) {
        const [rate, decay] = i < 300_001 ? [0.1, 0.01] : [0.5, 0]
        expect(state.parameters[i]).toBeCloseTo(first(begun[i]!, gradient[i]! * clip, rate, decay), 4)
        expect(state.m[i]).toBeCloseTo(0.1 * gradient[i]! * clip, 7)
      }
      expect(state.step).toBe(1)
      // The state is its own: what it was begun with is not changed.
      expect(begun[300_003]).toBe(numbers(layout.size, 1)[300_003])
    })
  )

  it.effect("changes nothing where the gradient, or a parameter that would come of it, is not finite", () =>
    Effect.gen(function* () {
      const layout = of({ policy: 300_001 })
      const step = yield* AdamW.make(layout)
      const rates = { learningRates: [0.1], weightDecays: [0.01], maxGradNorm: 1 }
      const state = Learner.initialState(numbers(layout.size, 1))
      yield* step(state, numbers(layout.size, 0.1), rates)
      const before = Learner.copyOf(state)
      const broken = numbers(layout.size, 0.1)
      broken[300_000] = Infinity
      expect(yield* step(state, broken, rates)).toBeNaN()
      expect(bytes(state).equals(bytes(before))).toBe(true)
      // The last number alone is too large for its decay.
      state.parameters[300_000] = 3e38
      before.parameters[300_000] = 3e38
      expect(yield* step(state, numbers(layout.size, 0.1), { ...rates, weightDecays: [1e3] })).toBeNaN()
      expect(bytes(state).equals(bytes(before))).toBe(true)
      expect(yield* step(state, numbers(layout.size, 0.1), rates)).toBeGreaterThan(0)
      expect(state.step).toBe(2)
    })
  )

  it.live("is whole or not at all where it is interrupted", () =>
    Effect.gen(function* () {
      const layout = of({ policy: 300_001 })
      const step = yield* AdamW.make(layout)
      const rates = { learningRates: [0.1], weightDecays: [0], maxGradNorm: 1 }
      const gradient = numbers(layout.size, 0.1)
      const start = Learner.initialState(numbers(layout.size, 1))
      const begun = bytes(start)
      yield* step(start, gradient, rates)
      const whole = bytes(start)
      const seen = new Set<number>()
      for (let turns = 0; turns < 16; turns++) {
        const state = Learner.initialState(numbers(layout.size, 1))
        const fiber = yield* Effect.forkChild(step(state, gradient, rates))
        for (let turn = 0; turn < turns; turn++) yield* Effect.promise(() => new Promise(setImmediate))
        yield* Fiber.interrupt(fiber)
        seen.add(state.step)
        expect(bytes(state).equals(state.step === 1 ? whole : begun)).toBe(true)
      }
      expect(seen).toEqual(new Set([0, 1]))
    })
  )
})
