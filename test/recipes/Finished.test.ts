import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { PolicyError } from "../../src/Policy.ts"
import * as Finished from "../../src/recipes/Finished.ts"
import type { Manifest } from "../../src/recipes/Manifest.ts"
import { workplace } from "../workplace.ts"
import { models, runIn } from "./Fixture.ts"
import * as World from "./World.ts"

const run = Effect.fnUntraced(function* (dir: string) {
  const calls: Array<string> = []
  const service = World.models({ begins: (call) => Effect.sync(() => void calls.push(call)) })
  yield* runIn(dir, models(), { service })
  return calls
})

describe("a finished phase", () => {
  // A file, and the calls that it takes to make it again.
  const none = /^$/
  const gone = [
    ["supervised/responses.jsonl", /^sample base .*response$/],
    ["preferences/pairs.jsonl", /^sample supervised/],
    ["supervised/adapter", none],
    ["supervised/metrics.jsonl", /^step .*supervised/],
    ["reward/adapter", none],
    ["reward/metrics.jsonl", /^step .*reward/],
    ["policy/adapter", none],
    ["policy/calibration.jsonl", /^score/],
    ["policy/metrics.jsonl", /^update/],
    ["policy/rollouts.jsonl", /^(update|sample reinforced|score)/]
  ] as const

  it.live.each(gone)("is done again, to the same bytes, when its %s is gone", ([path, asked]) =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const whole = World.files(dir)
      rmSync(join(dir, path), { recursive: true })
      const calls = yield* run(dir)
      assert.deepStrictEqual(World.files(dir), whole)
      assert.deepStrictEqual(
        calls.filter((call) => !asked.test(call)),
        [],
        "from its state and its records"
      )
      assert.deepStrictEqual(yield* run(dir), [], "and then it is finished")
    })
  )

  it.live("whose adapter is damaged is made again once that is deleted, and says so", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const whole = World.files(dir)
      const adapter = join(dir, "policy/adapter")
      const service = World.models()
      const policy: typeof service.policy = (name, from) =>
        from._tag === "folder" && from.dir === adapter && existsSync(adapter)
          ? Effect.fail(new PolicyError({ message: "Its file ends early; save it again.", retryable: false }))
          : service.policy(name, from)
      const error = yield* Effect.flip(runIn(dir, models(), { service: { ...service, policy } }))
      assert.strictEqual(
        (error as Error).message,
        `Its file ends early; save it again. Or delete ${adapter}: it is made again from what was learnt.`
      )
      rmSync(adapter, { recursive: true })
      yield* runIn(dir, models(), { service: { ...service, policy } })
      assert.deepStrictEqual(World.files(dir), whole)
    })
  )

  it.live("is not taken for finished when what was gone is there in half", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const whole = World.files(dir)
      rmSync(join(dir, "policy/rollouts.jsonl"))
      // The first call of the second start ends it, when the log has been opened anew.
      const dies = World.models({ begins: () => Effect.die("killed") })
      yield* Effect.exit(runIn(dir, models(), { service: dies }))
      assert.strictEqual(readFileSync(join(dir, "policy/rollouts.jsonl"), "utf8"), "")
      yield* run(dir)
      assert.deepStrictEqual(World.files(dir), whole)
    })
  )

  it.live("has all of its rollouts, though one was gone while it was under way", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* run(dir)
      const whole = World.files(dir)
      const again = workplace()
      const dies = World.models({ begins: (call) => (call === "update 1" ? Effect.die("killed") : Effect.void) })
      yield* Effect.exit(runIn(again, models(), { service: dies }))
      const file = join(again, "policy/rollouts.jsonl")
      const [first, ...rest] = readFileSync(file, "utf8").split("\n")
      assert.include(first, '"iteration":0')
      writeFileSync(file, rest.join("\n"))
      yield* run(again)
      assert.deepStrictEqual(World.files(again), whole)
    })
  )

  it("has every file that it left, but for its state and the summary", () => {
    const dir = workplace()
    const files = ["policy/metrics.jsonl", "policy/state", "policy/adapter", "summary.json"]
    const manifest = { phases: { policy: { fingerprint: "f", logs: {}, files } } } as unknown as Manifest
    const adapter = ["policy/adapter/adapter_config.json", "policy/adapter/deep/adapter_model.safetensors"]
    mkdirSync(join(dir, "policy/adapter/deep"), { recursive: true })
    mkdirSync(join(dir, "policy/state"))
    for (const file of [...adapter, "policy/metrics.jsonl", "policy/state/s", "summary.json"]) {
      writeFileSync(join(dir, file), "")
    }
    const phases = Finished.addUnsafe(dir, {}, manifest, "policy", "f", [])
    const left = ["policy/metrics.jsonl", ...adapter]
    assert.deepStrictEqual(phases, { policy: { fingerprint: "f", files: left, rejected: [] } })
    rmSync(join(dir, "policy/state"), { recursive: true })
    rmSync(join(dir, "summary.json"))
    assert.deepStrictEqual(Finished.check(dir, manifest, phases), { phases, areAll: true })
    rmSync(join(dir, adapter[1]!))
    assert.deepStrictEqual(Finished.check(dir, manifest, phases), { phases: {}, areAll: false })
  })

  it("of an earlier version, which noted only its fingerprint, has what the manifest names", () => {
    const dir = workplace()
    const files = ["policy/metrics.jsonl", "policy/state", "policy/adapter"]
    const manifest = { phases: { policy: { fingerprint: "f", logs: {}, files } } } as unknown as Manifest
    const finished = () => Object.keys(Finished.check(dir, manifest, { policy: "f" }).phases)
    mkdirSync(join(dir, "policy/adapter"), { recursive: true })
    assert.deepStrictEqual(finished(), [])
    writeFileSync(join(dir, "policy/metrics.jsonl"), "")
    assert.deepStrictEqual(finished(), ["policy"])
  })
})
