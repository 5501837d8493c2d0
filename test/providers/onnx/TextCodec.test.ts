import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import * as Checkpoint from "../../../src/model/Checkpoint.ts"
import * as TextCodec from "../../../src/providers/onnx/TextCodec.ts"

const sandbox = fileURLToPath(new URL("../../../assets/sandbox", import.meta.url))

describe("the stop texts of an answer", () => {
  it.effect("are cut off with what follows them; an empty one, which all begin with, is refused", () =>
    Effect.gen(function* () {
      const codec = yield* TextCodec.load(yield* Checkpoint.open(sandbox))
      assert.strictEqual(codec.answer(codec.encode(" bake a cake"), [" cake"]), " bake a")
      assert.deepStrictEqual((yield* codec.stops("a", [" cake"])).stopTexts, [" cake"])
      const refused = yield* Effect.flip(codec.stops("a", [" cake", ""]))
      assert.strictEqual(
        refused.message,
        "A stop text is empty and would end every answer before it begins; leave it out."
      )
    })
  )
})
