import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { copyFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as TokenRows from "../../src/cli/TokenRows.ts"
import * as TrainRows from "../../src/cli/TrainRows.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import { sandbox, workplace } from "./TrainFixture.ts"

const tokenizer = fileURLToPath(new URL("../fixtures/tokenizers/qwen2/tokenizer.json", import.meta.url))

/** A model whose tokenizer ends what it says with `<|im_end|>` (4). */
const modelOf = Effect.gen(function* () {
  const dir = workplace()
  copyFileSync(tokenizer, join(dir, "tokenizer.json"))
  const checkpoint = yield* Checkpoint.open(sandbox)
  return { ...checkpoint, dir, config: { ...checkpoint.config, vocabSize: 1000 }, eosTokenIds: [4] }
})

describe("TokenRows", () => {
  it.effect("ends a text once for its reward, as learning does, also one that was written with its end", () =>
    Effect.gen(function* () {
      const model = yield* modelOf
      const rows = yield* TokenRows.make(model)
      const { decode } = yield* Tokenizer.load(model.dir)
      const judged = (text: string) =>
        Effect.map(rows.whole({ _tag: "text", text }, { ended: true }), ({ ids }) => decode(ids))
      const pair = { chosen: "Two.<|im_end|>", rejected: "Three.<|im_end|>" }
      const { first, second } = yield* TrainRows.pair(yield* TrainRows.encoder(model, 100), "reward")(pair)

      assert.deepStrictEqual([decode(first), decode(second)], [pair.chosen, pair.rejected])
      assert.strictEqual(yield* judged("Two.<|im_end|>"), "Two.<|im_end|>")
      assert.strictEqual(yield* judged("Two."), "Two.<|im_end|>")
      // What stands behind the end is read, and ends anew.
      assert.strictEqual(yield* judged("Two.<|im_end|>\n"), "Two.<|im_end|>\n<|im_end|>")
    })
  )
})
