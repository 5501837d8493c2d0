/**
 * Rows with tools, variables of the template, thoughts and calls, through a template in the shape of Qwen 3's.
 *
 * The texts are those of TRL 1.16 with transformers 5.23: `trl.data_utils.apply_chat_template` for the same rows, this
 * template and the fixture's tokenizer. Its completions have a line break after the end of the turn, which is left out.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { copyFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as TokenRows from "../../src/cli/TokenRows.ts"
import * as TrainRows from "../../src/cli/TrainRows.ts"
import * as ModelRows from "../../src/data/ModelRows.ts"
import type * as Rows from "../../src/data/Rows.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import { sandbox, workplace } from "./TrainFixture.ts"

const tokenizer = fileURLToPath(new URL("../fixtures/tokenizers/qwen2/tokenizer.json", import.meta.url))

const qwen = String.raw`
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- '# Tools' }}
    {%- for tool in tools %}
        {{- '\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- if message.reasoning_content is string and loop.last %}
            {{- '<think>\n' + message.reasoning_content.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}
            {%- if message.content or not loop.first %}
                {{- '\n' }}
            {%- endif %}
            {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
`

const deepSeek = `
{%- for message in messages -%}
    <|im_start|>{{ message['role'] + '\\n' }}
    {%- if message['content'] is none -%}
        {%- for call in message['tool_calls'] %}{{ '<calls>' + call['function']['name'] }}{% endfor -%}
    {%- else -%}
        {{ message['content'] }}
    {%- endif -%}
    {{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
`

/** Turns without thoughts, calls and tools. */
const plain =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

/** The model of the sandbox with this chat template, and with a tokenizer of turns that end with `<|im_end|>` (4). */
const modelOf = Effect.fnUntraced(function* (template: string) {
  const dir = workplace()
  copyFileSync(tokenizer, join(dir, "tokenizer.json"))
  writeFileSync(join(dir, "chat_template.jinja"), template)
  const checkpoint = yield* Checkpoint.open(sandbox)
  const config = { ...checkpoint.config, vocabSize: 1000, maxPositions: 1000 }
  return { ...checkpoint, dir, config, eosTokenIds: [4] }
})

/** What is learnt and scored of rows, as `[prompt, answer]`, or why nothing is. */
const reader = Effect.fnUntraced(function* (template: string) {
  const model = yield* modelOf(template)
  const { decode, encode } = yield* Tokenizer.load(model.dir)
  const encoder = yield* TrainRows.encoder(model, 1000)
  const tokenRows = yield* TokenRows.make(model)
  const orReason = <A>(made: Effect.Effect<A, string>): Effect.Effect<A | string> =>
    Effect.map(Effect.result(made), Result.merge)
  const parts = (ids: ReadonlyArray<number>, from: number) => [decode(ids.slice(0, from)), decode(ids.slice(from))]
  return {
    encode,
    learnt: (row: Rows.Row) =>
      orReason(
        Effect.map(TrainRows.example(encoder)(row), ({ ids, weights }) => parts(ids, Array.from(weights).indexOf(1)))
      ),
    ids: (row: Rows.Row) => Effect.map(TrainRows.example(encoder)(row), ({ ids }) => ids),
    compared: (row: Rows.Row, kind: "reward" | "dpo" = "dpo") =>
      orReason(
        Effect.map(TrainRows.pair(encoder, kind)(row), ({ first, from, second }) => [
          ...parts(first, from!),
          decode(second.slice(from!))
        ])
      ),
    asked: (row: Rows.Row) => orReason(Effect.map(TrainRows.prompt(encoder, 1)(row), ({ ids }) => decode(ids))),
    continued: (row: Rows.Row) =>
      orReason(
        Effect.gen(function* () {
          const { input } = yield* Effect.fromResult(ModelRows.decode(["prompt", "ids"])({ line: 1, row }))
          return decode(yield* tokenRows.prompt(input))
        })
      ),
    scored: (row: Rows.Row, ended = false) =>
      orReason(
        Effect.gen(function* () {
          const read = ModelRows.decode(["text", "ids", "completion"])({ line: 1, row })
          const { from, ids } = yield* tokenRows.whole((yield* Effect.fromResult(read)).input, { ended })
          return parts(ids, from)
        })
      )
  }
})

const user = (content: string) => ({ role: "user", content })
const assistant = (content: string, more: object = {}) => ({ role: "assistant", content, ...more })
const tools = [{ type: "function", function: { name: "weather", description: "Tells <it>." } }]
const tool_calls = [{ type: "function", function: { name: "weather", arguments: { city: "Zürich", days: 2 } } }]

const sum = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
const told = '{"type": "function", "function": {"name": "weather", "description": "Tells <it>."}}<|im_end|>\n'
const rain = "<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n"
const called = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich", "days": 2}}\n</tool_call><|im_end|>'
const calling = { prompt: [user("Rain?")], completion: [assistant("", { tool_calls })], tools }

describe("an answer with thoughts or calls", () => {
  it.effect("is what the chat template writes after the prompt, with one end", () =>
    Effect.gen(function* () {
      const { learnt } = yield* reader(qwen)
      const prompt = [user("2+2?")]
      for (const name of ["reasoning_content", "thinking", "reasoning"]) {
        const row = { prompt, completion: [assistant("4", { [name]: "two and two" })] }
        assert.deepStrictEqual(yield* learnt(row), [sum, "<think>\ntwo and two\n</think>\n\n4<|im_end|>"])
      }
      const system = { role: "system", content: "Be brief." }
      assert.deepStrictEqual(yield* learnt({ ...calling, prompt: [system, ...calling.prompt] }), [
        `<|im_start|>system\nBe brief.\n\n# Tools\n${told}${rain}`,
        called
      ])
      const both = assistant("Let me look.", { reasoning_content: "I need it.", tool_calls })
      assert.deepStrictEqual(yield* learnt({ messages: [user("Rain?"), both], tools: JSON.stringify(tools) }), [
        `<|im_start|>system\n# Tools\n${told}${rain}`,
        `<think>\nI need it.\n</think>\n\nLet me look.\n${called}`
      ])
    })
  )

  it.effect("may be calls alone, also where the template tells them by a content that is none, as DeepSeek's do", () =>
    Effect.gen(function* () {
      const { asked, learnt } = yield* reader(deepSeek)
      const call = { role: "assistant", content: null, tool_calls }
      const written = "<calls>weather<|im_end|>"
      const messages = [user("Rain?"), call]
      assert.deepStrictEqual(yield* learnt({ messages }), [rain, written])
      assert.strictEqual(
        yield* asked({ prompt: [...messages, user("And?")] }),
        `${rain}${written}\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n`
      )
    })
  )

  it.effect("has the tokens that TRL gives it", () =>
    Effect.gen(function* () {
      const { ids } = yield* reader(qwen)
      const row = { prompt: [user("2+2?")], completion: [assistant("4", { reasoning_content: "two and two" })] }
      // `_tokenize` of prompt and completion, without the 203 of the line break.
      const trl = [
        [3, 89, 87, 263, 203, 22, 15, 22, 35, 4, 203, 3, 321, 87, 283, 346, 88, 203, 32, 88, 76, 266, 79, 34, 203, 88],
        [91, 83, 276, 72, 269, 91, 83, 203, 32, 19, 88, 76, 266, 79, 34, 292, 24, 4]
      ].flat()
      assert.deepStrictEqual(yield* ids(row), trl)
    })
  )

  it.effect("leaves the thoughts of earlier answers to the template", () =>
    Effect.gen(function* () {
      const { learnt } = yield* reader(qwen)
      const first = [user("2+2?"), assistant("4", { reasoning_content: "two and two" }), user("3+3?")]
      const asked = `${sum}4<|im_end|>\n<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n`
      const second = assistant("6", { reasoning_content: "three and three" })
      assert.deepStrictEqual(yield* learnt({ messages: [...first, second] }), [
        asked,
        "<think>\nthree and three\n</think>\n\n6<|im_end|>"
      ])
      assert.deepStrictEqual(yield* learnt({ messages: [...first, assistant("6")] }), [asked, "6<|im_end|>"])
    })
  )

  it.effect("is scored and rewarded as it is learnt", () =>
    Effect.gen(function* () {
      const { learnt, scored } = yield* reader(qwen)
      const messages = [user("2+2?"), assistant("4", { thinking: "two and two" })]
      for (const row of [calling, { messages }]) {
        const expected = yield* learnt(row)
        assert.isArray(expected)
        assert.deepStrictEqual(yield* scored(row), expected)
        assert.deepStrictEqual(yield* scored(row, true), expected)
      }
    })
  )

  it.effect("is not the same as one that says the same without them", () =>
    Effect.gen(function* () {
      const { compared } = yield* reader(qwen)
      const [thought, quick] = [assistant("4", { reasoning_content: "two and two" }), assistant("4")]
      const expected = [sum, "<think>\ntwo and two\n</think>\n\n4<|im_end|>", "4<|im_end|>"]
      assert.deepStrictEqual(
        yield* compared({ prompt: [user("2+2?")], chosen: [thought], rejected: [quick] }),
        expected
      )
      const whole = { chosen: [user("2+2?"), thought], rejected: [user("2+2?"), quick] }
      assert.deepStrictEqual(yield* compared(whole, "reward"), expected)
      const twice = { prompt: [user("2+2?")], chosen: [thought], rejected: [{ ...thought, id: 1 }] }
      assert.include(yield* compared(twice), "chosen and rejected are the same")
    })
  )

  it.effect("is rejected where the template leaves them out, and the field is named", () =>
    Effect.gen(function* () {
      const { compared, learnt, scored } = yield* reader(plain)
      const messages = (field: object) => ({ messages: [user("2+2?"), assistant("4", field)] })
      for (const [name, value] of Object.entries({ thinking: "Hm", tool_calls, function_call: { name: "weather" } })) {
        const reason = `the model's chat template writes nothing of the answer's \`${name}\`; leave it out`
        assert.strictEqual(yield* learnt(messages({ [name]: value })), reason)
        assert.strictEqual(yield* scored(messages({ [name]: value })), reason)
        const pair = { prompt: [user("2+2?")], chosen: [assistant("4", { [name]: value })], rejected: [assistant("4")] }
        assert.strictEqual(yield* compared(pair), reason)
      }
      // Of two, the one that is written does not excuse the other.
      const { learnt: withThoughts } = yield* reader(qwen)
      const both = messages({ reasoning_content: "Hm", function_call: { name: "weather" } })
      assert.include(yield* withThoughts(both), "nothing of the answer's `function_call`")
    })
  )

  it.effect("is rejected where it does not follow the prompt, or was cut off before its end", () =>
    Effect.gen(function* () {
      const { learnt } = yield* reader(qwen)
      const messages = [user("Hi"), assistant("Yo", { reasoning_content: "Hm" })]
      assert.include(
        yield* learnt({ messages, chat_template_kwargs: { enable_thinking: false } }),
        "the conversation does not begin with its prompt; leave out what the answer has beside its content"
      )
      assert.include(yield* learnt({ messages, finish: "length" }), "the answer has `reasoning_content`, with which")
    })
  )

  it.effect("is its text alone where they are empty, as Parquet has them", () =>
    Effect.gen(function* () {
      const { learnt } = yield* reader(plain)
      const nothing = {
        reasoning_content: null,
        thinking: "",
        tool_calls: [],
        function_call: { name: null }
      }
      assert.deepStrictEqual(yield* learnt({ messages: [user("2+2?"), assistant("4", nothing)] }), [sum, "4<|im_end|>"])
      assert.include(yield* learnt({ messages: [user("2+2?"), assistant("", nothing)] }), "the completion is empty")
    })
  )
})

describe("what a row gives its template", () => {
  it.effect("is in the prompt, wherever one is read", () =>
    Effect.gen(function* () {
      const { asked, compared, continued, learnt, scored } = yield* reader(qwen)
      const prompt = [user("Rain?")]
      const text = `<|im_start|>system\n# Tools\n${told}${rain}`
      const answered = { prompt, completion: [assistant("No.")] }
      const pair = { prompt, chosen: [assistant("No.")], rejected: [assistant("Yes.")] }
      for (const given of [{ tools }, { tools: JSON.stringify(tools) }, { chat_template_kwargs: { tools } }]) {
        assert.strictEqual(yield* asked({ prompt, ...given }), text)
        assert.strictEqual(yield* continued({ prompt, ...given }), text)
        assert.deepStrictEqual(yield* learnt({ ...answered, ...given }), [text, "No.<|im_end|>"])
        assert.deepStrictEqual(yield* scored({ ...answered, ...given }), [text, "No.<|im_end|>"])
        assert.deepStrictEqual(yield* compared({ ...pair, ...given }), [text, "No.<|im_end|>", "Yes.<|im_end|>"])
      }
      const quick = { chat_template_kwargs: { enable_thinking: false } }
      assert.strictEqual(yield* asked({ prompt, ...quick }), `${rain}<think>\n\n</think>\n\n`)
      assert.strictEqual(yield* continued({ prompt, ...quick }), `${rain}<think>\n\n</think>\n\n`)
      assert.deepStrictEqual(yield* learnt({ ...answered, ...quick }), [
        `${rain}<think>\n\n</think>\n\n`,
        "No.<|im_end|>"
      ])
    })
  )

  it.effect("is nothing where it is empty", () =>
    Effect.gen(function* () {
      const { asked } = yield* reader(plain)
      for (const tools of [null, undefined, [], "", "[]", "null"]) {
        const row = { prompt: [user("Rain?")], tools, chat_template_kwargs: {} }
        assert.strictEqual(yield* asked(row), rain)
      }
    })
  )

  it.effect("says nothing of texts, and is rejected for a template that has no place for tools", () =>
    Effect.gen(function* () {
      const { asked, continued, learnt, scored } = yield* reader(plain)
      const row = { prompt: "Rain?", completion: " No." }
      assert.deepStrictEqual(yield* learnt({ ...row, tools }), yield* learnt(row))
      assert.deepStrictEqual(yield* scored({ text: "Rain? No.", tools }), yield* scored({ text: "Rain? No." }))
      assert.deepStrictEqual(yield* continued({ prompt: "Rain?", tools }), yield* continued({ prompt: "Rain?" }))
      assert.include(yield* asked({ prompt: [user("Rain?")], tools }), "has a chat template that knows no tools")
    })
  )
})
