/**
 * How long the main thread is kept from its work while the engine's thread samples, scores and learns: the longest
 * delay of a timer, by `node:perf_hooks`.
 *
 *     node bench/main-thread.ts [MODEL]
 */
import { Effect, Stream } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import { Models } from "../src/Models.ts"
import type { LearnOptions } from "../src/Policy.ts"
import * as OnnxModels from "../src/providers/onnx/OnnxModels.ts"

const model = process.argv[2] ?? fileURLToPath(new URL("../assets/sandbox", import.meta.url))

/**
 * Runs an effect and prints the delays of the event loop during it, and the most processor time that the thread spent
 * between two ticks of a timer: that one does not count what other processes take.
 */
const measured = <A, E, R>(name: string, self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const histogram = monitorEventLoopDelay({ resolution: 1 })
    const busy: Array<number> = []
    let before = process.threadCpuUsage()
    const timer = setInterval(() => {
      const now = process.threadCpuUsage()
      busy.push((now.user + now.system - before.user - before.system) / 1000)
      before = now
    }, 1)
    histogram.enable()
    const started = performance.now()
    const result = yield* self
    histogram.disable()
    clearInterval(timer)
    const seconds = (performance.now() - started) / 1000
    const ms = (milliseconds: number) => milliseconds.toFixed(1).padStart(6)
    busy.sort((a, b) => b - a)
    console.log(
      `${name.padEnd(28)} ${seconds.toFixed(1).padStart(6)} s   delay p99 ${ms(histogram.percentile(99) / 1e6)}` +
        `, max ${ms(histogram.max / 1e6)} ms   busy p99 ${ms(busy[Math.floor(busy.length / 100)] ?? 0)}` +
        `, longest ${busy.slice(0, 3).map(ms).join("")} ms`
    )
    return result
  })

const learning = (stateDir: string): LearnOptions => ({
  seed: 1,
  epochs: 1,
  batchSize: 64,
  microTokens: 4096,
  learningRate: 1e-3,
  schedule: "cosine",
  warmupSteps: 1,
  floor: 0.1,
  weightDecay: 0,
  maxGradNorm: 1,
  maxLength: 192,
  stateDir
})

const program = Effect.gen(function* () {
  const { base, policy } = yield* Models
  const stateDir = mkdtempSync(join(tmpdir(), "charter-bench-"))
  const pupil = yield* policy("pupil", { _tag: "fresh", rank: 16, alpha: 32, seed: 1 })
  const context = (i: number) => `\n\nHuman: how do i bake a cake in ${i} steps ?\n\nAssistant:`
  const answer = " here is a simple way to bake the cake . first bring a pot close to the cake .".repeat(4)
  const many = (n: number) => Array.from({ length: n }, (_, i) => i)
  const sample = (i: number) =>
    base.sample({ id: `sample ${i}`, context: context(i), seed: 1, maxTokens: 48, temperature: 1 })
  const logprobs = (i: number) => base.logprobs({ id: `${i}`, context: context(i), completion: answer })
  yield* Effect.all([sample(0), logprobs(0)])
  yield* measured("nothing (3 s)", Effect.sleep("3 seconds"))
  yield* measured("sampling 1,024 x 48", Effect.forEach(many(1024), sample, { concurrency: 256 }))
  yield* measured("scoring 2,048 x 90", Effect.forEach(many(2048), logprobs, { concurrency: 256 }))
  for (const count of [2048, 60_000]) {
    const examples = many(count).map((i) => ({ id: `row ${i}`, context: context(i), completion: answer }))
    const options = learning(join(stateDir, String(count)))
    yield* measured(
      `learning, ${count.toLocaleString("en-US")} rows of 90`,
      pupil.learn(examples, options, () => Effect.void).pipe(Stream.take(5), Stream.runDrain)
    )
  }
  rmSync(stateDir, { recursive: true, force: true })
})

Effect.runPromise(program.pipe(Effect.provide(OnnxModels.layer({ dir: model })))).catch((error) => {
  console.error(error)
  process.exitCode = 1
})
