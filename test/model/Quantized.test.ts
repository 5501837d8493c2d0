import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import fs from "node:fs"
import * as path from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Calibration from "../../src/engine/Calibration.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Quantized from "../../src/model/Quantized.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as Random from "../../src/Random.ts"
import * as Golden from "../engine/golden.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const open = (checkpoint: Checkpoint.Checkpoint, folder: string) =>
  Quantized.open(checkpoint, Calibration.activations(checkpoint), folder)

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
      const first = yield* open(checkpoint, dir)
      expect(first.size).toBe(2 * 7 + 1)
      expect(first.get("lm_head")!.weight.shape).toEqual([64, 320])
      // Two layers and the output projection; nothing else is left beside them.
      const files = filesOf(dir)
      expect(files.length).toBe(3)
      const bytes = files.map((file) => fs.readFileSync(file))
      const inodes = files.map((file) => fs.statSync(file).ino)

      yield* open(checkpoint, dir)
      expect(files.map((file) => fs.statSync(file).ino)).toEqual(inodes)

      fs.truncateSync(files[0]!, 1000)
      const flipped = Buffer.from(bytes[1]!)
      flipped[flipped.length - 5]! ^= 1
      fs.writeFileSync(files[1]!, flipped)
      fs.rmSync(files[2]!)
      yield* open(checkpoint, dir)
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
      yield* open(yield* Checkpoint.open(Golden.folder), cache)
      const checkpoint = yield* Checkpoint.open(model)
      const { file, offset } = checkpoint.tensors.get("model.layers.1.mlp.up_proj.weight")!
      const bytes = fs.readFileSync(file)
      bytes.writeFloatLE(0.5, offset + 400)
      fs.writeFileSync(file, bytes)
      yield* open(checkpoint, cache)
      expect(filesOf(cache).length).toBe(4)
      // What comes before a layer, or how it attends, makes other inputs of it, and so other factors.
      const first = checkpoint.tensors.get("model.layers.0.mlp.down_proj.weight")!
      const earlier = fs.readFileSync(first.file)
      earlier.writeFloatLE(0.5, first.offset + 400)
      fs.writeFileSync(first.file, earlier)
      yield* open(checkpoint, cache)
      expect(filesOf(cache).length).toBe(6)
      yield* open({ ...checkpoint, config: { ...checkpoint.config, normEps: 1e-3 } }, cache)
      expect(filesOf(cache).length).toBe(8)
    }).pipe(Effect.scoped)
  )

  it.live("is refused in a sentence where it cannot be", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const file = path.join(dir, "file")
      fs.writeFileSync(file, "")
      const error = yield* Effect.flip(open(yield* Checkpoint.open(Golden.folder), path.join(file, "cache")))
      expect(error.message).toContain("set XDG_CACHE_HOME")
    }).pipe(Effect.scoped)
  )

  it("is where the user's caches are", () => {
    expect(Quantized.cacheFolder({ XDG_CACHE_HOME: "/caches" })).toBe(path.join("/caches", "charter", "int8"))
  })
})

/** The log-probabilities of the golden row's tokens in 8 bits, quantised into a folder of this test. */
const scored = (checkpoint: Checkpoint.Checkpoint, row: ReadonlyArray<number>, adapter?: Adapters.Adapter) =>
  Effect.gen(function* () {
    const quantized = yield* open(checkpoint, yield* temporaryFolder)
    const scorer = yield* Scorer.make({ ...checkpoint, quantized }, { maxTokens: 4096 })
    const at = row.slice(1).map((_, t) => t)
    return yield* scorer.score({ ids: row, adapter, kind: "logprobs", at, targets: row.slice(1) })
  }).pipe(Effect.scoped)

describe("a network in 8 bits", () => {
  // Real models have such channels. Their steps of 8 bits would leave nothing of the others.
  it.live("is the same where a few channels are much larger than the others", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const dir = path.join(yield* temporaryFolder, "model")
      fs.cpSync(Golden.folder, dir, { recursive: true })
      const checkpoint = yield* Checkpoint.open(dir)
      const scale = (name: string, columns: number, by: number) => {
        const { file, length, offset } = checkpoint.tensors.get(name)!
        const bytes = fs.readFileSync(file)
        for (const channel of [3, 17]) {
          for (let at = offset + 4 * channel; at < offset + length; at += 4 * columns) {
            bytes.writeFloatLE(bytes.readFloatLE(at) * by, at)
          }
        }
        fs.writeFileSync(file, bytes)
      }
      for (const layer of ["model.layers.0", "model.layers.1"]) {
        for (const norm of ["input_layernorm", "post_attention_layernorm"]) scale(`${layer}.${norm}.weight`, 64, 128)
        for (const map of [
          "self_attn.q_proj",
          "self_attn.k_proj",
          "self_attn.v_proj",
          "mlp.gate_proj",
          "mlp.up_proj"
        ]) {
          scale(`${layer}.${map}.weight`, 64, 1 / 128)
        }
      }
      const row = golden.rows[0]!
      expect(yield* scored(checkpoint, row)).toEqual(yield* scored(golden.checkpoint, row))
    }).pipe(Effect.scoped)
  )

  it.live.each(Golden.models)("is near that of 32 bits for %s, alone and with an adapter", (model) =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(Golden.folderOf(model))
      const settings = { rank: 4, alpha: 32, targets: Lora.allTargets(checkpoint.config) }
      const lora = yield* Effect.fromResult(Lora.init(checkpoint.config, settings, 3))
      const adapter = Adapters.fromLora(lora, checkpoint.config)
      const random = Random.make("adapter")
      adapter.vector = adapter.vector.map(() => 0.1 * random.next() - 0.05)
      const row = Array.from({ length: 24 }, (_, i) => (37 * i + 5) % checkpoint.config.vocabSize)
      for (const used of [undefined, adapter]) {
        const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
        const request = { ids: row, adapter: used, kind: "logprobs", at: row.slice(1).map((_, t) => t) } as const
        const exact = yield* scorer.score({ ...request, targets: row.slice(1) })
        const rough = yield* scored(checkpoint, row, used)
        const apart = exact.map((x, i) => Math.abs(x - rough[i]!))
        expect(apart.reduce((a, b) => a + b, 0) / apart.length).toBeLessThan(0.05)
      }
    }).pipe(Effect.scoped)
  )

  it.live("multiplies a map that is trained whole in floats", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const name = "model.layers.0.self_attn.q_proj.weight"
      const tensor = golden.checkpoint.tensors.get(name)!
      const layout = Trainables.layout([{ name, shape: tensor.shape, group: "whole" }])
      const { config, taskType } = yield* Lora.read(path.join(Golden.folder, "adapter"))
      const adapter = { config, taskType, layout, scales: new Map(), vector: yield* Safetensors.load(tensor) }
      const [row, expected] = [golden.rows[0]!, yield* golden.floats("token_logprobs")]
      const whole = yield* scored(golden.checkpoint, row, adapter)
      expect(whole).not.toEqual(yield* scored(golden.checkpoint, row))
      expect(Golden.distance(whole, expected.subarray(0, 23))).toBeLessThan(0.05)
    }).pipe(Effect.scoped)
  )

  it.live("gives a row the same log-probabilities in every batch, near those of fp32", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const golden = yield* Golden.load
      const expected = yield* golden.floats("token_logprobs")
      const quantized = yield* open(golden.checkpoint, dir)
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
