import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Packing from "../../src/engine/Packing.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Golden from "./golden.ts"

const row = fc
  .array(fc.record({ id: fc.integer({ min: 3, max: 310 }), weight: fc.constantFrom(0, 1, 1) }), {
    minLength: 2,
    maxLength: 20
  })
  .map((tokens) => ({ ids: tokens.map((t) => t.id), weights: tokens.map((t) => t.weight) }))
const batches = fc.array(row, { minLength: 1, maxLength: 6 }).filter((rows) => Batch.totalWeight(rows) > 0)

/** A first step at a rate of 1 without clipping or moments: the parameters tell what the gradient was. */
const rates = { learningRates: [1], weightDecays: [0], maxGradNorm: 1e9 }

const bins = <Row extends Batch.WeightedRow>(rows: ReadonlyArray<Row>, width: number) =>
  Packing.bins(rows, (row) => row.ids.length, width)

describe("packing", () => {
  it.effect("gives the loss and the gradients of the rows by themselves", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const config = { rank: 4, alpha: 8, targets: Lora.allTargets(checkpoint.config) }
      const lora = yield* Lora.read(`${Golden.folder}/adapter`, checkpoint.config)
      expect(lora.config.rank).toBe(config.rank)
      const adapter = Adapters.fromLora(lora, checkpoint.config)
      const learner = yield* Learner.make(checkpoint, adapter, Objective.sft, { microTokens: 128 })
      /** Loss and gradient (the first moment is a tenth of it). */
      const gradient = Effect.fnUntraced(function* (batch: ReadonlyArray<Learner.MicroBatch>) {
        const state = Learner.initialState(adapter.vector.slice())
        const { grad_norm, loss } = yield* learner.step(state, batch, rates)
        return { loss, grad_norm, gradient: state.m.map((x) => x * 10) }
      })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(batches, fc.integer({ min: 20, max: 60 }), async (rows, width) => {
            const total = Batch.totalWeight(rows)
            const apart = await Effect.runPromise(gradient(rows.map((row) => Batch.supervised([row], total))))
            const together = await Effect.runPromise(
              gradient(bins(rows, width).map((bin) => Batch.supervised(bin, total)))
            )
            expect(Math.abs(apart.loss - together.loss)).toBeLessThan(1e-5)
            expect(Golden.distance(apart.gradient, together.gradient)).toBeLessThan(1e-5)
          }),
          { numRuns: 25 }
        )
      )
    })
  )

  it("fills bins with every row, none of them wider than asked for unless a row is", () => {
    fc.assert(
      fc.property(batches, fc.integer({ min: 1, max: 40 }), (rows, width) => {
        const found = bins(rows, width)
        expect(new Set(found.flat())).toEqual(new Set(rows))
        expect(found.flat()).toHaveLength(rows.length)
        for (const bin of found) {
          const tokens = bin.reduce((n, { ids }) => n + ids.length, 0)
          expect(bin.length === 1 || tokens <= width).toBe(true)
        }
      })
    )
  })

  it("puts each row, the longest first, into the first bin that has room", () => {
    const lengths = [3, 9, 5, 5, 2, 9, 4, 1, 2, 12, 3]
    expect(Packing.bins(lengths, (n) => n, 10)).toEqual([[12], [9, 1], [9], [5, 5], [4, 3, 3], [2, 2]])
  })

  it("does not look for room again where rows of the same length found none", () => {
    let looks = 0
    /** A length that counts how often it is compared. */
    const counted = (length: number) => ({ valueOf: () => (looks++, length) }) as unknown as number
    const items = Array.from({ length: 2000 }, (_, i) => counted(i % 2 === 0 ? 60 : 70))
    expect(Packing.bins(items, (length) => length, 100)).toHaveLength(items.length)
    expect(looks).toBeLessThan(100 * items.length)
  })
})
