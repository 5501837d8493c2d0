import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Checkpoint from "../../../src/model/Checkpoint.ts"
import * as TextCodec from "../../../src/providers/onnx/TextCodec.ts"
import { workplace } from "../../workplace.ts"

const sandbox = fileURLToPath(new URL("../../../assets/sandbox", import.meta.url))
const tokenizers = fileURLToPath(new URL("../../fixtures/tokenizers", import.meta.url))

/** The codec of a model that has one of the fixtures' tokenizers and ends at the tokens `eosTokenIds`. */
const codecOf = Effect.fnUntraced(function* (
  kind: string,
  config: object,
  eosTokenIds: ReadonlyArray<number>,
  /** Added tokens that tokenizer.json does not mark as special. */
  unmarked: ReadonlyArray<number> = []
) {
  const dir = workplace()
  const json: { readonly added_tokens: ReadonlyArray<{ readonly id: number }> } = JSON.parse(
    readFileSync(join(tokenizers, kind, "tokenizer.json"), "utf8")
  )
  const added_tokens = json.added_tokens.map((token) =>
    unmarked.includes(token.id) ? { ...token, special: false } : token
  )
  writeFileSync(join(dir, "tokenizer.json"), JSON.stringify({ ...json, added_tokens }))
  writeFileSync(join(dir, "tokenizer_config.json"), JSON.stringify(config))
  const checkpoint = yield* Checkpoint.open(sandbox)
  const larger = { ...checkpoint.config, vocabSize: 1000 }
  return yield* TextCodec.load({ ...checkpoint, dir, config: larger, eosTokenIds })
})

/** Turns between `<|im_start|>` (3) and `<|im_end|>` (4); the tokenizers of the fixtures have `</s>` (2), too. */
const chatml =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

describe("the end of an answer", () => {
  it.effect("is the token that the chat template writes after one, of all at which the model stops", () =>
    Effect.gen(function* () {
      const end = (config: object, eosTokenIds: ReadonlyArray<number>) =>
        Effect.map(codecOf("llama3", config, eosTokenIds), (codec) => codec.completion(""))
      assert.deepStrictEqual(yield* end({ chat_template: chatml }, [1, 2, 4]), [4])
      assert.deepStrictEqual(yield* end({ chat_template: chatml, eos_token: "</s>" }, [1, 2, 4]), [4])
      // Without a template, or one that refuses or says nothing of it: the tokenizer's own, if the model stops there.
      assert.deepStrictEqual(yield* end({ eos_token: "</s>" }, [1, 2, 4]), [2])
      assert.deepStrictEqual(yield* end({ eos_token: "<unk>" }, [1, 2, 4]), [1])
      const refuses = "{{ raise_exception('no system message') }}"
      assert.deepStrictEqual(yield* end({ chat_template: refuses, eos_token: "</s>" }, [1, 2, 4]), [2])
      assert.deepStrictEqual(yield* end({ chat_template: chatml, eos_token: "</s>" }, [1, 2]), [2])
      assert.deepStrictEqual(yield* end({ chat_template: chatml }, []), [])
    })
  )

  it.effect("is left out of an answer that was cut off, which does not end there", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf("llama3", { eos_token: "</s>" }, [2])
      assert.deepStrictEqual(codec.completion("Hello there", "length"), codec.encode("Hello there"))
    })
  )

  it.effect("stands there once, also where the text is written with it", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf("llama3", { eos_token: "</s>" }, [2])
      assert.deepStrictEqual(codec.completion("Hello there</s>"), codec.completion("Hello there"))
      assert.deepStrictEqual(codec.completion("</s>"), [2])
      assert.deepStrictEqual(codec.completion("Hello there", "stop"), codec.completion("Hello there"))
      const endless = yield* codecOf("llama3", {}, [])
      assert.deepStrictEqual(endless.completion("Hello"), endless.encode("Hello"))
    })
  )
})

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

  it.effect("may have a special token in them, which the text before them is shown without", () =>
    Effect.gen(function* () {
      for (const kind of ["llama3", "gemma"]) {
        const codec = yield* codecOf(kind, {}, [2])
        const answer = (text: string, ...stop: ReadonlyArray<string>) => codec.answer(codec.encode(text), stop)
        assert.strictEqual(answer("one<|im_end|>two<|im_start|>user", "<|im_start|>user"), "onetwo")
        assert.strictEqual(answer("one<|im_end|>two<|im_start|>user", "two<|im_start|>"), "one")
        // Nor does one stand in that text with special tokens in its middle.
        assert.strictEqual(answer("so: one<|im_end|>two", "onetwo"), "so: ")
        assert.strictEqual(answer("so: one<|im_end|><|im_start|>two<|im_start|>", "<|im_start|>", "onetwo"), "so: ")
        // Within a token, and behind characters of several tokens.
        assert.strictEqual(answer("日本<|im_end|>hello there, Human", "uman", "lo there"), "日本hel")
        assert.strictEqual(answer("日本<|im_end|>", "end|>"), "日本")
        assert.strictEqual(answer("日本 and 🙂🙂", "🙂"), "日本 and ")
      }
    })
  )
})

describe("a completion", () => {
  it.effect("has one space before it with tokenizers that put one there, written or not", () =>
    Effect.gen(function* () {
      for (const kind of ["mistral", "mistral-v3", "unigram"]) {
        const codec = yield* codecOf(kind, {}, [2])
        assert.deepStrictEqual(codec.encode(" yes"), codec.encode("yes"))
        assert.deepStrictEqual(codec.completion(" yes"), [...codec.encode("yes"), 2])
      }
      const { encode } = yield* codecOf("mistral", {}, [2])
      // As in the middle of "The answer is: (A)".
      assert.deepStrictEqual(encode(" (A)"), [327, 265, 70, 266])
      assert.strictEqual(encode("\n\nHuman:")[0], 360)
    })
  )
})

describe("a conversation to answer", () => {
  it.effect("does not end with an answer already", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf("llama3", { chat_template: chatml }, [2, 4])
      const question = { role: "user", content: "Why?" } as const
      const messages = [question, { role: "assistant", content: "So." } as const]
      const refused = yield* Effect.flip(codec.context("a", { messages }))
      assert.include(refused.message, "ends with a message of the assistant")
      const asked = yield* codec.context("a", { messages: [...messages, question] })
      assert.deepStrictEqual(asked.slice(-2), codec.encode("<|im_start|>assistant\n").slice(-2))
    })
  )
})

describe("the text of an answer", () => {
  it.effect("leaves out the token that ends it, and those that the configuration names, marked as special or not", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf("llama3", { pad_token: "<|im_start|>" }, [2, 4], [3, 4])
      assert.strictEqual(codec.answer(codec.encode("Yes.<|im_end|>"), []), "Yes.")
      assert.strictEqual(codec.answer(codec.encode("Yes.<|im_start|><|im_end|>"), []), "Yes.")
      // What is no end of it is a part of the text.
      assert.strictEqual(codec.answer(codec.encode("<|im_end|> is an end"), []), "<|im_end|> is an end")
      assert.deepStrictEqual((yield* codec.stops("a", ["<|im_start|>"])).stopIds, [2, 4, 3])
    })
  )
})

describe("a text of far more tokens than a model has positions", () => {
  it.effect("is refused before it is encoded", () =>
    Effect.gen(function* () {
      const codec = yield* codecOf("llama3", { chat_template: chatml }, [2])
      const long = "a word ".repeat(100_000)
      const refused = Effect.map(Effect.flip(codec.context("one", long)), ({ message }) => message)
      assert.match(yield* refused, /^The text is too long: at least \d+ tokens are more than the 192 positions/)
      const messages = [{ role: "user", content: long }] as const
      assert.match((yield* Effect.flip(codec.context("one", { messages }))).message, /^The text is too long/)
      assert.isUndefined(codec.tooLong("a word ".repeat(40)))
    })
  )
})
