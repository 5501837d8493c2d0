/** The programs of `docs/providers.md`, as they stand there, against a server on the loopback. */
import { readFileSync } from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import { fileURLToPath } from "node:url"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import * as FakeServer from "./http/FakeServer.ts"

const text = readFileSync(fileURLToPath(new URL("../../docs/providers.md", import.meta.url)), "utf8")
const programs = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = ""]) => code)

const modules: Readonly<Record<string, () => Promise<unknown>>> = {
  "@effect/platform-node": () => import("@effect/platform-node"),
  effect: () => import("effect"),
  "effect/http": () => import("effect/http"),
  "charter-ai": () => import("../../src/index.ts"),
  "charter-ai/providers/anthropic": () => import("../../src/providers/anthropic/index.ts"),
  "charter-ai/providers/http": () => import("../../src/providers/http/index.ts"),
  "charter-ai/providers/openai-compatible": () => import("../../src/providers/openai-compatible/index.ts")
}

const importing = /^import \{([^}]*)\} from "([^"]+)"$/gm
const AsyncFunction = (async () => {}).constructor as FunctionConstructor

/** Runs a program; gives what it prints. */
const run = (code: string) => {
  const body = stripTypeScriptTypes(code).replace(importing, 'const {$1} = await load("$2")')
  const load = (name: string) => (modules[name] ?? assert.fail(`there is no ${name}`))()
  const printed: Array<string> = []
  const log = console.log
  console.log = (line: string) => void printed.push(line)
  return (AsyncFunction("load", body)(load) as unknown as Promise<void>)
    .then(() => printed)
    .finally(() => (console.log = log))
}

const top = { A: Math.log(0.6), B: Math.log(0.2) }

const answering: FakeServer.Answer = (response, asked, n) => {
  const usage = { prompt_tokens: 20, completion_tokens: 10, input_tokens: 20, output_tokens: 10 }
  const say = (content: string) => ({ model: "fake", content: [{ type: "text", text: content }], usage })
  if (asked.path.endsWith("/messages")) return FakeServer.json(say("Talk to them."))(response, asked, n)
  const content = asked.body.logprobs === true ? "A" : `Talk to them, ${n}.`
  const listed = Object.entries(top).map(([token, logprob]) => ({ token, logprob, top_logprobs: [] }))
  const chosen = { content: [{ ...listed[0]!, top_logprobs: listed }] }
  const echoed = { tokens: ["The capital of France", " is", " Paris", "."], token_logprobs: [null, -1, -0.25, -1] }
  const logprobs = asked.body.echo === true ? echoed : asked.body.logprobs === true ? chosen : null
  const choice = { text: "", message: { content }, finish_reason: "stop", logprobs }
  FakeServer.json({
    model: "fake",
    choices: [choice],
    usage: { ...usage, ...(logprobs ? { completion_tokens: 1 } : {}) }
  })(response, asked, n)
}

const printed: ReadonlyArray<readonly [what: string, lines: ReadonlyArray<RegExp>]> = [
  ["revises", [/^Talk to them, \d\.$/]],
  ["asks Anthropic", [/^Talk to them\.$/]],
  ["judges", [/^the first is better with probability 0\.50$/]],
  ["scores a text", [/^ Paris: -0\.25 nats$/]],
  ["falls back", [/^fake: Talk to them/]],
  ["keeps accounts", [/^about 1 call, \$0\.00\d+$/, /^response: 1 call$/]]
]

const scope = Effect.runSync(Scope.make())
const before = { ...process.env }

describe("the page on hosted models has a program that", () => {
  beforeAll(async () => {
    const { url } = await Effect.runPromise(Scope.provide(FakeServer.start(answering), scope))
    // The environment is read once in a process.
    Object.assign(process.env, {
      OPENAI_BASE_URL: url,
      OPENAI_MODEL: "fake",
      ANTHROPIC_BASE_URL: new URL(url).origin,
      ANTHROPIC_API_KEY: "sk-ant-key",
      ANTHROPIC_MODEL: "fake"
    })
  })
  afterAll(async () => {
    process.env = before
    await Effect.runPromise(Scope.close(scope, Exit.void))
  })

  it("is told of here", () => assert.strictEqual(programs.length, printed.length))

  for (const [i, [what, lines]] of printed.entries()) {
    it(what, async () => {
      const out = await run(programs[i]!)
      assert.strictEqual(out.length, lines.length, out.join("\n"))
      for (const [j, line] of lines.entries()) assert.match(out[j]!, line)
    })
  }
})
