import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Seen from "../../src/data/Seen.ts"

describe("Seen", () => {
  it("tells keys apart as a map does, while it grows", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ maxLength: 2 }), { maxLength: 300 }), (keys) => {
        const seen = Seen.make()
        const map = new Map<string, number>()
        for (const [i, key] of keys.entries()) {
          assert.strictEqual(seen.meet(key, i + 1), map.get(key))
          if (!map.has(key)) map.set(key, i + 1)
        }
      }),
      { seed: 3 }
    )
    const seen = Seen.make()
    for (let i = 1; i <= 20_000; i++) assert.isUndefined(seen.meet(`key ${i}`, i))
    for (let i = 1; i <= 20_000; i++) assert.strictEqual(seen.meet(`key ${i}`, 99), i)
  })
})
