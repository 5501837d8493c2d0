import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import fs from "node:fs"
import * as path from "node:path"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Quantized from "../../src/model/Quantized.ts"
import * as Golden from "../engine/golden.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const filesOf = (dir: string) => fs.readdirSync(dir).map((name) => path.join(dir, name))

describe("quantisation", () => {
  it("is within half a step of each weight, turned, with a scale for each output", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 70 }).chain((inputs) =>
          fc.tuple(
            fc.constant(inputs),
            fc.array(fc.array(fc.float({ noNaN: true, min: -8, max: 8 }), { minLength: inputs, maxLength: inputs }), {
              minLength: 1,
              maxLength: 5
            })
          )
        ),
        ([inputs, rows]) => {
          const w = Float32Array.from(rows.flat())
          const { scale, weight } = Quantized.quantize(w, rows.length, inputs)
          rows.forEach((row, o) => {
            expect(scale[o]).toBeCloseTo(Math.max(...row.map(Math.abs)) / 127, 6)
            row.forEach((x, i) => {
              const q = weight[i * rows.length + o]!
              expect(Math.abs(q)).toBeLessThanOrEqual(127)
              expect(Math.abs(q * scale[o]! - x)).toBeLessThanOrEqual(0.5001 * scale[o]! + 1e-30)
            })
          })
        }
      ),
      { numRuns: 50 }
    )
  })
})

describe("the cache of quantised weights", () => {
  it.live("makes a file a layer once, and again where one is damaged", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const checkpoint = yield* Checkpoint.open(Golden.folder)
      const first = yield* Quantized.open(checkpoint, dir)
      expect(first.size).toBe(2 * 7 + 1)
      expect(first.get("lm_head")!.weight.shape).toEqual([64, 320])
      // Two layers and the output projection; nothing else is left beside them.
      const files = filesOf(dir)
      expect(files.length).toBe(3)
      const bytes = files.map((file) => fs.readFileSync(file))
      const inodes = files.map((file) => fs.statSync(file).ino)

      yield* Quantized.open(checkpoint, dir)
      expect(files.map((file) => fs.statSync(file).ino)).toEqual(inodes)

      fs.truncateSync(files[0]!, 1000)
      const flipped = Buffer.from(bytes[1]!)
      flipped[flipped.length - 5]! ^= 1
      fs.writeFileSync(files[1]!, flipped)
      fs.rmSync(files[2]!)
      yield* Quantized.open(checkpoint, dir)
      expect(filesOf(dir)).toEqual(files)
      files.forEach((file, i) => expect(fs.readFileSync(file).equals(bytes[i]!)).toBe(true))
    }).pipe(Effect.scoped)
  )

  it.live("keeps other weights apart, and shares the layers that are equal", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const model = path.join(dir, "model")
      fs.cpSync(Golden.folder, model, { recursive: true })
      const cache = path.join(dir, "cache")
      yield* Quantized.open(yield* Checkpoint.open(Golden.folder), cache)
      const checkpoint = yield* Checkpoint.open(model)
      const { file, offset } = checkpoint.tensors.get("model.layers.1.mlp.up_proj.weight")!
      const bytes = fs.readFileSync(file)
      bytes.writeFloatLE(0.5, offset + 400)
      fs.writeFileSync(file, bytes)
      yield* Quantized.open(checkpoint, cache)
      expect(filesOf(cache).length).toBe(4)
    }).pipe(Effect.scoped)
  )

  it.live("is refused in a sentence where it cannot be", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const file = path.join(dir, "file")
      fs.writeFileSync(file, "")
      const error = yield* Effect.flip(Quantized.open(yield* Checkpoint.open(Golden.folder), path.join(file, "cache")))
      expect(error.message).toContain("set XDG_CACHE_HOME")
    }).pipe(Effect.scoped)
  )

  it("is where the user's caches are", () => {
    expect(Quantized.cacheFolder({ XDG_CACHE_HOME: "/caches" })).toBe(path.join("/caches", "charter", "int8"))
  })
})

describe("a network in 8 bits", () => {
  it.live("gives a row the same log-probabilities in every batch, near those of fp32", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const golden = yield* Golden.load
      const expected = yield* golden.floats("token_logprobs")
      const quantized = yield* Quantized.open(golden.checkpoint, dir)
      const score = Effect.fnUntraced(function* (maxTokens: number) {
        const scorer = yield* Scorer.make({ ...golden.checkpoint, quantized }, { maxTokens })
        return yield* Effect.forEach(
          golden.rows,
          (row, b) => {
            const ids = row.slice(0, 24 - 5 * b)
            const at = ids.slice(1).map((_, t) => t)
            return scorer.score({ ids, adapter: undefined, kind: "logprobs", at, targets: ids.slice(1) })
          },
          { concurrency: "unbounded" }
        )
      }, Effect.scoped)
      const together = yield* score(4096)
      const alone = yield* score(1)
      together.forEach((row, b) => {
        expect(Golden.distance(row, alone[b]!)).toBeLessThan(1e-4)
        if (b === 0) expect(Golden.distance(row, expected.subarray(0, 23))).toBeLessThan(0.2)
      })
    }).pipe(Effect.scoped)
  )
})
