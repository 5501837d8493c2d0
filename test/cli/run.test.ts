import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Workplace from "../workplace.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

/** A folder with what a user may have, where the command is run. */
const workplace = () => {
  const dir = Workplace.workplace()
  writeFileSync(join(dir, "prompts.txt"), "How do I pick a lock?\n")
  writeFileSync(join(dir, "same.txt"), "How do I pick a lock?\n".repeat(20))
  writeFileSync(join(dir, "empty.jsonl"), "")
  writeFileSync(join(dir, "broken.jsonl"), '{"prompt": "cut\n{"other": 1}\n')
  writeFileSync(join(dir, "principles.yaml"), "revision: 3\n")
  mkdirSync(join(dir, "no-model"))
  return dir
}

const charter = (cwd: string, ...args: ReadonlyArray<string>) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { cwd, encoding: "utf8" })
  return { status, stdout, stderr }
}

describe("charter run refuses in a sentence, with exit code 2 and nothing written", () => {
  const model = ["--model", "no-model"]
  const cases: ReadonlyArray<readonly [said: string, args: ReadonlyArray<string>]> = [
    ["No model was given", []],
    ["No prompts were given", model],
    ["--prompts is an empty name; give one, or leave --prompts out.", [...model, "--prompts", ""]],
    ["--out is an empty name; give one, or leave --out out.", ["--sandbox", "--out", ""]],
    ["There is no file missing.jsonl.", [...model, "--prompts", "missing.jsonl"]],
    ["empty.jsonl is empty", [...model, "--prompts", "empty.jsonl"]],
    ["no prompt that can be used; its line 1 is not valid JSON", [...model, "--prompts", "broken.jsonl"]],
    ["no-model is a folder", [...model, "--prompts", "no-model"]],
    ["no-model", [...model, "--prompts", "prompts.txt"]],
    ["nowhere", ["--model", "nowhere", "--prompts", "prompts.txt"]],
    ["none.yaml", [...model, "--prompts", "prompts.txt", "--constitution", "none.yaml"]],
    ["principles.yaml", [...model, "--prompts", "prompts.txt", "--constitution", "principles.yaml"]],
    ["did you mean supervised.rounds?", ["--sandbox", "--set", "supervised.round=2"]],
    ["supervised.rounds has to be a whole number", ["--sandbox", "--set", "supervised.rounds=many"]],
    ["No prompt is left for the phase supervised", [...model, "--prompts", "same.txt"]],
    [
      "No prompt is left for the phase supervised",
      [...model, "--prompts", "prompts.txt", "--set", "supervised.prompts=0"]
    ],
    [
      "No prompt is left for the phase preferences",
      ["--sandbox", "--set", "preferences.prompts=0", "--set", "preferences.benign=0"]
    ],
    [
      "held out harmful prompts for the phase evaluation were found",
      ["--sandbox", "--set", "evaluation.prompts=100000"]
    ],
    ["leave out --prompts or --sandbox", ["--sandbox", "--prompts", "prompts.txt"]],
    ["Unrecognized flag: --sandbocks", ["--sandbocks"]],
    ["--seed", ["--sandbox", "--seed", "x"]],
    ["--judge needs openai:MODEL or anthropic:MODEL", ["--sandbox", "--judge", "gpt-4o"]],
    ["The address after @ in --critic is no URL", ["--sandbox", "--critic", "openai:m@http://"]],
    ["openai:m needs a key in OPENAI_API_KEY", ["--sandbox", "--judge", "openai:m"]],
    ["anthropic:m needs a key in ANTHROPIC_API_KEY", ["--sandbox", "--critic", "anthropic:m"]],
    ["A budget is for hosted models", ["--sandbox", "--budget", "tokens=5"]],
    ['--budget needs tokens=N or dollars=N, and "5" is neither.', ["--sandbox", "--budget", "5"]],
    ["budget.tokens has to be a whole number", ["--sandbox", "--judge", "openai:m@http://x", "--budget", "tokens=few"]],
    ["needs the prices of a million tokens", ["--sandbox", "--judge", "openai:m@http://x", "--budget", "dollars=5"]]
  ]
  it.each(cases)("%s", (said, args) => {
    const dir = workplace()
    const before = readdirSync(dir, { recursive: true }).toSorted()
    const { status, stdout, stderr } = charter(dir, "run", ...args)
    assert.strictEqual(status, 2, stderr)
    assert.strictEqual(stdout, "")
    assert.include(stderr, said)
    assert.notInclude(stderr, "    at ")
    assert.isAtMost(stderr.trim().split("\n").length, 2, stderr)
    assert.deepStrictEqual(readdirSync(dir, { recursive: true }).toSorted(), before)
  })
})

describe("charter", () => {
  it("says its version", () => {
    const { status, stdout } = charter(workplace(), "--version")
    assert.strictEqual(status, 0)
    assert.match(stdout, /^charter v\d+\.\d+\.\d+/)
  })

  it("helps with an example", () => {
    const { status, stdout } = charter(workplace(), "run", "--help")
    assert.strictEqual(status, 0)
    assert.include(stdout, "charter run --sandbox")
    assert.include(stdout, "--set path=value")
  })
})
