/** Tokenizers of the kinds that mainstream models have, against what Python's library made of the same texts. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import * as Tokenizer from "../../src/model/Tokenizer.ts"

const folder = path.join(import.meta.dirname, "../fixtures/tokenizers")

interface Row {
  readonly text: string
  readonly ids: ReadonlyArray<number>
  readonly decoded: string
}

describe("Tokenizer against Python's", () => {
  for (const kind of ["llama3", "qwen2", "mistral", "mistral-v3", "gemma", "unigram"]) {
    it.effect(kind, () =>
      Effect.gen(function* () {
        const tokenizer = yield* Tokenizer.load(path.join(folder, kind))
        const rows: ReadonlyArray<Row> = JSON.parse(readFileSync(path.join(folder, kind, "golden.json"), "utf8"))
        const ours = rows.map(({ ids, text }) => ({
          text,
          ids: tokenizer.encode(text),
          decoded: tokenizer.decode(ids)
        }))
        expect(ours).toEqual(rows)
      })
    )
  }
})
