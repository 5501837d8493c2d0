/** What a text goes on with, by tokenizers of the kinds that mainstream models have. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import * as Tokenizer from "../../../src/model/Tokenizer.ts"
import * as AnswerText from "../../../src/providers/onnx/AnswerText.ts"

const tokenizerOf = (kind: string) =>
  Tokenizer.load(fileURLToPath(new URL(`../../fixtures/tokenizers/${kind}`, import.meta.url)))

/** The continuation by `ids` of the text `prompt`. */
const after = (
  tokenizer: Tokenizer.Tokenizer,
  prompt: string,
  ids: ReadonlyArray<number>,
  ...stop: ReadonlyArray<string>
) => AnswerText.continuation(tokenizer, [...tokenizer.start, ...tokenizer.encode(prompt)], ids, stop, [2])

/** Those that take a space away from the text of tokens that are read alone, as Llama 2's does. */
const spacing = ["mistral", "mistral-v3", "unigram"]

describe("the text of a continuation", () => {
  it.effect("is put behind the prompt and makes the text of all tokens, whatever both are cut into", () =>
    Effect.gen(function* () {
      const said = [" yes", "ing", "\n\nHuman: hi", "  two", " 日本", "日本🙂", " é", " "]
      for (const kind of ["mistral", "mistral-v3", "unigram-bytes", "llama3", "qwen2", "gemma"]) {
        const tokenizer = yield* tokenizerOf(kind)
        for (const prompt of ["The assistant", "a\n", " ", "é", "日本", "🙂", "of \ufffd", "one<|im_end|>"]) {
          for (const text of said) {
            const ids = tokenizer.encodeAfter(text)
            const whole = tokenizer.decode([...tokenizer.encode(prompt), ...ids])
            const before = tokenizer.decode(tokenizer.encode(prompt))
            assert.strictEqual(before + after(tokenizer, prompt, ids).text, whole, `${kind}: ${prompt}|${text}`)
            assert.strictEqual(after(tokenizer, prompt, [...ids, 4, 2]).text, after(tokenizer, prompt, ids).text)
          }
        }
      }
    })
  )

  it.effect("begins a text where the prompt has no token but the model's first", () =>
    Effect.gen(function* () {
      for (const kind of spacing) {
        const tokenizer = yield* tokenizerOf(kind)
        const ids = tokenizer.encode("yes")
        assert.strictEqual(after({ ...tokenizer, start: [1] }, "", ids).text, "yes")
        assert.strictEqual(after({ ...tokenizer, start: [1] }, "Oh", ids).text, " yes")
      }
    })
  )

  it.effect("may begin with bytes that are no character, also behind a prompt of bytes", () =>
    Effect.gen(function* () {
      const tokenizer = yield* tokenizerOf("mistral")
      const bytes = tokenizer.encodeAfter("🙂")
      assert.strictEqual(bytes.length, 4)
      for (const prompt of ["a", "🙂", "🙂🙂🙂"]) {
        assert.strictEqual(after(tokenizer, prompt, bytes.slice(0, 2)).text, "\ufffd")
        assert.strictEqual(after(tokenizer, prompt, [...bytes.slice(0, 2), 265]).text, "\ufffd(")
        assert.strictEqual(after(tokenizer, prompt, [...bytes, ...bytes]).text, "🙂🙂")
      }
    })
  )
})

describe("a stop text of a continuation", () => {
  it.effect("may begin with the space that the continuation begins with; what was decoded behind it is left out", () =>
    Effect.gen(function* () {
      for (const kind of spacing) {
        const tokenizer = yield* tokenizerOf(kind)
        const word = tokenizer.encodeAfter(" yes")
        const ids = [...word, ...tokenizer.encodeAfter(" and no")]
        const stopped = after(tokenizer, "Oh", ids, " yes", " no")
        assert.deepStrictEqual(stopped, { text: "", count: word.length, stopped: true })
        assert.deepStrictEqual(after(tokenizer, "", ids, " yes").stopped, false)
        const later = after(tokenizer, "Oh", ids, " no")
        assert.deepStrictEqual(later, { text: " yes and", count: ids.length, stopped: true })
        const none = after(tokenizer, "Oh", ids, "maybe")
        assert.deepStrictEqual(none, { text: " yes and no", count: ids.length, stopped: false })
      }
    })
  )
})
