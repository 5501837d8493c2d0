import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import * as Earlier from "../../src/recipes/Earlier.ts"
import * as Manifest from "../../src/recipes/Manifest.ts"
import * as Retried from "../../src/recipes/Retried.ts"
import type { Settings } from "../../src/recipes/Settings.ts"
import * as Sample from "../../src/Sample.ts"
import { workplace } from "../workplace.ts"
import { models, prompts, runIn, settings } from "./Fixture.ts"
import * as World from "./World.ts"

const read = (...path: ReadonlyArray<string>) => readFileSync(join(...path), "utf8")

/** Runs a handful of prompts in the world; `calls` are those that were made. */
const run = Effect.fnUntraced(function* (dir: string, options: Parameters<typeof runIn>[2] = {}) {
  const calls: Array<string> = []
  const service = World.models({ begins: (call) => Effect.sync(() => void calls.push(call)) })
  const { notice } = yield* runIn(dir, models(), { service, ...options })
  return { calls, notice }
})

/** What the run says that cannot be. */
const message = (dir: string) =>
  run(dir).pipe(
    Effect.flip,
    Effect.map((error) => (error instanceof Error ? error.message : String(error))),
    Effect.orDie
  )

describe("a run folder", () => {
  it.live("repairs a torn last line, and asks for that record only", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const content = read(dir, "supervised/responses.jsonl")
      writeFileSync(join(dir, "supervised/responses.jsonl"), content.slice(0, -10))
      const { calls } = yield* run(dir)
      assert.strictEqual(calls.length, 1)
      assert.strictEqual(read(dir, "supervised/responses.jsonl"), content)
    })
  )

  it.live("refuses a damaged line in the middle", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const file = join(dir, "supervised/responses.jsonl")
      const [first, ...rest] = read(file).split("\n")
      writeFileSync(file, [first, "{", ...rest].join("\n"))
      assert.strictEqual(
        yield* message(dir),
        `Line 2 of ${file} is damaged; delete that line, and its record is made again.`
      )
    })
  )

  it.live("refuses a damaged line of a training, which is made again as a whole", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const file = join(dir, "policy/metrics.jsonl")
      const before = read(dir, "policy/metrics.jsonl")
      writeFileSync(file, `{${before}`)
      assert.strictEqual(yield* message(dir), `Line 1 of ${file} is damaged; delete the file, and it is made again.`)
      rmSync(file)
      yield* run(dir)
      assert.strictEqual(read(dir, "policy/metrics.jsonl"), before)
    })
  )

  it.live("refuses a second writer, and takes over from one that is gone", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const lock = join(dir, "run.lock")
      writeFileSync(lock, JSON.stringify({ pid: 1, host: "elsewhere", born: "" }))
      assert.include(yield* message(dir), "elsewhere")
      writeFileSync(lock, JSON.stringify({ pid: process.pid, host: hostname(), born: "another one" }))
      const summary = yield* runIn(dir, models())
      assert.strictEqual(summary.counts["responses"], prompts.length)
      assert.isFalse(existsSync(lock))
    })
  )

  it.live("does not wait for ever for a lock that cannot be read", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const lock = join(dir, "run.lock")
      symlinkSync(join(dir, "nowhere"), lock)
      yield* runIn(dir, models())
      assert.isFalse(existsSync(lock))
      mkdirSync(lock)
      assert.include(yield* message(dir), "cannot be written: EISDIR")
      assert.isTrue(existsSync(lock))
    })
  )

  it.live("says what keeps a folder from being made", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "mine")
      writeFileSync(file, "")
      const inFile = join(file, "run")
      assert.strictEqual(
        yield* message(inFile),
        `${inFile} cannot be written: ENOTDIR: not a directory, mkdir '${inFile}'.`
      )
      if (existsSync("/proc")) assert.match(yield* message("/proc/none/run"), /^\/proc\/none\/run cannot be written: E/)
    })
  )

  it.live("refuses a writer while another one is at work", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const said: Array<string> = []
      const service = World.models({
        begins: () => (said.length > 0 ? Effect.void : Effect.map(message(dir), (words) => void said.push(words)))
      })
      yield* runIn(dir, models(), { service })
      assert.include(said[0], `is in use by process ${process.pid}`)
    })
  )

  it.live.each(["phases.json", "timings.json"])("says of a damaged %s that it can be deleted", (file) =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      writeFileSync(join(dir, file), "")
      assert.strictEqual(
        yield* message(dir),
        `${join(dir, file)} cannot be read: Unexpected end of JSON input. Delete it to go on.`
      )
      const before = World.files(dir)
      const other = yield* run(dir, { settings: changed("reward", { learningRate: 1 }) }).pipe(Effect.flip)
      assert.strictEqual((other as Error).message, yield* message(dir))
      assert.deepStrictEqual(World.files(dir), before, "nothing was moved")
      writeFileSync(join(dir, file), "null")
      assert.strictEqual(
        yield* message(dir),
        `${join(dir, file)} cannot be read: it holds no object. Delete it to go on.`
      )
      rmSync(join(dir, file))
      assert.deepStrictEqual((yield* run(dir)).calls, [])
    })
  )

  it.live("refuses a folder of something else", () =>
    Effect.gen(function* () {
      const dir = workplace()
      appendFileSync(join(dir, "thesis.txt"), "chapter one")
      assert.include(yield* message(dir), "thesis.txt")
      assert.isFalse(existsSync(join(dir, "manifest.json")))
    })
  )

  it.live("is cleared of what a killed writer left half-written", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const before = World.files(dir)
      writeFileSync(join(dir, "supervised/state/state.json.tmp"), "{")
      yield* run(dir)
      assert.deepStrictEqual(World.files(dir), before)
    })
  )
})

type Group = "supervised" | "preferences" | "reward" | "reinforcement" | "evaluation"

const changed = (group: Group, change: object): Settings => ({
  ...settings,
  [group]: { ...settings[group], ...change }
})

describe("other settings", () => {
  /** A run with the settings, its folder as it is after other ones, and what a folder of the other ones alone is. */
  const change = Effect.fnUntraced(function* (options: NonNullable<Parameters<typeof run>[1]>) {
    const dir = workplace()
    yield* run(dir)
    const before = World.files(dir)
    const { calls, notice } = yield* run(dir, options)
    const fresh = workplace()
    const whole = yield* run(fresh, options)
    assert.deepStrictEqual(World.files(dir), World.files(fresh), "as if they had been the first")
    return { dir, before, calls, notice, whole: whole.calls }
  })

  it.live("do again what depends on them, say so, and keep what was there", () =>
    Effect.gen(function* () {
      const { dir, before, calls, notice } = yield* change({
        settings: changed("supervised", { learningRate: 0.0001 })
      })
      assert.strictEqual(
        notice,
        "supervised.learningRate is 0.0002 there and 0.0001 now: revise is kept; supervised, preferences, reward and " +
          "policy are done again; evaluation is done again in part; what was there is in earlier/1."
      )
      assert.isFalse(calls.some((call) => call.startsWith("sample base")))
      const moved = World.files(join(dir, "earlier/1"))
      for (const file of [
        "manifest.json",
        "summary.json",
        "supervised/adapter/adapter.json",
        "policy/rollouts.jsonl"
      ]) {
        assert.strictEqual(moved.get(file), before.get(file))
      }
    })
  )

  it.live("may be another tokenizer or configuration of the same model, which is not told to be other weights", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const service = World.models()
      const description = { ...service.description, fingerprint: "other" }
      const { notice } = yield* runIn(dir, models(), { service: { ...service, description } })
      assert.match(
        notice!,
        /^the model world has other weights, another configuration or another tokenizer than there: /
      )
    })
  )

  it.live("of the policy leave everything before it alone", () =>
    Effect.gen(function* () {
      const { calls, notice } = yield* change({ settings: changed("reinforcement", { klCoefficient: 0.2 }) })
      assert.include(notice, "revise, supervised, preferences and reward are kept")
      assert.isTrue(calls.every((call) => /^(sample reinforced|score|update)/.test(call)))
    })
  )

  it.live("with more rounds ask only for the new ones", () =>
    Effect.gen(function* () {
      const { calls, notice } = yield* change({ settings: changed("supervised", { rounds: 3 }) })
      assert.include(notice, "revise and evaluation are done again in part")
      const base = calls.filter((call) => call.startsWith("sample base"))
      assert.isAbove(base.length, 0)
      assert.isTrue(base.every((call) => call.endsWith("/3")))
    })
  )

  it.live("with fewer rounds ask the base for nothing", () =>
    Effect.gen(function* () {
      const { calls, dir } = yield* change({ settings: changed("supervised", { rounds: 1 }) })
      assert.isFalse(calls.some((call) => call.startsWith("sample base")))
      assert.strictEqual(World.rows(dir, "earlier/1/supervised/critiques.jsonl").length, 12)
      assert.strictEqual(World.rows(dir, "supervised/critiques.jsonl").length, 6)
    })
  )

  it.live("of the critic keep the answers", () =>
    Effect.gen(function* () {
      const { calls } = yield* change({ settings: changed("supervised", { critiqueTokens: 20 }) })
      assert.isFalse(calls.some((call) => call.startsWith("sample base") && call.endsWith("response")))
    })
  )

  it.live("with more prompts ask for the new ones", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir, { prompts: prompts.slice(2) })
      const { calls, notice } = yield* run(dir)
      assert.include(notice, "the prompts are others than those of test there")
      const base = calls.filter((call) => call.startsWith("sample base"))
      assert.isAbove(base.length, 0)
      assert.isTrue(base.every((call) => prompts.slice(0, 2).some(({ id }) => call.includes(id))))
    })
  )

  it.live("with a prompt that was edited under its own id ask for that one", () =>
    Effect.gen(function* () {
      const own = (edited: ReadonlyArray<number>) =>
        prompts.map(({ kind, text }, i) => {
          const content = edited.includes(i) ? `${text}, in other words` : text
          return new Sample.Prompt({ id: `p${i}`, text: content, messages: [{ role: "user", content }], kind })
        })
      const dir = workplace()
      const fails = (call: string) => call.endsWith("p1/0/critique/1")
      yield* run(dir, { prompts: own([]), service: World.models({ fails }) })
      assert.strictEqual(World.rows(dir, "rejected.jsonl").length, 1)
      assert.strictEqual((yield* run(dir, { prompts: own([]) })).notice, undefined)

      const { calls, notice } = yield* run(dir, { prompts: own([0, 1]) })
      assert.include(notice, "the prompts are others than those of test there: supervised")
      assert.include(notice, "revise and evaluation are done again in part")
      const base = calls.filter((call) => call.startsWith("sample base")).map((call) => call.split(" ")[3]!)
      assert.deepStrictEqual([...new Set(base.map((id) => id.split("/")[0]!))].toSorted(), ["p0", "p1"])
      // What failed for the old words is asked again for the new ones.
      assert.include(base, "p1/0/critique/1")
      const fresh = workplace()
      yield* run(fresh, { prompts: own([0, 1]) })
      assert.deepStrictEqual(World.files(dir), World.files(fresh))
    })
  )

  it.live("that change no result change nothing", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const before = World.files(dir)
      const { calls, notice } = yield* run(dir, { settings: { ...settings, concurrency: 2 } })
      assert.strictEqual(calls.length, 0)
      assert.isUndefined(notice)
      assert.deepStrictEqual(World.files(dir), before)
    })
  )

  it.live("and back again leave every state aside", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const before = World.files(dir)
      yield* run(dir, { settings: changed("reward", { learningRate: 1 }) })
      const { calls } = yield* run(dir)
      assert.deepStrictEqual(World.files(dir), before)
      assert.isTrue(
        existsSync(join(dir, "earlier/1/reward/adapter")) && existsSync(join(dir, "earlier/2/reward/adapter"))
      )
      assert.isFalse(calls.some((call) => call.startsWith("sample base") || call.startsWith("sample supervised")))
    })
  )

  it.live("and back again leave what is aside to whoever wants it: any of it may be deleted", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const other = { settings: changed("reward", { learningRate: 1 }) }
      yield* run(dir)
      yield* run(dir, other)
      yield* run(dir)
      const before = World.files(dir)
      const first = World.files(join(dir, "earlier/1"))
      rmSync(join(dir, "earlier/2"), { recursive: true })
      assert.deepStrictEqual((yield* run(dir)).calls, [])
      assert.deepStrictEqual(World.files(dir), before)
      assert.deepStrictEqual(World.files(join(dir, "earlier/1")), first)

      rmSync(join(dir, "earlier/1/manifest.json"))
      assert.deepStrictEqual((yield* run(dir)).calls, [])
      assert.deepStrictEqual(World.files(dir), before)
    })
  )

  it.live("what was rejected stays rejected, where it still counts", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const fails = (call: string) => call.endsWith(`${prompts[0]!.id}/0/critique/2`)
      yield* runIn(dir, models(), { service: World.models({ fails }) })
      assert.strictEqual(World.rows(dir, "rejected.jsonl").length, 1)
      const { calls } = yield* run(dir, { settings: changed("supervised", { rounds: 3 }) })
      assert.strictEqual(World.rows(dir, "rejected.jsonl").length, 1)
      assert.isFalse(calls.some(fails))
      yield* run(dir, { settings: changed("supervised", { rounds: 1 }) })
      assert.strictEqual(World.rows(dir, "rejected.jsonl").length, 0)
    })
  )

  it.live.each([
    {
      phase: "revise",
      call: /^sample .*critique.2/,
      kept: "revise is kept; supervised, preferences, reward, policy and",
      aside: "reward/adapter"
    },
    {
      phase: "preferences",
      call: /^choose /,
      kept: "revise, supervised and preferences are kept; reward, policy and",
      aside: "reward/adapter"
    },
    {
      phase: "policy",
      call: /^sample reinforced .*rollout.0$/,
      kept: "revise, supervised, preferences and reward are kept; policy and",
      aside: "policy/adapter"
    }
  ])("what was rejected in the phase $phase and is tried again is learnt from, too", ({ aside, call, kept, phase }) =>
    Effect.gen(function* () {
      const dir = workplace()
      const fails = (made: string) => call.test(made) && made.includes(prompts[0]!.id)
      yield* runIn(dir, models(), { service: World.models({ fails }) })
      assert.strictEqual(World.rows(dir, "rejected.jsonl").length, 1)
      writeFileSync(join(dir, "rejected.jsonl"), "")
      const { notice } = yield* run(dir)
      assert.include(
        notice,
        `Rejected samples of the phase ${phase} are tried again: ${kept} evaluation are done again`
      )
      const fresh = workplace()
      yield* run(fresh)
      assert.deepStrictEqual(World.files(dir), World.files(fresh))
      assert.isTrue(existsSync(join(dir, "earlier/1", aside)))
      assert.isUndefined((yield* run(dir)).notice)
    })
  )

  it.live("what is tried again in vain stands in its place among the rejected ones", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const fails = (call: string) =>
        /^sample reinforced .*response$/.test(call) && prompts.slice(0, 2).some(({ id }) => call.includes(id))
      const service = World.models({ fails })
      yield* runIn(dir, models(), { service })
      const before = World.files(dir)
      const rows = read(dir, "rejected.jsonl").split("\n")
      assert.isAbove(rows.length, 2)
      writeFileSync(join(dir, "rejected.jsonl"), rows.slice(1).join("\n"))
      yield* runIn(dir, models(), { service })
      assert.deepStrictEqual(World.files(dir), before)
    })
  )

  it.live("a sample may be tried again twice, though the process is killed as it begins to", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const fails = (call: string) => call.endsWith(`${prompts[0]!.id}/0/critique/2`)
      const service = World.models({ fails })
      yield* runIn(dir, models(), { service })
      writeFileSync(join(dir, "rejected.jsonl"), "")
      yield* runIn(dir, models(), { service })
      const second = `${read(dir, "reward/metrics.jsonl")} `
      writeFileSync(join(dir, "reward/metrics.jsonl"), second)
      writeFileSync(join(dir, "rejected.jsonl"), "")
      const manifest = Schema.decodeUnknownSync(Manifest.Manifest)(JSON.parse(read(dir, "manifest.json")))
      const killed = Retried.before(manifest, "revise")
      writeFileSync(join(dir, "manifest.json"), `${JSON.stringify(killed, null, 2)}\n`)
      yield* run(dir)
      assert.isTrue(existsSync(join(dir, "earlier/1/reward/metrics.jsonl")))
      assert.strictEqual(read(dir, "earlier/2/reward/metrics.jsonl"), second)
      const fresh = workplace()
      yield* run(fresh)
      assert.deepStrictEqual(World.files(dir), World.files(fresh))
    })
  )

  it.live("what was rejected before is tried again when its line is deleted", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const fails = (call: string) => call.endsWith(`${prompts[0]!.id}/0/critique/2`)
      yield* runIn(dir, models(), { service: World.models({ fails }) })
      const more = changed("supervised", { rounds: 3 })
      yield* run(dir, { settings: more })
      writeFileSync(join(dir, "rejected.jsonl"), "")
      const { calls } = yield* run(dir, { settings: more })
      assert.isTrue(calls.some(fails))
      assert.strictEqual(World.rows(dir, "rejected.jsonl").length, 0)
    })
  )

  it.live("the rows of the input that were rejected are those of this start, beside the samples", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const fails = (call: string) => call.endsWith(`${prompts[0]!.id}/0/critique/2`)
      const service = World.models({ fails })
      const ids = (rejected: ReadonlyArray<string>) =>
        Effect.map(run(dir, { service, rejected }), () => World.rows(dir, "rejected.jsonl").map(({ id }) => id))
      const sample = `${prompts[0]!.id}/0/2`
      assert.deepStrictEqual(yield* ids(["a.jsonl:1", "a.jsonl:7"]), ["a.jsonl:1", "a.jsonl:7", sample])
      const whole = World.files(dir)
      assert.deepStrictEqual(yield* ids(["a.jsonl:1", "a.jsonl:7"]), ["a.jsonl:1", "a.jsonl:7", sample])
      assert.deepStrictEqual(World.files(dir), whole)
      assert.deepStrictEqual(yield* ids(["./a.jsonl:7"]), ["./a.jsonl:7", sample])
      assert.deepStrictEqual(yield* ids([]), [sample])
    })
  )

  it.live("a process that is killed while it moves things aside leaves nothing between", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const before = World.files(dir)
      const other = changed("supervised", { learningRate: 0.0001 })
      const fresh = workplace()
      yield* run(fresh, { settings: other })
      const manifest = (of: string) => JSON.parse(read(of, "manifest.json")) as Manifest.Manifest
      const count = Earlier.plan(dir, manifest(dir), manifest(fresh)).steps.length
      assert.isAbove(count, 10)
      for (let steps = 0; steps < count; steps++) {
        const cut = workplace()
        cpSync(dir, cut, { recursive: true })
        Earlier.plan(cut, manifest(cut), manifest(fresh))
          .steps.slice(0, steps)
          .forEach((step) => step())
        // Back to the settings that the folder was made with: it is as it was, and nothing is asked.
        const copy = workplace()
        cpSync(cut, copy, { recursive: true })
        const { calls } = yield* run(copy)
        assert.deepStrictEqual(calls, [])
        assert.deepStrictEqual(World.files(copy), before)
        assert.isFalse(existsSync(join(copy, "earlier")))
        // On to the others: the same as without a kill.
        if (steps % 5 !== 1) continue
        yield* run(cut, { settings: other })
        assert.deepStrictEqual(World.files(cut), World.files(fresh))
        assert.isTrue(existsSync(join(cut, "earlier/1/policy/adapter")) && !existsSync(join(cut, "earlier/2")))
      }
      // Killed at the very end: all is done but for the number.
      yield* run(dir, { settings: other })
      renameSync(join(dir, "earlier/1"), join(dir, "earlier/moving"))
      assert.deepStrictEqual((yield* run(dir, { settings: other })).calls, [])
      assert.deepStrictEqual(World.files(dir), World.files(fresh))
      assert.isTrue(existsSync(join(dir, "earlier/1/policy/adapter")) && !existsSync(join(dir, "earlier/moving")))
    })
  )
})

describe("a training", () => {
  const trainings = [
    ["supervised/metrics.jsonl", ["revise"]],
    ["reward/metrics.jsonl", ["revise", "supervised", "preferences"]],
    ["policy/metrics.jsonl", ["revise", "supervised", "preferences", "reward"]]
  ] as const

  it.live.each(trainings)("whose state is ahead of its metrics is run again to the same numbers: %s", ([file, done]) =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const whole = World.files(dir)
      // As a process leaves it that is killed after the state was saved and before the last line was written.
      const phases = JSON.parse(read(dir, "phases.json")) as Record<string, string>
      writeFileSync(
        join(dir, "phases.json"),
        JSON.stringify(Object.fromEntries(done.map((name) => [name, phases[name]])))
      )
      writeFileSync(join(dir, file), read(dir, file).replace(/[^\n]*\n$/, ""))
      rmSync(join(dir, file, "../adapter"), { recursive: true })
      mkdirSync(join(dir, "calls"), { recursive: true })
      const { calls } = yield* run(dir)
      assert.deepStrictEqual(World.files(dir), whole)
      assert.isFalse(calls.some((call) => /^(sample|choose|score)/.test(call)))
    })
  )

  it.live("goes on past a step that was skipped, which has no metrics", () =>
    Effect.gen(function* () {
      const skips = (...skipped: ReadonlyArray<number>) => {
        const service = World.models()
        let trainings = 0
        const policy: typeof service.policy = (name, from) =>
          Effect.map(service.policy(name, from), (policy) => ({
            ...policy,
            learn: (...given: Parameters<typeof policy.learn>) => {
              trainings++
              return Stream.filter(policy.learn(...given), ({ step }) => !skipped.includes(step))
            }
          }))
        return { service: { ...service, policy }, trainings: () => trainings }
      }
      const dir = workplace()
      const steps = () => World.rows(dir, "supervised/metrics.jsonl").map(({ step }) => step as number)
      const whole = skips(2, 8)
      yield* run(dir, { service: whole.service })
      assert.strictEqual(whole.trainings(), 1)
      assert.deepStrictEqual(steps(), [1, 3, 4, 5, 6, 7])

      // Killed after its last step, it cannot tell a skipped step from one that was not written down.
      const before = World.files(dir)
      writeFileSync(join(dir, "phases.json"), JSON.stringify({ revise: JSON.parse(read(dir, "phases.json")).revise }))
      rmSync(join(dir, "supervised/adapter"), { recursive: true })
      const again = skips(2, 8)
      yield* run(dir, { service: again.service })
      assert.strictEqual(again.trainings(), 2)
      assert.deepStrictEqual(World.files(dir), before)
    })
  )
})
