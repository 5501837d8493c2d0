import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Messages from "../../src/data/Messages.ts"
import * as Prompts from "../../src/data/Prompts.ts"
import * as Trl from "../../src/data/Trl.ts"
import type { Message } from "../../src/Policy.ts"

const user = { role: "user", content: "Hi" } as const

describe("a row's messages", () => {
  it("are those of known roles with text", () => {
    const messages = [{ role: "system", content: "" }, user, { ...user, name: "Ada" }]
    assert.deepStrictEqual(Messages.decode("messages", messages), Result.succeed(messages as never))
  })

  const strange: ReadonlyArray<readonly [prompt: unknown, said: string]> = [
    [
      [user, { role: "bot", content: "" }],
      'message 2 of `prompt` has the role "bot"; known are system, user, assistant'
    ],
    [[{ content: "Hi" }], "message 1 of `prompt` has no `role`"],
    [[{ role: null, content: "Hi" }], "message 1 of `prompt` has no `role`"],
    [[user, { role: "user" }, { role: "bot" }], "message 2 of `prompt` has no `content`"],
    [[{ role: "user", content: null, tool_calls: [{ name: "weather" }] }], "message 1 of `prompt` has no `content`"],
    [
      [{ role: "assistant", content: 7, tool_calls: [{ name: "weather" }] }],
      "message 1 of `prompt` has a `content` that is not text"
    ],
    [[{ role: "user" }], "message 1 of `prompt` has no `content`"],
    [
      [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
      "message 1 of `prompt` has a list of parts as its `content`, which has to be text"
    ],
    [[{ role: "assistant", content: null, tool_calls: [{ name: null }] }], "message 1 of `prompt` has no `content`"],
    [[{ role: "user", content: 7 }], "message 1 of `prompt` has a `content` that is not text"],
    [["Hi"], "message 1 of `prompt` is no {role, content}"],
    [{ role: "user" }, "`prompt` is neither text nor [{role, content}]"]
  ]
  it("may have calls that are nested deeper than functions can call each other", () => {
    const nested = (inner: string) => JSON.parse(`${"[".repeat(20_000)}${inner}${"]".repeat(20_000)}`) as unknown
    const calling = (inner: string) => ({ role: "assistant", content: "So.", tool_calls: nested(inner) }) as const
    const conversation = () => [user, calling("1"), user]
    assert.deepStrictEqual(Messages.more(calling("1")), ["tool_calls"])
    assert.deepStrictEqual(Messages.more(calling("null")), [])
    // Nobody knows whether two of them are the same.
    const pair = { chosen: [...conversation(), calling("1")], rejected: [...conversation(), calling("2")] }
    const found = Result.flatMap(Trl.decode(pair), Trl.compared)
    assert.deepStrictEqual(found, Result.fail("`chosen` and `rejected` do not share their prompt"))
  })

  it.each(strange)("are told apart by what is wrong with them: %j", (prompt, said) => {
    assert.deepStrictEqual(Trl.decode({ prompt }), Result.fail(said))
    assert.deepStrictEqual(Prompts.conversation({ prompt }), Result.fail(said))
  })

  it("may have calls of tools in the place of a text, as OpenAI's have", () => {
    const call = { role: "assistant", content: null, tool_calls: [{ name: "weather" }] }
    const row = Result.getOrThrow(Trl.decode({ messages: [user, call] }))
    assert.deepStrictEqual<unknown>(row, { messages: [user, { ...call, content: "" }] })
  })

  it("are no text", () => {
    assert.deepStrictEqual(Trl.decode({ messages: "Hi" }), Result.fail("`messages` is not [{role, content}]"))
  })
})

describe("what a message says beside its text", () => {
  const assistant = (more: object) => ({ role: "assistant", content: "4", ...more }) as Message
  const call = { function: { name: "weather", arguments: {} } }

  it("are its thoughts and its calls, each under one of several names", () => {
    assert.deepStrictEqual(Messages.more(assistant({ name: "Ada", id: 7 })), [])
    assert.deepStrictEqual(Messages.more(assistant({ thinking: "Hm", reasoning_content: "Hm" })), ["reasoning_content"])
    assert.deepStrictEqual(Messages.more(assistant({ reasoning: "Hm", function_call: call })), [
      "reasoning",
      "function_call"
    ])
    const both = assistant({ thinking: "Hm", reasoning_content: "Hm", tool_calls: [call] })
    assert.deepStrictEqual(Messages.without(both, "thinking"), assistant({ tool_calls: [call] }))
  })

  it("is nothing where a field is empty", () => {
    for (const nothing of [null, "", " \n", "[]", " {}", "null", [], {}, { name: null }, 0, false]) {
      assert.deepStrictEqual(Messages.more(assistant({ thinking: nothing, tool_calls: nothing })), [])
    }
  })

  it("is left out under its other names as well; any other field alone", () => {
    const said = assistant({ reasoning: "Hm", thinking: "Hm", name: "Ada" })
    assert.deepStrictEqual(Messages.without(said, "reasoning"), assistant({ name: "Ada" }))
    assert.deepStrictEqual(Messages.without(said, "name"), assistant({ reasoning: "Hm", thinking: "Hm" }))
  })

  it("makes two messages the same only with the same role and text", () => {
    assert.isTrue(Messages.same(assistant({}), assistant({ thinking: null, name: "Ada" })))
    assert.isFalse(Messages.same(assistant({}), { ...assistant({}), content: "5" }))
    assert.isFalse(Messages.same(assistant({}), { ...assistant({}), role: "user" }))
    assert.isFalse(Messages.same(assistant({}), assistant({ tool_calls: [call] })))
  })

  it("tells prompts apart, as other fields do not", () => {
    const pair = (first: object, second: object) =>
      Trl.preferenceExample({
        chosen: [user, assistant(first), user, assistant({})] as ReadonlyArray<Message>,
        rejected: [user, assistant(second), user, { ...assistant({}), content: "5" }] as ReadonlyArray<Message>
      })
    assert.isTrue(Result.isSuccess(pair({ id: 1, thinking: "" }, { id: 2 })))
    assert.isTrue(Result.isSuccess(pair({ tool_calls: [call] }, { tool_calls: [structuredClone(call)] })))
    const none = Result.fail("`chosen` and `rejected` do not share their prompt")
    assert.deepStrictEqual(pair({ tool_calls: [call] }, {}), none)
    assert.deepStrictEqual(pair({ thinking: "Hm" }, { thinking: "Ah" }), none)
  })

  it("has no place in an example, which says so", () => {
    const row = { messages: [user, assistant({ tool_calls: [call] })] } as Trl.Row
    const reason = "the answer has `tool_calls`, for which an example has no place"
    assert.deepStrictEqual(Trl.example(row), Result.fail(reason))
    const pair = { prompt: [user], chosen: [assistant({ thinking: "Hm" })], rejected: [assistant({})] } as Trl.Row
    assert.deepStrictEqual(
      Trl.preferenceExample(pair),
      Result.fail("the answer has `thinking`, for which an example has no place")
    )
  })
})
