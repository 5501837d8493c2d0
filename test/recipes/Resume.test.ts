import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit } from "effect"
import { spawn } from "node:child_process"
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { PolicyError } from "../../src/Policy.ts"
import { models, prompts, runIn, settings, temporary } from "./Fixture.ts"

const read = (file: string) => (existsSync(file) ? readFileSync(file, "utf8") : "")
const callsOf = (dir: string) => read(`${dir}.calls`).split("\n").filter(Boolean)

/** Starts the run in a process of its own and kills it once `calls` calls were answered; true if it ended before. */
const start = (dir: string, calls: number) =>
  new Promise<boolean>((done, fail) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL("killed.ts", import.meta.url)), dir], {
      stdio: ["ignore", "ignore", "pipe"]
    })
    let said = ""
    child.stderr.on("data", (text) => (said += text))
    const before = callsOf(dir).length
    const timer = setInterval(() => {
      if (callsOf(dir).length - before >= calls) child.kill("SIGKILL")
    }, 3)
    child.on("exit", (code, signal) => {
      clearInterval(timer)
      if (code !== 0 && signal === null) fail(new Error(said))
      else done(signal === null)
    })
  })

/** Results without what depends on the clock and on the order of the lines. */
const comparable = (dir: string) => {
  const { seconds: _, tokens: __, ...rest } = JSON.parse(read(join(dir, "summary.json"))) as Record<string, unknown>
  return rest
}

const sorted = (dir: string, file: string) => read(join(dir, file)).trim().split("\n").toSorted()

describe("a run that is killed", () => {
  it("finishes when it is started again, and asks for nothing twice that was finished", async () => {
    const whole = temporary()
    assert.isTrue(await start(whole, Infinity))
    const dir = temporary()
    let kills = 0
    while (!(await start(dir, 35))) kills++
    assert.isAbove(kills, 2)

    assert.deepStrictEqual(comparable(dir), comparable(whole))
    for (const file of ["supervised/revisions.jsonl", "preferences/preferences.jsonl", "policy/rollouts.jsonl"]) {
      assert.deepStrictEqual(sorted(dir, file), sorted(whole, file))
    }
    const calls = callsOf(dir)
    const again = calls.length - new Set(calls).size - (callsOf(whole).length - new Set(callsOf(whole)).size)
    // What was under way at a kill is lost: with each, at most what the stages hold at the same time.
    assert.isAtMost(again, kills * 3 * settings.concurrency)
    assert.strictEqual(calls.filter((call) => call.startsWith("update")).length, settings.reinforcement.iterations)
  }, 60_000)

  it("repairs a torn last line", async () => {
    const dir = temporary()
    await Effect.runPromise(runIn(dir, models()))
    const file = join(dir, "supervised/responses.jsonl")
    const content = read(file)
    const last = content.trimEnd().split("\n").at(-1)!
    writeFileSync(file, content.slice(0, -10))
    const again = models()
    await Effect.runPromise(runIn(dir, again))
    assert.strictEqual(again.base.samples.length, 1)
    assert.strictEqual(read(file).trimEnd().split("\n").at(-1), last)
  })
})

describe("a run that is interrupted", () => {
  it.live.each([3, 20, 40, 60, 75])("after %i answers goes on", (n) =>
    Effect.gen(function* () {
      const dir = temporary()
      const first = models()
      const reached = yield* Deferred.make<void>()
      let answered = 0
      const base = {
        ...first.service.base,
        sample: (request: Parameters<typeof first.service.base.sample>[0]) =>
          Effect.tap(Effect.andThen(Effect.yieldNow, first.service.base.sample(request)), () =>
            ++answered >= n ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never) : Effect.void
          )
      }
      const run = runIn(dir, first, { service: { ...first.service, base } })
      yield* Effect.raceFirst(run, Deferred.await(reached))
      const again = models()
      const summary = yield* runIn(dir, again)
      assert.strictEqual(summary.counts["responses"], prompts.length)
      const whole = models()
      yield* runIn(temporary(), whole)
      const total = first.base.samples.length + again.base.samples.length
      assert.isAtMost(total - whole.base.samples.length, 3 * settings.concurrency)
    })
  )
})

describe("a sample that fails", () => {
  it.live("is rejected and the run goes on, also when it is started again", () =>
    Effect.gen(function* () {
      const dir = temporary()
      const failing = () => {
        const mock = models()
        const base = {
          ...mock.service.base,
          sample: (request: Parameters<typeof mock.service.base.sample>[0]) =>
            request.id === `${prompts[0]!.id}/0/response`
              ? Effect.fail(new PolicyError({ message: "too long", id: request.id, retryable: false }))
              : mock.service.base.sample(request)
        }
        return { mock, service: { ...mock.service, base } }
      }
      const first = failing()
      const summary = yield* runIn(dir, first.mock, { service: first.service })
      assert.strictEqual(summary.rejected["response"], 1)
      assert.strictEqual(summary.counts["responses"], prompts.length - 1)
      assert.include(read(join(dir, "rejected.jsonl")), "too long")
      const second = failing()
      yield* runIn(dir, second.mock, { service: second.service })
      assert.strictEqual(second.mock.base.samples.length, 0)
    })
  )

  it.live("ends the run when the failure may pass, and nothing is rejected", () =>
    Effect.gen(function* () {
      const dir = temporary()
      const mock = models()
      let left = 5
      const base = {
        ...mock.service.base,
        sample: (request: Parameters<typeof mock.service.base.sample>[0]) =>
          left-- > 0
            ? mock.service.base.sample(request)
            : Effect.fail(new PolicyError({ message: "the engine is gone", retryable: true }))
      }
      const exit = yield* Effect.exit(runIn(dir, mock, { service: { ...mock.service, base } }))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(read(join(dir, "rejected.jsonl")), "")
      const summary = yield* runIn(dir, models())
      assert.deepStrictEqual(summary.rejected, { total: 0 })
    })
  )
})

describe("a run folder", () => {
  const message = (dir: string, options?: Parameters<typeof runIn>[2]) =>
    runIn(dir, models(), options).pipe(
      Effect.flip,
      Effect.map((error) => (error instanceof Error ? error.message : String(error)))
    )

  it.live("refuses other settings and loses nothing", () =>
    Effect.gen(function* () {
      const dir = temporary()
      yield* runIn(dir, models())
      const before = read(join(dir, "summary.json"))
      const other = { ...settings, supervised: { ...settings.supervised, rounds: 7 } }
      assert.include(yield* message(dir, { settings: other }), "supervised.rounds is 2 there and 7 now")
      assert.strictEqual(read(join(dir, "summary.json")), before)
    })
  )

  it.live("refuses a second writer, and takes over from one that is gone", () =>
    Effect.gen(function* () {
      const dir = temporary()
      const lock = join(dir, "run.lock")
      const { hostname } = yield* Effect.promise(() => import("node:os"))
      writeFileSync(lock, JSON.stringify({ pid: 1, host: "elsewhere", born: "" }))
      assert.include(yield* message(dir), "elsewhere")
      writeFileSync(lock, JSON.stringify({ pid: process.pid, host: hostname(), born: "another one" }))
      const summary = yield* runIn(dir, models())
      assert.strictEqual(summary.counts["responses"], prompts.length)
      assert.isFalse(existsSync(lock))
    })
  )

  it.live("refuses a folder of something else", () =>
    Effect.gen(function* () {
      const dir = temporary()
      appendFileSync(join(dir, "thesis.txt"), "chapter one")
      assert.include(yield* message(dir), "thesis.txt")
      assert.isFalse(existsSync(join(dir, "manifest.json")))
    })
  )
})
