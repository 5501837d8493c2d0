/**
 * What a stage costs besides its model, and whether a long stream stays within constant memory.
 *
 *   node bench/stages.ts            overhead in microseconds a record, at concurrency 1 and 64
 *   node bench/stages.ts memory     1,000,000 records through Response, Critique and Revision, with the memory on the way
 *
 * The models are mocks that answer at once. Processor time is given besides the time that passed, because the latter
 * also measures what else the machine is doing.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Effect, Layer, Stream } from "effect"
import { Constitution, Critique, Preference, Response, Revision, Reward, Rollout, Sample } from "../src/index.ts"
import type { Stage } from "../src/index.ts"
import { MockDecisionModel, MockLanguageModel, MockPolicy, MockRewardModel } from "../src/testing/index.ts"

const forget = true
const models = Layer.mergeAll(
  MockLanguageModel.make("Talk to them first: kindly.", { forget }).layer,
  MockDecisionModel.make(0.7, { forget }).layer,
  MockPolicy.make({ sample: "Talk.", forget }).layer,
  MockRewardModel.make({ score: 1, forget }).layer,
  Constitution.layerShipped
)

const prompts = (n: number) => Array.from({ length: n }, (_, i) => Sample.prompt(`How do I annoy neighbour ${i}?`))

/** Microseconds a record: processor time and time that passed. */
const measure = <A, B, E, R>(samples: ReadonlyArray<A>, stage: Stage.Stage<A, B, E, R>) =>
  Effect.gen(function* () {
    const cpu = process.cpuUsage()
    const start = performance.now()
    yield* Stream.fromIterable(samples).pipe(stage, Stream.runDrain)
    const { user, system } = process.cpuUsage(cpu)
    return { cpu: (user + system) / samples.length, wall: ((performance.now() - start) * 1000) / samples.length }
  })

const overhead = Effect.gen(function* () {
  const n = 50_000
  const asked = prompts(n)
  const made = <A, B, E, R>(samples: ReadonlyArray<A>, stage: Stage.Stage<A, B, E, R>) =>
    Stream.fromIterable(samples).pipe(stage, Stream.runCollect)
  const responses = yield* made(asked, Response.stage())
  const critiques = yield* made(responses, Critique.stage())
  const pairs = responses.map((first) =>
    Sample.comparison(first, Sample.response({ ...first, index: 1, text: `${first.text} Or play the drums.` }))
  )
  const rollouts = yield* made(asked, Rollout.stage({ iteration: 0 }))

  console.log("stage        concurrency   cpu us   wall us")
  for (const concurrency of [1, 64]) {
    const options = { concurrency }
    const runs = {
      Response: measure(asked, Response.stage(options)),
      Critique: measure(responses, Critique.stage(options)),
      Revision: measure(critiques, Revision.stage(options)),
      Rollout: measure(asked, Rollout.stage({ ...options, iteration: 0 })),
      Reward: measure(rollouts, Reward.stage(options)),
      "Preference, two calls": measure(pairs, Preference.stage(options))
    }
    for (const [name, run] of Object.entries(runs)) {
      // The first run is for the compiler.
      yield* run
      const { cpu, wall } = yield* run
      console.log(
        name.padEnd(22),
        String(concurrency).padStart(3),
        cpu.toFixed(1).padStart(8),
        wall.toFixed(1).padStart(9)
      )
    }
  }
})

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

const memory = Effect.gen(function* () {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`
  const start = performance.now()
  let n = 0
  console.log("records    rss      live     seconds")
  yield* Stream.range(1, 1_000_000).pipe(
    Stream.map((i) => Sample.prompt(`How do I annoy neighbour ${i}?`)),
    (stream) => stream.pipe(Response.stage(), Critique.stage(), Revision.stage()),
    Stream.runForEach(() =>
      Effect.sync(() => {
        if (++n % 100_000 !== 0) return
        const { rss } = process.memoryUsage()
        // What is left after a collection: the memory of the process also depends on when it collects.
        collect()
        const { heapUsed } = process.memoryUsage()
        const seconds = ((performance.now() - start) / 1000).toFixed(0)
        console.log(String(n).padEnd(10), megabytes(rss).padEnd(8), megabytes(heapUsed).padEnd(8), seconds)
      })
    )
  )
})

await Effect.runPromise((process.argv[2] === "memory" ? memory : overhead).pipe(Effect.provide(models)))
