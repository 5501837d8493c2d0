import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import * as TrainRows from "../../src/cli/TrainRows.ts"
import { jsonl, tokenRows, workplace } from "./TrainFixture.ts"

describe("A file of rows", () => {
  it.effect("is known by its bytes, of which no more than some are in memory", () =>
    Effect.gen(function* () {
      const file = jsonl(join(workplace(), "rows.jsonl"), tokenRows(2000))
      const { hash } = yield* TrainRows.read(file, () => Effect.succeed({}))
      assert.strictEqual(hash, createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 16))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("that cannot be read again is named in a sentence", () =>
    Effect.gen(function* () {
      const file = jsonl(join(workplace(), "rows.jsonl"), tokenRows(1))
      const gone = TrainRows.read(file, () => Effect.sync(() => (rmSync(file), {})))
      assert.include((yield* Effect.flip(gone)).message, `${file} cannot be read: ENOENT`)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
