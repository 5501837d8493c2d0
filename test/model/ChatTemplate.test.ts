import { describe, expect, it } from "@effect/vitest"
import { Effect, Option, Result } from "effect"
import { readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"
import * as RealModel from "./realModel.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const user = (content: string) => ({ role: "user", content })
const render = Effect.fnUntraced(function* (source: string, tokens: Record<string, string> = {}) {
  const template = yield* ChatTemplate.make(source, "chat_template.jinja", tokens)
  return yield* template.render([user("hi {{ 1 }}"), { role: "assistant", content: "yo" }])
})

describe("ChatTemplate.make", () => {
  it.effect("renders with the whitespace rules of transformers", () =>
    Effect.gen(function* () {
      const source = `{{ bos_token }}
{% for message in messages %}
    {% if message['role'] == 'user' %}
U: {{ message.content | trim }}{{ eos_token }}
    {% else %}
A: {{ message['content'] }}
    {% endif %}
{% endfor %}
`
      expect(yield* render(source, { bos_token: "<s>", eos_token: "</s>" })).toBe("<s>\nU: hi {{ 1 }}</s>\nA: yo\n")
    })
  )

  it.effect("leaves unknown variables empty and knows the date", () =>
    Effect.gen(function* () {
      expect(yield* render("{{ bos_token }}{% if tools %}t{% endif %}{{ add_generation_prompt }}")).toBe("False")
      expect(yield* render("{{ strftime_now('%Y') }}")).toMatch(/^20\d\d$/)
    })
  )

  it.effect("strips the characters that a template names, and white space where it names none", () =>
    Effect.gen(function* () {
      const source = String.raw`{% for m in messages %}[{{ m.content.strip('\n') }}][{{ m.content.lstrip('\n ') }}][{{ m.content.rstrip('\n').split('z')[-1].lstrip('az') }}][{{ m.content.strip() }}][{{ {'x': m['content'].strip('xé🙂')}['x'] }}]{% endfor %}`
      const template = yield* ChatTemplate.make(source, "chat_template.jinja")
      // As Python's Jinja has it.
      for (const [content, text] of [
        ["\n\n  az two \n", "[  az two ][az two \n][ two ][az two][\n\n  az two \n]"],
        ["é🙂xxaxx🙂", "[é🙂xxaxx🙂][é🙂xxaxx🙂][é🙂xxaxx🙂][é🙂xxaxx🙂][a]"],
        ["\n\n", "[][][][][\n\n]"],
        [" ", "[ ][][ ][][ ]"]
      ] as const) {
        expect(yield* template.render([user(content)])).toBe(text)
      }
      expect((yield* Effect.flip(render("{{ messages.strip('x') }}"))).message).toContain("strip() takes a text")
    })
  )

  it.effect("hands on a template's own refusal", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip(render("{{ raise_exception('roles must alternate') }}"))
      expect(refused).toBeInstanceOf(ChatTemplate.ChatTemplateError)
      expect(refused.message).toContain("refuses the conversation: roles must alternate")
      const endless = "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}"
      expect((yield* Effect.flip(render(endless))).message).toContain("it takes longer than 2 s")
      const broken = yield* Effect.flip(render("{% for %}"))
      expect(broken.message).toContain("chat_template.jinja has a chat template that is not understood")
    })
  )
})

describe("ChatTemplate.load", () => {
  it.effect("finds the template where transformers finds it", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const rendered = Effect.gen(function* () {
        const template = yield* ChatTemplate.load(dir)
        return Option.isSome(template) ? yield* template.value.render([]) : undefined
      })
      const config = (json: object) =>
        Effect.promise(() => fs.writeFile(path.join(dir, "tokenizer_config.json"), JSON.stringify(json)))
      expect(yield* rendered).toBeUndefined()
      yield* config({ bos_token: "<s>" })
      expect(yield* rendered).toBeUndefined()
      yield* config({ chat_template: "{{ bos_token }}1", bos_token: { content: "<s>" } })
      expect(yield* rendered).toBe("<s>1")
      yield* config({ chat_template: [{ name: "tool_use", template: "t" }] })
      expect((yield* Effect.flip(rendered)).message).toContain("has the chat templates tool_use")
      yield* config({
        chat_template: [
          { name: "tool_use", template: "t" },
          { name: "default", template: "2" }
        ]
      })
      expect(yield* rendered).toBe("2")
      yield* Effect.promise(() => fs.writeFile(path.join(dir, "chat_template.jinja"), "3"))
      expect(yield* rendered).toBe("3")
    })
  )
})

describe("a template's variables", () => {
  it.effect("are all tokens that the configuration names, in whatever way", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const write = (name: string, json: object) =>
        Effect.promise(() => fs.writeFile(path.join(dir, name), JSON.stringify(json)))
      const names = ["bos_token", "sep_token", "cls_token", "image_token", "audio_token", "boi_token", "add_bos_token"]
      yield* write("tokenizer_config.json", {
        chat_template: names.map((name) => `{{ ${name} }}`).join("|"),
        bos_token: "<s>",
        sep_token: { content: "<sep>" },
        image_token: "<image>",
        add_bos_token: true,
        extra_special_tokens: { audio_token: "<audio>" },
        model_specific_special_tokens: { boi_token: "<boi>" }
      })
      yield* write("special_tokens_map.json", { cls_token: "<cls>", extra_special_tokens: ["<other>"] })
      const template = Option.getOrThrow(yield* ChatTemplate.load(dir))
      expect(yield* template.render([])).toBe("<s>|<sep>|<cls>|<image>|<audio>|<boi>|")
    })
  )
})

describe("what a template is given beside the conversation", () => {
  const source =
    "{{ bos_token }}|{{ 'none' if tools is none }}{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}|{{ messages | length }}|{{ 'answer' if add_generation_prompt }}|{{ enable_thinking }}"
  const rendered = (given: ChatTemplate.Given) =>
    Effect.flatMap(ChatTemplate.make(source, "chat_template.jinja", { bos_token: "<s>" }), (template) =>
      template.render([user("Hi")], given)
    )

  // As transformers renders it.
  it.effect("are tools, of which none are none, and variables, which go before the model's tokens", () =>
    Effect.gen(function* () {
      const tools = [{ name: "weather", parameters: { city: "<b>" } }]
      expect(yield* rendered({ tools })).toBe('<s>|{"name": "weather", "parameters": {"city": "<b>"}}|1||')
      expect(yield* rendered({ tools: [] })).toBe("<s>|none|1||")
      const variables = { bos_token: "[", enable_thinking: "yes", messages: [], add_generation_prompt: true, tools }
      expect(yield* rendered({ variables })).toBe("[|none|1||yes")
    })
  )

  it.effect("are fields of messages, without those that are null, and thoughts under both of their names", () =>
    Effect.gen(function* () {
      const template = yield* ChatTemplate.make(
        "{% for m in messages %}{{ 'calls' if 'tool_calls' in m }} {{ m.thinking }} {{ m.reasoning_content }}|{% endfor %}",
        "chat_template.jinja"
      )
      const messages = [
        { ...user("Hi"), tool_calls: null, thinking: null },
        { ...user("Hi"), tool_calls: [], thinking: "a" },
        { ...user("Hi"), reasoning: "b" },
        { ...user("Hi"), reasoning_content: "c", thinking: "d" }
      ]
      expect(yield* template.render(messages)).toBe("  |calls a a| b b| d c|")
    })
  )

  it.effect("are calls without a text, of which the content is none for a template that tells them by that", () =>
    Effect.gen(function* () {
      const [calls, other] = ["{{ 'none' if message['content'] is none else message['content'] }}", "{{ m.content }}"]
      const rendered = (source: string, ...messages: ReadonlyArray<ChatTemplate.Message>) =>
        Effect.flatMap(
          ChatTemplate.make(`{% for m in messages %}${source}|{% endfor %}`, "chat_template.jinja"),
          (template) => template.render(messages)
        )
      const tool_calls = [{ type: "function", function: { name: "weather", arguments: "{}" } }]
      const assistant = (content: string, more: object = {}) => ({ role: "assistant", content, ...more })
      const messages = [
        assistant("", { tool_calls }),
        assistant("Let me look.", { tool_calls }),
        assistant("", { tool_calls: [] }),
        assistant("")
      ]
      expect(yield* rendered(calls.replaceAll("message", "m"), ...messages)).toBe("none|Let me look.|||")
      // Elsewhere none would be a word, or refused.
      expect(yield* rendered(other, ...messages)).toBe("|Let me look.|||")
    })
  )

  it.effect("are for a template that knows them: tools for the one named tool_use, where there are several", () =>
    Effect.gen(function* () {
      const tools = [{ name: "weather" }]
      const ignorant = yield* ChatTemplate.make("{{ toolset }}", "chat_template.jinja")
      const refused = yield* Effect.flip(ignorant.render([], { tools }))
      expect(refused.message).toContain("has a chat template that knows no tools; leave `tools` out")

      const dir = yield* temporaryFolder
      const chat_template = [
        { name: "default", template: "1" },
        { name: "tool_use", template: "{{ tools | length }} tool" }
      ]
      const file = path.join(dir, "tokenizer_config.json")
      yield* Effect.promise(() => fs.writeFile(file, JSON.stringify({ chat_template })))
      const template = Option.getOrThrow(yield* ChatTemplate.load(dir))
      expect([yield* template.render([]), yield* template.render([], { tools })]).toEqual(["1", "1 tool"])

      // The newer way to save several: those but the usual one are in a folder of their own.
      yield* Effect.promise(async () => {
        await fs.writeFile(path.join(dir, "chat_template.jinja"), "2")
        await fs.mkdir(path.join(dir, "additional_chat_templates"))
        await fs.writeFile(path.join(dir, "additional_chat_templates/tool_use.jinja"), "{{ tools | length }} new")
      })
      const newer = Option.getOrThrow(yield* ChatTemplate.load(dir))
      expect([yield* newer.render([]), yield* newer.render([], { tools })]).toEqual(["2", "1 new"])
    })
  )
})

describe("ChatTemplate against transformers", () => {
  interface Row {
    readonly name: string
    readonly source: string
    readonly messages: ReadonlyArray<ChatTemplate.Message>
    readonly prompt: boolean
    /** Null where the template refuses the conversation. */
    readonly text: string | null
  }
  const rows: ReadonlyArray<Row> = JSON.parse(
    readFileSync(path.join(import.meta.dirname, "../fixtures/templates.json"), "utf8")
  )
  for (const [name, members] of Map.groupBy(rows, (row) => row.name)) {
    it.effect(name, () =>
      Effect.forEach(members, ({ messages, prompt, source, text }) =>
        Effect.gen(function* () {
          const template = yield* ChatTemplate.make(source, "chat_template.jinja", {
            bos_token: "<s>",
            eos_token: "</s>"
          })
          const rendered = yield* Effect.result(template.render(messages, { addGenerationPrompt: prompt }))
          expect(Result.isSuccess(rendered) ? rendered.success : null).toBe(text)
        })
      )
    )
  }
})

describe.skipIf(!RealModel.exists)("ChatTemplate of a real model", () => {
  it.effect("agrees with transformers", () =>
    Effect.gen(function* () {
      const file = path.join(import.meta.dirname, "../fixtures/smollm2.json")
      const json: { chat: Array<{ messages: Array<ChatTemplate.Message>; text: string }> } = JSON.parse(
        yield* Effect.promise(() => fs.readFile(file, "utf8"))
      )
      const template = Option.getOrThrow(yield* ChatTemplate.load(RealModel.dir))
      for (const { messages, text } of json.chat) {
        expect(yield* template.render(messages, { addGenerationPrompt: true })).toBe(text)
      }
    })
  )
})
