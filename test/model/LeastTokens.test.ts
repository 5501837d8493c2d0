import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import * as LeastTokens from "../../src/model/LeastTokens.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import { byteToken } from "../../src/model/UnknownPieces.ts"

const folder = path.join(import.meta.dirname, "../fixtures/tokenizers")

/** Characters that tokenizers compose, take away, or have no token for. */
const character = fc.oneof(
  fc.constantFrom(
    "a",
    " ",
    "\n",
    "the",
    "é",
    "e\u0301",
    "\u1112\u1161\u11ab",
    "α\u0313\u0300\u0345",
    "日",
    "🙂",
    "</s>"
  ),
  fc.string({ unit: "binary", minLength: 1, maxLength: 1 })
)
const text = fc.array(character, { maxLength: 200 }).map((parts) => parts.join(""))

describe("the least tokens of a text", () => {
  for (const kind of [
    "llama3",
    "qwen2",
    "mistral",
    "mistral-v3",
    "gemma",
    "unigram",
    "words",
    "word-pieces",
    "splits"
  ]) {
    it.effect(`are never more than it has: ${kind}`, () =>
      Effect.gen(function* () {
        const { encode, least } = yield* Tokenizer.load(path.join(folder, kind))
        fc.assert(fc.property(text, (text) => least(text) <= encode(text).length))
      })
    )
  }

  it.effect("are a share of its bytes, by the longest token", () =>
    Effect.gen(function* () {
      for (const kind of ["llama3", "qwen2", "mistral", "mistral-v3", "gemma"]) {
        const { least } = yield* Tokenizer.load(path.join(folder, kind))
        expect(least("a word ".repeat(10_000)), kind).toBeGreaterThan(500)
      }
    })
  )

  it("are as few as the longest token allows, which any part of the vocabulary may have", () => {
    const bytes = Object.fromEntries(Array.from({ length: 256 }, (_, byte) => [byteToken(byte), byte]))
    const least = (vocab: object, added: ReadonlyArray<string> = []) =>
      LeastTokens.of({
        added_tokens: added.map((content) => ({ content, lstrip: false, rstrip: false })),
        model: { type: "BPE", byte_fallback: true, vocab }
      })("é".repeat(50))
    // Two bytes each, and the tokens of bytes have texts of six.
    expect(least(bytes)).toBe(Math.ceil(100 / 6))
    expect(least({ ...bytes, ["é".repeat(10)]: 256 })).toBe(5)
    expect(least({ ...bytes, ["é".repeat(10)]: 256 }, ["a", "é".repeat(20)])).toBe(3)
    // One byte without a token, and characters are left out.
    const { "<0x41>": _, ...incomplete } = bytes
    expect(least(incomplete)).toBe(0)
  })

  it("are not known where a tokenizer may leave out a part of it", () => {
    const json = JSON.parse(readFileSync(path.join(folder, "llama3/tokenizer.json"), "utf8")) as object
    const words = "a word ".repeat(1000)
    expect(LeastTokens.of(json)(words)).toBeGreaterThan(0)
    const others = [
      { normalizer: { type: "Strip", strip_left: true, strip_right: true } },
      { normalizer: { type: "Replace", pattern: { String: "word" }, content: "" } },
      { pre_tokenizer: { type: "Split", pattern: { String: " " }, behavior: "Removed", invert: false } },
      { added_tokens: [{ id: 3, content: "<mask>", lstrip: true, rstrip: false }] },
      { model: { type: "WordLevel", vocab: { "[UNK]": 0 }, unk_token: "[UNK]" } }
    ]
    for (const other of others) expect(LeastTokens.of({ ...json, ...other })(words)).toBe(0)
  })
})
