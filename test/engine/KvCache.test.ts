import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as KvCache from "../../src/engine/KvCache.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Golden from "./golden.ts"

describe("the cache of keys and values", () => {
  it.effect(
    "takes keys and values of whole blocks for each layer, and one of its arrays once more while it grows",
    () =>
      Effect.gen(function* () {
        const { config } = (yield* Golden.load).checkpoint
        const floats = 3 * config.kvHeads * 128 * config.headDim
        expect(KvCache.bytes(config, 3, 65)).toBe(4 * floats * (2 * config.layers + 1))
        expect(KvCache.bytes(config, 3, 128)).toBe(KvCache.bytes(config, 3, 65))
        expect(KvCache.slotsWithin(config, KvCache.bytes(config, 3, 65) - 1, 65)).toBe(2)
      })
  )

  it.effect("never takes more than its budget, however slots and tokens come", () =>
    Effect.gen(function* () {
      const { config: model } = (yield* Golden.load).checkpoint
      const { headDim, kvHeads, layers } = model
      const admission = fc.record({ slots: fc.integer({ min: 1, max: 6 }), tokens: fc.integer({ min: 1, max: 200 }) })
      fc.assert(
        fc.property(
          fc.array(admission, { minLength: 1, maxLength: 8 }),
          fc.integer({ min: 2, max: 12 }),
          (wanted, n) => {
            const memory = KvCache.bytes(model, n, 200)
            const cache = KvCache.make(model, { memory, maxSlots: 16 })
            let used = 0
            let longest = 0
            for (const { slots, tokens } of wanted) {
              const most = Math.min(16, KvCache.slotsWithin(model, memory, Math.max(tokens, longest, cache.capacity())))
              const count = Math.min(slots, most - used)
              if (count <= 0) continue
              longest = Math.max(longest, tokens)
              cache.reserve(used + count, tokens)
              const writes = Array.from({ length: count }, (_, i) => ({ row: i, slot: used + i, tokens }))
              cache.append(new Float32Array(2 * layers * count * kvHeads * tokens * headDim), count, tokens, writes)
              used += count
              const feeds = cache.feeds(Array.from({ length: used }, (_, i) => i))
              const arrays = Object.entries(feeds).filter(([name]) => /^(key|value)/.test(name))
              const allocated = arrays.reduce((sum, [, tensor]) => sum + Session.floats(tensor).buffer.byteLength, 0)
              expect(allocated).toBeLessThanOrEqual(memory)
            }
          }
        ),
        { seed: 5, numRuns: 50 }
      )
    })
  )

  it.effect("keeps what was written when it grows, when rows are copied, and in slots that are not neighbours", () =>
    Effect.gen(function* () {
      const { config: model } = (yield* Golden.load).checkpoint
      const { headDim, kvHeads, layers } = model
      const cache = KvCache.make(model, { memory: 1e9, maxSlots: 8 })
      cache.reserve(3, 10)
      // Each number tells its layer, slot, head, token and dimension.
      const number = (array: number, slot: number, head: number, token: number) =>
        ((array * 8 + slot) * 8 + head) * 1024 + token
      const write = (slot: number, tokens: number) => {
        const rows = new Float32Array(2 * layers * kvHeads * tokens * headDim)
        const start = cache.lengths[slot]!
        for (let a = 0; a < 2 * layers; a++) {
          for (let h = 0; h < kvHeads; h++) {
            for (let t = 0; t < tokens; t++) {
              rows.fill(
                number(a, slot, h, start + t),
                ((a * kvHeads + h) * tokens + t) * headDim,
                ((a * kvHeads + h) * tokens + t + 1) * headDim
              )
            }
          }
        }
        cache.append(rows, 1, tokens, [{ row: 0, slot, tokens }])
      }
      for (const slot of [0, 1, 2]) write(slot, 10 + slot)
      write(2, 1)
      write(1, 100)
      cache.reserve(6, 10)
      cache.copy(2, 4, 0, 13)
      const check = (slots: ReadonlyArray<number>, sources: ReadonlyArray<number>, many = false) => {
        const feeds = cache.feeds(slots, many)
        const mask = Session.floats(feeds["past_mask"]!)
        const tokens = feeds["past_mask"]!.dims[3]!
        for (let a = 0; a < 2 * layers; a++) {
          const data = Session.floats(feeds[a < layers ? `key${a}` : `value${a - layers}`]!)
          slots.forEach((slot, b) => {
            for (let t = 0; t < tokens; t++) {
              const held = t < cache.lengths[slot]!
              expect(mask[b * tokens + t] === 0).toBe(held)
              for (let h = 0; h < (held ? kvHeads : 0); h++) {
                expect(data[((b * kvHeads + h) * tokens + t) * headDim]).toBe(number(a, sources[b]!, h, t))
              }
            }
          })
        }
        return tokens
      }
      expect(check([0, 1, 2], [0, 1, 2])).toBe(128)
      expect(check([4, 1], [2, 1])).toBe(128)
      expect(check([2, 0], [2, 0])).toBe(64)
      // Of what is full to less than a part, many tokens see only that.
      expect(check([2], [2])).toBe(128)
      expect(check([2], [2], true)).toBe(64)
      expect(check([1, 2], [1, 2], true)).toBe(128)
    })
  )
})
