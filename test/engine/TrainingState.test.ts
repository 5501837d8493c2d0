import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { readFileSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as TrainingState from "../../src/engine/TrainingState.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import { temporaryFolder } from "../model/temporaryFolder.ts"

const state = () => ({
  parameters: Float32Array.of(1, 2),
  m: Float32Array.of(3, 4),
  v: Float32Array.of(5, 6),
  step: 7
})

describe("the state of a training", () => {
  it.effect("comes back as it was saved, with what its caller counts", () =>
    Effect.gen(function* () {
      const dir = join(yield* temporaryFolder, "state")
      expect(yield* TrainingState.load(dir, 2)).toBeUndefined()
      yield* TrainingState.save(dir, state(), 11, { beta: 0.05 }, "of these rows")
      const saved = { state: state(), progress: 11, more: { beta: 0.05 } }
      expect(yield* TrainingState.load(dir, 2, "of these rows")).toEqual(saved)
      // Who does not say what is trained gets any.
      expect(yield* TrainingState.load(dir, 2)).toEqual(saved)
    })
  )

  it.effect("is written to its end where who saves it is interrupted, so the next one writes alone", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const saving = yield* Effect.forkChild(TrainingState.save(dir, state(), 11), { startImmediately: true })
      yield* Fiber.interrupt(saving)
      expect(readdirSync(dir)).toEqual(["state.safetensors"])
      expect(yield* TrainingState.load(dir, 2)).toEqual({ state: state(), progress: 11, more: {} })
    })
  )

  it.effect("is refused where it is of another training or of another size", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      yield* TrainingState.save(dir, state(), 11, {}, "of these rows")
      const message = (size: number, training?: string) =>
        Effect.map(Effect.flip(TrainingState.load(dir, size, training)), (error) => error.message)
      expect(yield* message(2, "of others")).toContain(`or batch size); delete ${dir} to start over`)
      for (const size of [1, 3]) expect(yield* message(size)).toContain(`(parameters of 2 numbers, not ${size})`)
    })
  )

  it.effect("is refused where a disk has changed any of its numbers or counts", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const file = join(dir, "state.safetensors")
      yield* TrainingState.save(dir, state(), 11, { beta: 0.05 })
      const written = readFileSync(file)
      const change = (from: Uint8Array, to: Uint8Array) => {
        const bytes = Buffer.from(written)
        const at = bytes.indexOf(from)
        expect(at).toBeGreaterThan(0)
        bytes.set(to, at)
        writeFileSync(file, bytes)
      }
      const floats = (...numbers: ReadonlyArray<number>) => new Uint8Array(Float32Array.from(numbers).buffer)
      const counts = ['"step":"7"', '"progress":"11"', "0.05"] as const
      for (const [from, to] of [
        [floats(1, 2), floats(1, 2.5)],
        [floats(3, 4), floats(3.5, 4)],
        [floats(5, 6), floats(5, -6)],
        ...counts.map((text) => [Buffer.from(text), Buffer.from(text.replace(/\d(?=\D*$)/, "9"))] as const)
      ] as const) {
        change(from, to)
        expect((yield* Effect.flip(TrainingState.load(dir, 2))).message).toContain("has other numbers than were saved")
      }
    })
  )

  it.effect("of earlier versions has no checksum and says less; one that lacks an array is none", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const { step: _, ...arrays } = state()
      const write = (shapes: Readonly<Record<string, ReadonlyArray<number>>>) =>
        Safetensors.write(
          join(dir, "state.safetensors"),
          Object.entries(shapes).map(([name, shape]) => ({ name, shape, data: arrays[name as keyof typeof arrays] })),
          { step: "7", progress: "11" }
        )
      yield* write({ parameters: [2], m: [2], v: [2] })
      expect(yield* TrainingState.load(dir, 2, "of these rows")).toEqual({ state: state(), progress: 11, more: {} })
      yield* write({ parameters: [2], m: [2] })
      expect((yield* Effect.flip(TrainingState.load(dir, 2))).message).toContain("(v of 0 numbers, not 2)")
      yield* write({ parameters: [2], m: [2, 1], v: [2] })
      expect((yield* Effect.flip(TrainingState.load(dir, 2))).message).toContain(
        "holds the state of another training (m"
      )
    })
  )
})
