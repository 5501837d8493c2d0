import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Prefill from "../../src/engine/Prefill.ts"

const { block } = Prefill

/** What each slot holds after a plan has been carried out, and how many tokens were computed for it. */
const carryOut = (plan: Prefill.Plan, held: ReadonlyArray<Prefill.Prompt>) => {
  const slots = new Map(held.map(({ ids, slot }) => [slot, [...ids]]))
  const sampled: Array<number> = []
  let computed = 0
  const copy = ({ end, from, start, to }: Prefill.Copy) => {
    const source = slots.get(from)!
    expect(source.length).toBeGreaterThanOrEqual(end)
    slots.set(to, [...(slots.get(to) ?? []).slice(0, start), ...source.slice(start, end)])
  }
  plan.copies.forEach(copy)
  for (const { copies, ends, rows, width } of plan.runs) {
    for (const { ids, slot, start } of rows) {
      const before = slots.get(slot) ?? []
      expect(before.length).toBe(start)
      expect(ids.length).toBeLessThanOrEqual(width)
      expect(rows[0]!.start > 0).toBe(start > 0)
      slots.set(slot, [...before, ...ids])
      computed += ids.length
    }
    copies.forEach(copy)
    for (const { row, slot } of ends) {
      // The first new token is read off the last token of the prompt.
      expect(slots.get(slot)).toEqual(slots.get(rows[row]!.slot))
      sampled.push(slot)
    }
  }
  return { slots, sampled, computed }
}

const numbered = (prompts: ReadonlyArray<ReadonlyArray<number>>, first = 0): Array<Prefill.Prompt> =>
  prompts.map((ids, i) => ({ slot: first + i, ids }))

const sequence = (length: number, seed: number) => Array.from({ length }, (_, t) => (t * 7 + seed * 13) % 101)

describe("a prefill", () => {
  it("brings every prompt into its slot and reads one token off each, whatever is shared", () => {
    const part = fc.tuple(fc.integer({ min: 1, max: 3 * block }), fc.integer({ min: 0, max: 2 }))
    const prompt = fc
      .array(part, { minLength: 1, maxLength: 3 })
      .map((parts) => parts.flatMap(([n, s]) => sequence(n, s)))
    fc.assert(
      fc.property(
        fc.array(prompt, { minLength: 1, maxLength: 12 }),
        fc.array(prompt, { maxLength: 4 }),
        fc.integer({ min: 1, max: 512 }),
        (prompts, before, maxTokens) => {
          const held = numbered(before)
          const fresh = numbered(prompts, before.length)
          const plan = Prefill.plan(fresh, held, maxTokens)
          const { sampled, slots } = carryOut(plan, held)
          for (const { ids, slot } of fresh) expect(slots.get(slot)).toEqual(ids)
          expect(sampled.toSorted((a, b) => a - b)).toEqual(fresh.map(({ slot }) => slot))
          for (const { rows, width } of plan.runs) {
            expect(rows.length).toBeGreaterThan(0)
            expect(rows.length === 1 || rows.length * width <= maxTokens).toBe(true)
          }
        }
      ),
      { seed: 3, numRuns: 300 }
    )
  })

  it("computes a shared prefix once, and equal prompts once", () => {
    const prefix = sequence(2 * block, 1)
    const prompts = [1, 2, 3, 4].map((i) => [...prefix, i, i + 1])
    expect(carryOut(Prefill.plan(numbered(prompts), [], 4096), []).computed).toBe(2 * block + 4 * 2)
    const equal = numbered([prompts[0]!, prompts[0]!, prompts[0]!])
    expect(carryOut(Prefill.plan(equal, [], 4096), []).computed).toBe(2 * block + 2)
  })

  it("copies what a row in the batch holds already", () => {
    const prefix = sequence(2 * block, 1)
    const held = numbered([[...prefix, 1, 2, 3]])
    const { computed } = carryOut(Prefill.plan(numbered([[...prefix, 9]], 1), held, 4096), held)
    expect(computed).toBe(1)
  })

  it("cuts a prompt in a way that depends on nothing but the prompt", () => {
    const ids = sequence(150, 2)
    const rowsOf = (plan: Prefill.Plan, slot: number) =>
      plan.runs.flatMap(({ rows, width }) =>
        rows.filter((row) => row.slot === slot).map(({ start, ids }) => [start, ids.length, width])
      )
    const alone = rowsOf(Prefill.plan([{ slot: 0, ids }], [], 4096), 0)
    const others = [5, 70, 200].map((n, i) => sequence(n, i + 3))
    expect(rowsOf(Prefill.plan(numbered([ids, ...others]), [], 256), 0)).toEqual(alone)
    expect(alone).toEqual([
      [0, 64, 64],
      [64, 64, 64],
      [128, 22, 32]
    ])
  })
})
