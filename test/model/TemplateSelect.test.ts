/** What Python's Jinja selects and rejects. */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"

const messages = [
  { role: "system", content: "s" },
  { role: "user", content: "u" },
  { role: "assistant", content: "a", tool_calls: [{ name: "f" }] }
]

const render = Effect.fnUntraced(function* (source: string, variables: Readonly<Record<string, unknown>> = {}) {
  const template = yield* ChatTemplate.make(source, "chat_template.jinja")
  return yield* template.render(messages, { variables })
})

it.effect("select and reject the items of a list by a test, as Llama 3.1's template its own tools", () =>
  Effect.gen(function* () {
    const source = '{{ "Tools: " + builtin_tools | reject("equalto", "code_interpreter") | join(", ") }}'
    expect(yield* render(source, { builtin_tools: ["brave_search", "code_interpreter", "wolfram_alpha"] })).toBe(
      "Tools: brave_search, wolfram_alpha"
    )
    for (const [filters, made] of [
      ["select | list", "[1, 'a', [0]]"],
      ["reject | list", "[0, None, '', [], {}]"],
      ["select('string') | list", "['a', '']"],
      ["select('number') | list", "[1, 0]"],
      ["reject('sequence') | list", "[1, 0, None]"],
      ["reject('none') | list | length", "7"],
      ["select('in', [1, 'a', []]) | list", "[1, 'a', []]"],
      ["select('==', [0]) | list", "[[0]]"],
      ["select('ne', 1) | first", "a"]
    ] as const) {
      expect(yield* render(`{{ [1, 'a', 0, none, '', [], {}, [0]] | ${filters} }}`)).toBe(made)
    }
    expect((yield* Effect.flip(render("{{ [1] | select('upper') }}"))).message).toContain("select knows no test upper")
    expect((yield* Effect.flip(render("{{ 'a' | reject }}"))).message).toContain("reject takes a list")
  })
)

it.effect("selectattr and rejectattr test what the items have under a name, or have not", () =>
  Effect.gen(function* () {
    for (const [filter, made] of [
      ["selectattr('role', 'equalto', 'user')", "user"],
      ["selectattr('role', '==', wanted)", "user"],
      ["selectattr('role', 'in', ['user', 'system'])", "system,user"],
      ["rejectattr('role', 'in', ['user', 'system'])", "assistant"],
      ["selectattr('tool_calls')", "assistant"],
      ["rejectattr('tool_calls', 'defined')", "system,user"],
      ["selectattr('tool_calls', 'undefined')", "system,user"],
      ["rejectattr('role', 'ne', 'user')", "user"]
    ]) {
      expect(yield* render(`{{ messages | ${filter} | map(attribute='role') | join(',') }}`, { wanted: "user" })).toBe(
        made
      )
    }
    // What was selected is as it was.
    const source = "{% for m in messages | selectattr('tool_calls') %}{{ m }}{% endfor %}"
    expect(yield* render(source)).toBe("{'role': 'assistant', 'content': 'a', 'tool_calls': [{'name': 'f'}]}")
  })
)
