import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Random from "../../src/Random.ts"
import * as Sample from "../../src/Sample.ts"
import { workplace } from "../workplace.ts"
import * as World from "./World.ts"

const { prompts, run, runUntil, settings } = World

const whole = workplace()
let calls = 0

describe("a run over 500 prompts", () => {
  it.live("leaves records whose trail leads back to their prompts", () =>
    Effect.gen(function* () {
      yield* run(whole, { ends: () => Effect.sync(() => calls++) })
      const read = <A, I>(file: string, schema: Schema.Codec<A, I>) =>
        World.rows(whole, file).map((row) => Schema.decodeUnknownSync(schema)(row))
      const answers = read("supervised/responses.jsonl", Sample.Response)
      const critiques = read("supervised/critiques.jsonl", Sample.Critique)
      const revisions = read("supervised/revisions.jsonl", Sample.Revision)
      const pairs = read("preferences/pairs.jsonl", Sample.Comparison)
      const preferences = read("preferences/preferences.jsonl", Sample.Preference)
      const rewards = read("policy/rollouts.jsonl", Sample.Reward)

      const known = new Set(prompts.map(({ id }) => id))
      const written = new Map(
        [...answers, ...critiques, ...revisions, ...pairs, ...preferences, ...rewards].map((record) => [
          record.id,
          record
        ])
      )
      const revision = new Map(revisions.map((record) => [record.id, record]))
      for (const record of written.values()) {
        const trail = Sample.trail(record, (id) => revision.get(id))
        assert.strictEqual(trail.at(-1)?.kind, "prompt")
        assert.isTrue(known.has(trail.at(-1)!.id))
        // Each step but the prompt, the pair's answers and the rollout is a record of its own in the folder.
        for (const { kind, id } of trail) {
          if (kind === "prompt" || kind === "rollout") continue
          if (kind === "response" && !(record instanceof Sample.Revision || record instanceof Sample.Critique)) continue
          assert.isTrue(written.has(id), `${kind} ${id}`)
        }
      }
      assert.strictEqual(answers.length + settings.evaluation.prompts, prompts.length)
      const { iterations, batchSize } = settings.reinforcement
      assert.strictEqual(rewards.length, iterations * batchSize)
      assert.strictEqual(critiques.length, revisions.length)
      assert.strictEqual(revisions.length, answers.filter(({ prompt }) => prompt.kind === "harmful").length * 2)

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
      const dir = workplace()
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
    const dir = join(workplace(), "run")
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
