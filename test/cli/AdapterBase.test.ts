import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as AdapterBase from "../../src/cli/AdapterBase.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import { temporaryFolder } from "../model/temporaryFolder.ts"
import { tiny, train, jsonl, tokenRows } from "./TrainFixture.ts"

/** A model, another one of its shape, and an adapter that names its base. */
const folders = Effect.gen(function* () {
  const dir = yield* temporaryFolder
  const [model, tuned, adapter] = [join(dir, "model"), join(dir, "tuned"), join(dir, "adapter")]
  for (const folder of [model, tuned]) cpSync(tiny, folder, { recursive: true })
  const file = join(tuned, "model.safetensors")
  const bytes = readFileSync(file)
  bytes.writeUInt8(bytes.at(-1)! ^ 1, bytes.length - 1)
  writeFileSync(file, bytes)
  mkdirSync(adapter)
  const baseOf = (base: unknown) =>
    writeFileSync(join(adapter, "adapter_config.json"), JSON.stringify({ base_model_name_or_path: base }))
  const other = (given: string) => Effect.flatMap(Checkpoint.open(given), (of) => AdapterBase.other(adapter, of))
  return { dir, model, tuned, adapter, baseOf, other }
})

describe("an adapter's base", () => {
  it.effect("is another model where the folder that it names has other weights", () =>
    Effect.gen(function* () {
      const { baseOf, dir, model, other, tuned } = yield* folders
      baseOf(tuned)
      expect(yield* other(model)).toBe(tuned)
      expect(yield* other(tuned)).toBeUndefined()
      // By another name, or moved as a whole, it is the same model.
      symlinkSync(tuned, join(dir, "link"))
      expect(yield* other(join(dir, "link"))).toBeUndefined()
      cpSync(tuned, join(dir, "copy"), { recursive: true })
      expect(yield* other(join(dir, "copy"))).toBeUndefined()
    })
  )

  it.effect("is not known where nothing is named, or the folder is gone", () =>
    Effect.gen(function* () {
      const { baseOf, model, other, tuned } = yield* folders
      for (const base of [null, "", 7, "owner/name"]) {
        baseOf(base)
        expect(yield* other(model)).toBeUndefined()
      }
      // To Windows this is a folder of another machine.
      baseOf(`/${tuned}`)
      expect(yield* other(model)).toBeUndefined()
      baseOf(tuned)
      rmSync(tuned, { recursive: true })
      expect(yield* other(model)).toBeUndefined()
    })
  )

  it.effect("is another one where the hub's cache has the model under another name", () =>
    Effect.gen(function* () {
      const { baseOf, dir, model, other } = yield* folders
      const snapshot = join(dir, "models--owner--base/snapshots", "0".repeat(40))
      cpSync(model, snapshot, { recursive: true })
      baseOf("owner/instruct")
      expect(yield* other(snapshot)).toBe("owner/instruct")
      baseOf("owner/base")
      expect(yield* other(snapshot)).toBeUndefined()
    })
  )

  it.effect("is told of on standard error, and the command goes on", () =>
    Effect.gen(function* () {
      const { dir, model, tuned } = yield* folders
      const data = jsonl(join(dir, "rows.jsonl"), tokenRows(4))
      const run = (...args: ReadonlyArray<string>) =>
        Effect.promise(() => train("sft", "--data", data, "--steps", "1", ...args))
      const [first, next] = [join(dir, "first"), join(dir, "next")]
      expect((yield* run("--model", tuned, "--out", first)).status).toBe(0)
      const { status, stderr } = yield* run("--model", model, "--adapter", first, "--out", next)
      expect([status, stderr]).toEqual([
        0,
        expect.stringContaining(`Note: ${first} was made for ${tuned}, which is not ${model}`)
      ])
    })
  )
})
