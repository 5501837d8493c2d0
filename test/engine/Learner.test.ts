/** What a learner does of a step; gradients and numbers are held against PyTorch in `families` and `Optimizer.test.ts`. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { copyFileSync, renameSync } from "node:fs"
import { join } from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Op from "../../src/onnx/Op.ts"
import { temporaryFolder } from "../model/temporaryFolder.ts"
import * as Golden from "./golden.ts"

const rates = { learningRates: [0.01, 0.1], weightDecays: [0, 0.5], maxGradNorm: 1 }

/** A learner of an adapter whose last parameters, the value head's, have rates of their own. */
const make = Effect.fnUntraced(function* (objective: Objective.Objective = Objective.sft) {
  const golden = yield* Golden.load
  const { config } = golden.checkpoint
  const lora = yield* Effect.fromResult(
    Lora.init(config, { rank: 2, alpha: 4, targets: Lora.allTargets(config) }, 1, {})
  )
  const adapter = Adapters.fromLora(lora, config, { value: true })
  adapter.vector.fill(0.25, adapter.layout.groups[0]!.size)
  const learner = yield* Learner.make(golden.checkpoint, adapter, objective, { microTokens: 72 })
  const rows = golden.rows.slice(0, 2).map((ids) => ({ ids, weights: ids.map((_, t) => Number(t > 0)) }))
  const micro = (own: typeof rows) => Batch.supervised(own, Batch.totalWeight(rows))
  return { adapter, learner, micro, rows }
})

const same = (a: Learner.State, b: Learner.State): boolean =>
  a.step === b.step &&
  (["parameters", "m", "v"] as const).every((name) => Buffer.from(a[name].buffer).equals(Buffer.from(b[name].buffer)))

describe("a learner's step", () => {
  it.effect("that could not be compiled is when it is asked for again, once what was lacking is there", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(Golden.folder, name), join(dir, name))
      const checkpoint = yield* Checkpoint.open(dir)
      const lora = yield* Lora.read(`${Golden.folder}/adapter`, checkpoint.config)
      const adapter = Adapters.fromLora(lora, checkpoint.config)
      const learner = yield* Learner.make(checkpoint, adapter, Objective.sft, { microTokens: 64 })
      const batch = [Batch.supervised([{ ids: [5, 6, 7], weights: [0, 1, 1] }], 2)]
      const step = learner.step(Learner.initialState(adapter.vector), batch, rates)
      const [weights, away] = [join(dir, "model.safetensors"), join(dir, "away")]
      renameSync(weights, away)
      expect((yield* Effect.flip(step)).phase).toBe("compile")
      renameSync(away, weights)
      expect(Learner.applied(yield* step)).toBe(true)
    })
  )

  it.effect("adds up micro-batches, has rates for each group, and leaves what its state began with", () =>
    Effect.gen(function* () {
      const { adapter, learner, micro, rows } = yield* make()
      const begun = adapter.vector.slice()
      const [whole, parts] = [Learner.initialState(adapter.vector), Learner.initialState(adapter.vector)]
      for (let step = 0; step < 2; step++) {
        const together = yield* learner.step(whole, [micro(rows)], rates)
        const apart = yield* learner.step(
          parts,
          rows.map((row) => micro([row])),
          rates
        )
        expect(Math.abs(together.loss - apart.loss)).toBeLessThan(1e-6)
        expect(Math.abs(together.grad_norm / apart.grad_norm - 1)).toBeLessThan(1e-4)
      }
      expect(Golden.distance(whole.m, parts.m)).toBeLessThan(1e-4 * Golden.largest(whole.m))
      expect(adapter.vector).toEqual(begun)
      // The value head has no gradient here: it only decays, by its own rate, twice.
      expect(whole.parameters.at(-1)).toBeCloseTo(0.25 * (1 - 0.1 * 0.5) ** 2, 6)
    })
  )

  it.effect("changes nothing where a rate is too large for what would come of it", () =>
    Effect.gen(function* () {
      const { adapter, learner, micro, rows } = yield* make()
      const state = Learner.initialState(adapter.vector)
      yield* learner.step(state, [micro(rows)], rates)
      const before = Learner.copyOf(state)
      const skipped = yield* learner.step(state, [micro(rows)], { ...rates, learningRates: [0.01, 2e38] })
      expect(Learner.applied(skipped)).toBe(false)
      expect(same(state, before)).toBe(true)
      yield* learner.step(state, [micro(rows)], rates)
      expect([state.step, before.step]).toEqual([2, 1])
      expect(same(state, before)).toBe(false)
    })
  )

  it.live("is not touched by one before it that was interrupted", () =>
    Effect.gen(function* () {
      const { adapter, learner, micro, rows } = yield* make()
      const fresh = () => Learner.initialState(adapter.vector)
      const batch = rows.map((row) => micro([row]))
      const whole = fresh()
      yield* learner.step(whole, batch, rates)
      for (let turns = 0; turns < 3; turns++) {
        // The runtime may only begin with a run when nobody waits for it any more.
        const fiber = yield* Effect.forkChild(learner.step(fresh(), batch, rates))
        for (let turn = 0; turn < turns; turn++) yield* Effect.promise(() => new Promise(setImmediate))
        yield* Fiber.interrupt(fiber)
        const state = fresh()
        yield* learner.step(state, batch, rates)
        expect(same(state, whole)).toBe(true)
      }
    })
  )

  it.effect("changes nothing where the loss alone is not finite", () =>
    Effect.gen(function* () {
      const endless = Objective.make({
        ...Objective.sft,
        name: "endless",
        build: (outputs, inputs) => ({
          loss: Op.shift(Objective.sft.build(outputs, inputs).loss, Infinity),
          metrics: {}
        })
      })
      const { adapter, learner, micro, rows } = yield* make(endless)
      const state = Learner.initialState(adapter.vector)
      const metrics = yield* learner.step(state, [micro(rows)], rates)
      expect(metrics.loss).toBe(Infinity)
      expect(Learner.applied(metrics)).toBe(false)
      expect(same(state, Learner.initialState(adapter.vector))).toBe(true)
    })
  )
})
