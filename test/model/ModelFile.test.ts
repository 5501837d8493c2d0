import { assert, describe, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import fs from "node:fs/promises"
import { syncBuiltinESMExports } from "node:module"
import { runInNewContext } from "node:vm"
import * as ModelFile from "../../src/model/ModelFile.ts"

describe("a file of a model", () => {
  it.effect("is known to be missing where Node's errors are of another context, as in Jest", () =>
    Effect.gen(function* () {
      const missing: unknown = runInNewContext(`Object.assign(new Error("no such file"), { code: "ENOENT" })`)
      const stat = vi.spyOn(fs, "stat").mockRejectedValue(missing)
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          stat.mockRestore()
          syncBuiltinESMExports()
        })
      )
      syncBuiltinESMExports()
      assert.isUndefined(yield* ModelFile.readText("chat_template.jinja"))
    })
  )
})
