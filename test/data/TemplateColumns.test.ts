import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as TemplateColumns from "../../src/data/TemplateColumns.ts"
import * as Trl from "../../src/data/Trl.ts"

const tools = [{ type: "function", function: { name: "weather" } }]
const given = (row: Record<string, unknown>) => Result.merge(TemplateColumns.decode(row, true))

describe("the columns for a chat template", () => {
  it("are tools, as a list or as JSON, and variables", () => {
    const chat_template_kwargs = { enable_thinking: false, custom: null }
    assert.deepStrictEqual(given({ tools, chat_template_kwargs, prompt: [] }), { tools, chat_template_kwargs })
    assert.deepStrictEqual(given({ tools: JSON.stringify(tools) }), { tools })
  })

  it("have tools among the variables in place of the row's, as in TRL", () => {
    const chat_template_kwargs = { tools, enable_thinking: true }
    const expected = { tools, chat_template_kwargs: { enable_thinking: true } }
    assert.deepStrictEqual(given({ tools: [{ name: "other" }], chat_template_kwargs }), expected)
    assert.deepStrictEqual(given({ tools, chat_template_kwargs: { tools: null } }), {})
  })

  it.each([{}, { tools: null }, { tools: [] }, { tools: "" }, { tools: "[]" }, { tools: "null" }])(
    "give nothing where they are empty: %j",
    (row) => {
      assert.deepStrictEqual(given(row), {})
      for (const none of [null, {}, ""]) assert.deepStrictEqual(given({ ...row, chat_template_kwargs: none }), {})
      assert.deepStrictEqual(TemplateColumns.decode(row, false), Result.succeed({}))
    }
  )

  it.each([
    [{ tools: "weather" }, "`tools` is neither a list of objects nor the JSON of one"],
    [{ tools: ["weather"] }, "`tools` is neither a list of objects nor the JSON of one"],
    [{ tools: { name: "weather" } }, "`tools` is neither a list of objects nor the JSON of one"],
    [{ chat_template_kwargs: [] }, "`chat_template_kwargs` is no object"],
    // transformers refuses these two, and takes the third for an option of its own.
    [
      { chat_template_kwargs: { messages: [] } },
      "`chat_template_kwargs` has `messages`, which it cannot set; leave it out"
    ],
    [
      { chat_template_kwargs: { add_generation_prompt: false } },
      "`chat_template_kwargs` has `add_generation_prompt`, which it cannot set; leave it out"
    ],
    [
      { chat_template_kwargs: { chat_template: "" } },
      "`chat_template_kwargs` has `chat_template`, which it cannot set; leave it out"
    ]
  ])("are rejected where they are none: %j", (row, reason) => {
    assert.strictEqual(given(row), reason)
  })

  it("belong to conversations", () => {
    const prompt = [{ role: "user", content: "Rain?" }]
    assert.deepStrictEqual<unknown>(Trl.decode({ prompt, tools }), Result.succeed({ prompt, tools }))
    // A text goes through no template; TRL does not look at the column there, whatever it has.
    assert.deepStrictEqual<unknown>(Trl.decode({ prompt: "Rain?", tools }), Result.succeed({ prompt: "Rain?" }))
    assert.deepStrictEqual<unknown>(Trl.decode({ text: "Rain?", tools: "python" }), Result.succeed({ text: "Rain?" }))
  })

  it("have no place in an example, which says so", () => {
    const messages = [
      { role: "user", content: "Rain?" },
      { role: "assistant", content: "No." }
    ]
    const row = Result.getOrThrow(Trl.decode({ messages, tools }))
    assert.deepStrictEqual(Trl.example(row), Result.fail("it has `tools`, for which an example has no place"))
  })
})
