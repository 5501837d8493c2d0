import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { cpSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Checkpoint from "../../../src/model/Checkpoint.ts"
import * as TextCodec from "../../../src/providers/onnx/TextCodec.ts"
import { workplace } from "../../workplace.ts"

const sandbox = fileURLToPath(new URL("../../../assets/sandbox", import.meta.url))
const tokenizers = fileURLToPath(new URL("../../fixtures/tokenizers", import.meta.url))

/** The codec of a model that has one of the fixtures' tokenizers and ends at the tokens `eosTokenIds`. */
const codecOf = Effect.fnUntraced(function* (kind: string, config: object, eosTokenIds: ReadonlyArray<number>) {
  const dir = workplace()
  cpSync(join(tokenizers, kind, "tokenizer.json"), join(dir, "tokenizer.json"))
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
})
