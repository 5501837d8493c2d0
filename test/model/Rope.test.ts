import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import { readFileSync } from "node:fs"
import * as ModelConfig from "../../src/model/ModelConfig.ts"
import * as Rope from "../../src/model/Rope.ts"

/** What transformers computes, written by `bench/parity/rope.py`. */
const cases: ReadonlyArray<{
  readonly name: string
  readonly config: unknown
  readonly frequencies: ReadonlyArray<number>
  readonly attention_factor: number
  readonly positions: ReadonlyArray<number>
  readonly cos: ReadonlyArray<number>
  readonly sin: ReadonlyArray<number>
}> = JSON.parse(readFileSync(new URL("../fixtures/rope.json", import.meta.url), "utf8"))

describe("rotary embeddings against transformers", () => {
  for (const { attention_factor, config, cos, frequencies, name, positions, sin } of cases) {
    it(`turn by the same frequencies: ${name}`, () => {
      const { attention } = Result.getOrThrow(ModelConfig.fromJson(config, "config.json"))
      const rope = attention[0]!.rope!
      const ours = Rope.frequencies(rope)
      expect(ours).toHaveLength(frequencies.length)
      // Two steps of float32.
      frequencies.forEach((f, i) => expect(Math.abs(ours[i]! / f - 1)).toBeLessThan(2.4e-7))
      expect(Rope.attentionFactor(rope)).toBeCloseTo(attention_factor, 12)

      const tables = Rope.tables(rope, positions.at(-1)! + 1)
      const half = frequencies.length
      positions.forEach((p, n) => {
        for (let i = 0; i < half; i++) {
          // An angle of p radians is rounded to float32, and so is what it is computed from.
          const tolerance = 1e-6 + p * frequencies[i]! * 3e-7
          expect(Math.abs(tables.cos[p * half + i]! - cos[n * half + i]!)).toBeLessThan(tolerance)
          expect(Math.abs(tables.sin[p * half + i]! - sin[n * half + i]!)).toBeLessThan(tolerance)
        }
      })
    })
  }
})
