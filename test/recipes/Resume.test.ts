import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Random from "../../src/Random.ts"
import { temporary } from "./Fixture.ts"
import * as World from "./World.ts"

const { prompts, run, runUntil, settings } = World

const whole = temporary()
let calls = 0

describe("a run over 500 prompts", () => {
  it.live("leaves records whose trail leads back to their prompts", () =>
    Effect.gen(function* () {
      yield* run(whole, { ends: () => Effect.sync(() => calls++) })
      const ids = (file: string) => new Set(World.rows(whole, file).map(({ id }) => id as string))
      const known = new Set(prompts.map(({ id }) => id))
      const answers = World.rows(whole, "supervised/responses.jsonl")
      assert.isTrue(answers.every(({ prompt }) => known.has(prompt.id)))
      const answered = new Set([...ids("supervised/responses.jsonl"), ...ids("supervised/revisions.jsonl")])
      assert.isTrue(World.rows(whole, "supervised/critiques.jsonl").every(({ response }) => answered.has(response.id)))
      const criticised = ids("supervised/critiques.jsonl")
      assert.isTrue(
        World.rows(whole, "supervised/revisions.jsonl").every(({ critique }) => criticised.has(critique.id))
      )
      const compared = ids("preferences/pairs.jsonl")
      assert.isTrue(
        World.rows(whole, "preferences/preferences.jsonl").every(
          ({ comparison }) => compared.has(comparison.id) && known.has(comparison.prompt.id)
        )
      )
      const rollouts = World.rows(whole, "policy/rollouts.jsonl")
      assert.isTrue(rollouts.every(({ rollout }) => known.has(rollout.prompt.id)))

      assert.strictEqual(answers.length + settings.evaluation.prompts, prompts.length)
      assert.strictEqual(rollouts.length, settings.reinforcement.iterations * settings.reinforcement.batchSize)
      // Lines are in the order of the prompts, whatever the order in which they were ready.
      const order = new Map(prompts.map(({ id }, i) => [id, i]))
      const places = answers.map(({ prompt }) => order.get(prompt.id)!)
      assert.deepStrictEqual(
        places,
        places.toSorted((a, b) => a - b)
      )
    })
  )

  it.live("interrupted at 30 points and continued leaves the same bytes, and no finished call is made twice", () =>
    Effect.gen(function* () {
      const dir = temporary()
      const random = Random.make(7, "interruptions")
      const seen = new Map<string, number>()
      const ended = (call: string) => Effect.sync(() => void seen.set(call, (seen.get(call) ?? 0) + 1))
      let stops = 0
      while (stops < 30) {
        const after = 1 + random.int((2 * (calls - seen.size)) / (31 - stops))
        if (yield* runUntil(dir, stops % 2 === 0 ? "begins" : "ends", after, { ends: ended })) break
        stops++
      }
      assert.strictEqual(stops, 30)
      yield* run(dir, { ends: ended })
      assert.deepStrictEqual(World.files(dir), World.files(whole))
      assert.deepStrictEqual(
        [...seen].filter(([, times]) => times > 1),
        []
      )
      assert.strictEqual(seen.size, calls)
    })
  )

  it("killed and continued leaves the same bytes, and no finished call is made twice", () => {
    const dir = temporary()
    const start = (most: number) =>
      spawnSync(process.execPath, [fileURLToPath(new URL("killed.ts", import.meta.url)), dir, String(most)], {
        encoding: "utf8"
      })
    const random = Random.make(3, "kills")
    for (let i = 0; i < 3; i++) assert.strictEqual(start(1 + random.int(calls / 3)).signal, "SIGKILL")
    const { status, stderr } = start(Infinity)
    assert.strictEqual(status, 0, stderr)
    assert.deepStrictEqual(World.files(dir), World.files(whole))
    const made = readFileSync(`${dir}.calls`, "utf8").trim().split("\n")
    assert.strictEqual(made.length, new Set(made).size)
    assert.strictEqual(made.length, calls)
  })
})
