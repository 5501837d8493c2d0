/** What Python's Jinja makes of the same templates. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"

/** What a template makes of a text, its variable `t`. */
const render = Effect.fnUntraced(function* (source: string, text: string = "") {
  const template = yield* ChatTemplate.make(`{% set t = messages[0].content %}${source}`, "chat_template.jinja")
  return yield* template.render([
    { role: "user", content: text },
    { role: "assistant", content: "b" }
  ])
})

describe("white space", () => {
  it.effect("is Python's to trim and strip: not U+FEFF, but U+0085 and the separators from U+001C on", () =>
    Effect.gen(function* () {
      const source = "[{{ t|trim }}][{{ t.strip() }}][{{ t.lstrip() }}][{{ t.rstrip() }}]"
      for (const [text, made] of [
        ["\ufeff hi \ufeff", "[\ufeff hi \ufeff][\ufeff hi \ufeff][\ufeff hi \ufeff][\ufeff hi \ufeff]"],
        ["\x1c\x1f\x85 a b\x85\u3000", "[a b][a b][a b\x85\u3000][\x1c\x1f\x85 a b]"],
        [" \t\n\v\f\r\xa0\u2003\u2028", "[][][][]"],
        ["hi", "[hi][hi][hi][hi]"]
      ] as const) {
        expect(yield* render(source, text)).toBe(made)
      }
    })
  )

  it.effect("is what trim strips where it is given no characters, in whatever way it is written", () =>
    Effect.gen(function* () {
      const source =
        "[{{ t | trim('a ') }}][{{ t|trim(chars='\x85 a') }}][{{ t.strip(none) }}][{{ (t|trim).strip('a') }}]"
      expect(yield* render(source, " a\x85 b a ")).toBe("[\x85 b][b][a\x85 b a][\x85 b ]")
      expect(yield* render("[{% filter trim %} {{ t }}\x85{% endfilter %}]", "\ufeff a")).toBe("[\ufeff a]")
      expect(yield* render("{% macro m(a) %}[{{ a|trim }}]{% endmacro %}{{ m(t) }}", "\x85a")).toBe("[a]")
      expect(yield* render("[{{ nothing|trim }}]")).toBe("[]")
      expect((yield* Effect.flip(render("{{ messages|trim }}"))).message).toContain("trim takes a text")
      expect((yield* Effect.flip(render("{{ none|trim }}"))).message).toContain("trim takes a text")
    })
  )
})

describe("capitals", () => {
  it.effect("begin a text or its words, and there are no others", () =>
    Effect.gen(function* () {
      const text = "it's THE o'NEIL [of] re-DO\x85ΟΔΟΣ ßa"
      expect(yield* render("{{ t|capitalize }}", text)).toBe("It's the o'neil [of] re-do\x85οδος ßa")
      expect(yield* render("{{ t.capitalize() }}", "ßA 𐐀")).toBe("Ssa 𐐨")
      expect(yield* render("{{ t|title }}", text)).toBe("It's The O'neil [Of] Re-Do\x85Οδος SSa")
      // Python's own method does it otherwise than Jinja's filter.
      expect(yield* render("{{ t.title() }}", text)).toBe("It'S The O'Neil [Of] Re-Do\x85Οδος Ssa")
      expect(yield* render("[{{ t|title }}{{ t|capitalize }}{{ t.title() }}]")).toBe("[]")
    })
  )
})

describe("operators, tests and filters", () => {
  it.effect("give a rest the sign of the divisor, and leave numbers whole or not", () =>
    Effect.gen(function* () {
      const rests = "{{ -7 % 3 }} {{ 7 % -3 }} {{ -7 % -3 }} {{ 7 % 3 }} {{ -6 % 3 }} {{ -7.5 % 2 }} {{ 7.0 % 2 }}"
      expect(yield* render(rests)).toBe("2 -2 -1 1 0 0.5 1.0")
      const turns = "{% for m in messages %}{{ 'odd' if (loop.index0 - 1) % 2 == 1 else 'even' }} {% endfor %}"
      expect(yield* render(turns)).toBe("odd even ")
    })
  )

  it.effect("join a text to a text alone, and add numbers and lists", () =>
    Effect.gen(function* () {
      expect(yield* render("{{ 'a' + t + messages[1].content + '!' }} {{ t + t + 'c' }}", "b")).toBe("abb! bbc")
      expect(yield* render("{{ 1 + 2.0 + 3 }} {{ ([1] + [2.0])|length }}")).toBe("6.0 2")
      for (const [source, said] of [
        ["'a' + messages[0]", "an object"],
        ["'a' + messages", "an object"],
        ["1 + 'a'", "1"],
        ["'a' + none", "nothing"],
        ["missing + 'a'", "nothing"]
      ]) {
        const { message } = yield* Effect.flip(render(`{{ ${source} }}`))
        expect(message).toContain(`+ joins a text to ${said}, which is no text`)
      }
    })
  )

  it.effect("write values as Python does, where ~ joins them or string makes a text of them", () =>
    Effect.gen(function* () {
      const tools = [{ name: "get", strict: true, of: null, required: ["it's", 1, 2.5], most: {} }]
      const template = yield* ChatTemplate.make(
        "{% for tool in tools[:] %}{{ '- ' ~ (tool | string) ~ '\n' }}{% endfor %}",
        "chat_template.jinja"
      )
      expect(yield* template.render([{ role: "user", content: "Hi" }], { tools })).toBe(
        `- {'name': 'get', 'strict': True, 'of': None, 'required': ["it's", 1, 2.5], 'most': {}}\n`
      )
      expect(yield* render("{{ 'a' ~ messages[1] }}")).toBe("a{'role': 'assistant', 'content': 'b'}")
      expect(yield* render("{{ 1 ~ 2.0 ~ true ~ none ~ missing ~ t }}", "b")).toBe("12.0TrueNoneb")
      expect(yield* render("{{ true|string }} {{ none|string }} {{ 2.0|string }} [{{ missing|string }}]")).toBe(
        "True None 2.0 []"
      )
      const texts = "'\"\\\n\t\x07\xad\u2028\u{e0001} é日🙂"
      expect(yield* render("{{ [t]|string }}", texts)).toBe(String.raw`['\'"\\\n\t\x07\xad\u2028\U000e0001 é日🙂']`)
      expect(yield* render("{{ ([], [t]) ~ '' }}", "it's")).toBe(`([], ["it's"])`)
      expect((yield* Effect.flip(render("{{ messages ~ 'a' + messages }}"))).message).toContain("joins a text")
    })
  )

  it.effect("find nothing where there is nothing to be found", () =>
    Effect.gen(function* () {
      const source = "{% set s = messages|selectattr('role', 'equalto', 'system')|first %}{{ 'S' if s else 'none' }}"
      expect(yield* render(source)).toBe("none")
      expect(
        yield* render("{{ (messages|first).role }} {{ (messages|last).role }} {{ t|first }}{{ t|last }}", "xyz")
      ).toBe("user assistant xz")
      expect(yield* render("{{ messages[0].tool_calls|length }} {{ t|length }} {{ messages|length }}", "ab")).toBe(
        "0 2 2"
      )
      expect(yield* render("[{{ []|last }}]")).toBe("[]")
    })
  )

  it.effect("take a mapping, a tuple and what is undefined as iterable", () =>
    Effect.gen(function* () {
      const values = ["{'a': 1}", "[]", "(1, 2)", "'x'", "nothing", "messages[0]", "5", "none", "true", "namespace()"]
      const source = values.map((value) => `{{ 1 if ${value} is iterable else 0 }}`).join("")
      expect(yield* render(source)).toBe("1111110000")
      expect(yield* render(source.replaceAll("is iterable", "is not iterable"))).toBe("0000001111")
    })
  )

  it.effect("join what the items have under a name", () =>
    Effect.gen(function* () {
      const source = "{{ messages|join(', ', attribute='role') }};{{ messages|join(attribute='role') }}"
      expect(yield* render(source)).toBe("user, assistant;userassistant")
      const others =
        "{{ messages|join('-', 'content') }};{{ [1, 2]|join(d='-') }};{{ ['a', 'b']|join }};{{ 'abc'|join('-') }}"
      expect(yield* render(others, "a")).toBe("a-b;1-2;ab;a-b-c")
    })
  )
})

describe("what is undefined", () => {
  it.effect("is empty to a loop, and to upper and lower", () =>
    Effect.gen(function* () {
      // A schema without a `type`, such as Python's of what is optional, in Gemma 4's template.
      expect(
        yield* render("[{{ {'anyOf': []}['type'] | upper }}{{ missing|lower }}]{{ t|upper }}{{ 'B'|lower }}", "a")
      ).toBe("[]Ab")
      expect(yield* render("{{ ['integer', 'null'] | upper }} {{ 'B'|lower }}{{ true|lower }}")).toBe(
        "['INTEGER', 'NULL'] btrue"
      )
      // A message without content, in Qwen 3.5's.
      expect(yield* render("{% for part in messages[0].parts %}{{ part }}{% else %}none{% endfor %}")).toBe("none")
      expect(yield* render("[{% for part in missing if part %}{{ part }}{% continue %}{% endfor %}]")).toBe("[]")
      expect((yield* Effect.flip(render("{% for part in none %}{% endfor %}"))).message).toContain("iterable")
    })
  )
})

describe("mappings", () => {
  it.effect("have their methods whatever keys they have, as arguments of a tool may be called", () =>
    Effect.gen(function* () {
      const source = "{% set m = {'items': 1, 'keys': 'k', 'values': [2]} %}"
      for (const [loop, made] of [
        ["{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}", "items=1;keys=k;values=[2];"],
        ["{% for k in m.keys() %}{{ k }};{% endfor %}", "items;keys;values;"],
        ["{{ m.values()|list }} {{ m['items'] }}", "[1, 'k', [2]] 1"]
      ] as const) {
        expect(yield* render(source + loop)).toBe(made)
      }
    })
  )
})

describe("what is written", () => {
  it.effect(
    "has small numbers with the exponent of Python, as JSON, too, such as a tolerance that a tool is called with",
    () =>
      Effect.gen(function* () {
        const template = yield* ChatTemplate.make("{{ v }} {{ v|tojson }} {{ v|string|length }}", "chat_template.jinja")
        const rendered = (v: unknown) => template.render([], { variables: { v } })
        expect(yield* rendered([1e-5, -0.000025, 1e-7, 1.5e-10, 0.0001, 0, 2.5])).toBe(
          "[1e-05, -2.5e-05, 1e-07, 1.5e-10, 0.0001, 0, 2.5] [1e-05, -2.5e-05, 1e-07, 1.5e-10, 0.0001, 0, 2.5] 49"
        )
        expect(yield* rendered('0.00001 "\\0.00001')).toBe('0.00001 "\\0.00001 "0.00001 \\"\\\\0.00001" 17')
      })
  )

  it.effect("is Python's text of it: of lists, mappings, truth values and none", () =>
    Effect.gen(function* () {
      for (const [source, made] of [
        // The type of a tool's argument, as templates write it.
        ["{{ ['integer', 'null'] }}", "['integer', 'null']"],
        ["{{ {'a': [1, 'it\\'s', none], 'b': true} }}", `{'a': [1, "it's", None], 'b': True}`],
        ["{{ messages[1] }} {{ ('a', 1) }}", "{'role': 'assistant', 'content': 'b'} ('a', 1)"],
        ["{{ 1 == 1 }} {{ t in t }} {{ none }} {{ {}.get('a') }}", "True True None None"],
        ["{{ missing }}{{ t if false }}{{ t }} {{ 1 }} {{ 1.5 }}", "t 1 1.5"],
        // In whichever block.
        ["{% if true %}{{ true }}{% endif %}{% if false %}{% else %}{{ false }}{% endif %}", "TrueFalse"],
        ["{% for i in [1] %}{{ loop.first }}{% endfor %}{% for i in [] %}{% else %}{{ none }}{% endfor %}", "TrueNone"],
        ["{% set s %}{{ [t] }}{% endset %}{{ s }}{% filter upper %}{{ [t] }}{% endfilter %}", "['t']['T']"],
        ["{% macro m(a) %}{{ a }}{{ caller() }}{% endmacro %}{% call m(true) %}{{ ['c'] }}{% endcall %}", "True['c']"]
      ] as const) {
        expect(yield* render(source, "t")).toBe(made)
      }
    })
  )
})

describe("continue and break", () => {
  it.effect("leave a turn of a loop with what it has written", () =>
    Effect.gen(function* () {
      for (const [source, made] of [
        // A system message in front, as EXAONE's template has it.
        [
          "{% for m in messages %}{% if loop.first %}<{{ m.role }}>{% continue %}{% endif %}{{ m.role }}{% endfor %}",
          "<user>assistant"
        ],
        ["{% for i in range(4) %}{{ i }}{% if i == 1 %}!{% break %}?{% endif %},{% endfor %}.", "0,1!."],
        [
          "{% for i in range(4) %}{% if i == 0 %}a{% continue %}{% elif i == 2 %}b{% break %}{% else %}c{% endif %}d{% endfor %}",
          "acdb"
        ],
        [
          "{% for i in range(3) %}{% if i %}{% if i == 1 %}{% continue %}{% endif %}x{% endif %}{{ i }}{% endfor %}",
          "0x2"
        ],
        // Where only what is otherwise leaves it.
        ["{% for i in range(3) %}{% if i == 1 %}a{% else %}b{% continue %}{% endif %}{{ i }}{% endfor %}", "ba1b"],
        ["{% for i in range(3) %}{% if i == 0 %}a{% elif i == 1 %}b{% break %}{% endif %}{{ i }}{% endfor %}", "a0b"],
        // Each loop has its own, and one that has had a turn needs nothing in its place.
        [
          "{% for i in range(2) %}{% for j in range(3) %}{{ j }}{% if j == i %}{% break %}{% endif %}-{% endfor %};{% if i == 0 %}{% continue %}{% endif %}e{% endfor %}",
          "0;0-1;e"
        ],
        [
          "{% for i in [1] %}{{ i }}{% continue %}{% else %}none{% endfor %}{% for i in [] %}{% break %}{% else %}none{% endfor %}",
          "1none"
        ],
        [
          "{% for i in range(9) if i % 2 %}{{ loop.index }}{% if loop.last %}l{% break %}{% endif %}{% endfor %}",
          "1234l"
        ]
      ] as const) {
        expect(yield* render(source)).toBe(made)
      }
    })
  )
})
