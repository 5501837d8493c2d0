import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Messages from "../../src/data/Messages.ts"
import * as Prompts from "../../src/data/Prompts.ts"
import * as Trl from "../../src/data/Trl.ts"

const user = { role: "user", content: "Hi" }

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
    [[{ role: "user" }], "message 1 of `prompt` has no `content`"],
    [
      [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
      "message 1 of `prompt` has a list of parts as its `content`, which has to be text"
    ],
    [[{ role: "user", content: 7 }], "message 1 of `prompt` has a `content` that is not text"],
    [["Hi"], "message 1 of `prompt` is no {role, content}"],
    [{ role: "user" }, "`prompt` is neither text nor [{role, content}]"]
  ]
  it.each(strange)("are told apart by what is wrong with them: %j", (prompt, said) => {
    assert.deepStrictEqual(Trl.decode({ prompt }), Result.fail(said))
    assert.deepStrictEqual(Prompts.conversation({ prompt }), Result.fail(said))
  })

  it("are no text", () => {
    assert.deepStrictEqual(Trl.decode({ messages: "Hi" }), Result.fail("`messages` is not [{role, content}]"))
  })
})
