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
  const mainstream = ["llama3", "qwen2", "mistral", "mistral-v3", "gemma", "unigram"]
  for (const kind of [...mainstream, "unigram-bytes", "words", "word-pieces", "splits"]) {
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

describe("a text that goes on after another", () => {
  /** What Python's library makes of it after "The answer is:", in one text with it. */
  const joint: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<number>>>>> = {
    mistral: {
      " (A)": [327, 265, 70, 266],
      "\n\nHuman: hi": [360, 77, 305, 297, 346, 276, 327, 293, 294],
      "  two": [327, 353, 307, 299],
      " ": [327],
      Hello: [77, 290, 296, 296, 299],
      " a</s>b": [327, 286, 2, 327, 287]
    },
    "mistral-v3": {
      " (A)": [327, 265, 70, 266],
      "\tx": [261, 308],
      Hello: [77, 290, 296, 296, 299],
      " a</s>b": [327, 286, 2, 287]
    },
    unigram: { " yes": [5, 85, 111], "\tx": [88, 35], Hello: [0, 7, 9, 9, 12], " a</s>b": [5, 11, 2, 5, 54] },
    gemma: { " (A)": [327, 265, 70, 266], Hello: [77, 290, 296, 296, 299] },
    llama3: { " (A)": [225, 12, 37, 13], Hello: [44, 331, 83] }
  }
  for (const [kind, texts] of Object.entries(joint)) {
    it.effect(`has no space put in front of it: ${kind}`, () =>
      Effect.gen(function* () {
        const { encodeAfter } = yield* Tokenizer.load(path.join(folder, kind))
        for (const [text, ids] of Object.entries(texts)) expect([text, encodeAfter(text)]).toEqual([text, ids])
      })
    )
  }
})
