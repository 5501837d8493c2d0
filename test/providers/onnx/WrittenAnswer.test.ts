import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import * as Tokenizer from "../../../src/model/Tokenizer.ts"
import * as WrittenAnswer from "../../../src/providers/onnx/WrittenAnswer.ts"

/** Tokenizers of the fixtures have `</s>` (2), `<|im_start|>` (3) and `<|im_end|>` (4). */
const tokenizerOf = (kind: string) =>
  Tokenizer.load(fileURLToPath(new URL(`../../fixtures/tokenizers/${kind}`, import.meta.url)))

const prompt = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"

/** What is written after the prompt, with the tokens that end an answer and the one that ends it otherwise. */
const written = Effect.fnUntraced(function* (kind: string, answer: string, ends = [4], end = [2]) {
  const tokenizer = yield* tokenizerOf(kind)
  const found = WrittenAnswer.of(tokenizer, { prompt, whole: prompt + answer }, ends, end)!
  assert.deepStrictEqual(found.prompt, tokenizer.encode(prompt))
  return tokenizer.decode(found.answer)
})

describe("an answer as the template writes it", () => {
  it.effect("ends with the token that ends it, once, and not with the line break behind", () =>
    Effect.gen(function* () {
      for (const kind of ["qwen2", "llama3", "gemma"]) {
        assert.strictEqual(
          yield* written(kind, "<think>\nHm\n</think>\nSo.<|im_end|>\n"),
          "<think>\nHm\n</think>\nSo.<|im_end|>"
        )
        // One that is within the answer is no end of it, and one that the model does not stop at is none.
        assert.strictEqual(yield* written(kind, "a<|im_end|>b<|im_end|>"), "a<|im_end|>b<|im_end|>")
        assert.strictEqual(yield* written(kind, "a<|im_end|>b"), "a<|im_end|>b</s>")
        assert.strictEqual(yield* written(kind, "So.<|im_end|>\n", [2]), "So.<|im_end|>\n</s>")
        assert.strictEqual(yield* written(kind, "So.", [], []), "So.")
      }
    })
  )

  it.effect("follows the prompt's own tokens, also where both together would have others", () =>
    Effect.gen(function* () {
      const { encode } = yield* tokenizerOf("qwen2")
      const answer = "\n\nSo.<|im_end|>"
      assert.notDeepEqual(encode(prompt + answer).slice(0, encode(prompt).length), encode(prompt))
      assert.strictEqual(yield* written("qwen2", answer), answer)
    })
  )

  it.effect("is none where the conversation does not begin with the prompt", () =>
    Effect.gen(function* () {
      const texts = { prompt: `${prompt}<think>\n`, whole: `${prompt}So.<|im_end|>` }
      assert.isUndefined(WrittenAnswer.of(yield* tokenizerOf("qwen2"), texts, [4], [4]))
    })
  )
})
