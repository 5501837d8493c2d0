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
import * as EngineWorker from "../src/engine/EngineWorker.ts"

const model = process.argv[2] ?? fileURLToPath(new URL("../assets/sandbox", import.meta.url))

/** Runs an effect and prints the delays of the event loop during it, less what an idle loop shows. */
const measured = <A, E, R>(name: string, self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const histogram = monitorEventLoopDelay({ resolution: 1 })
    histogram.enable()
    const started = performance.now()
    const result = yield* self
    histogram.disable()
    const seconds = (performance.now() - started) / 1000
    const ms = (nanoseconds: number) => (nanoseconds / 1e6).toFixed(1).padStart(7)
    console.log(
      `${name.padEnd(34)} ${seconds.toFixed(1).padStart(6)} s   p50 ${ms(histogram.percentile(50))}   ` +
        `p99 ${ms(histogram.percentile(99))}   max ${ms(histogram.max)} ms`
    )
    return result
  })

const tokens = (length: number, seed: number) => Array.from({ length }, (_, t) => 20 + ((seed * 31 + t * 17) % 800))

const program = Effect.gen(function* () {
  const client = yield* EngineWorker.client({ dir: model })
  const stateDir = mkdtempSync(join(tmpdir(), "charter-bench-"))
  const source = { _tag: "fresh", rank: 16, alpha: 32, seed: 1 } as const
  yield* client.MakeAdapter({ name: "policy", source, head: "value", reference: "reference" })
  const sample = (i: number) =>
    client.Generate({
      id: `sample ${i}`,
      ids: tokens(100, i),
      adapter: null,
      seed: 1,
      n: 1,
      maxTokens: 48,
      temperature: 1,
      stopIds: [],
      stopTexts: []
    })
  yield* sample(0)
  yield* measured("nothing (3 s)", Effect.sleep("3 seconds"))
  const samples = Array.from({ length: 1024 }, (_, i) => i)
  yield* measured("sampling 1,024 x 48", Effect.forEach(samples, sample, { concurrency: 256 }))
  yield* measured(
    "scoring 2,048 x 120",
    Effect.forEach(
      Array.from({ length: 2048 }, (_, i) => i),
      (i) => client.Logprobs({ ids: tokens(120, i), from: 20, adapter: null }),
      { concurrency: 256 }
    )
  )
  yield* measured(
    "learning, 4,096 rows of 170",
    client
      .LearnSupervised({
        adapter: "policy",
        rows: Array.from({ length: 4096 }, (_, i) => ({ id: `row ${i}`, ids: tokens(170, i), from: 20 })),
        options: {
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
        }
      })
      .pipe(Stream.take(5), Stream.runDrain)
  )
  rmSync(stateDir, { recursive: true, force: true })
})

Effect.runPromise(Effect.scoped(program)).catch((error) => {
  console.error(error)
  process.exitCode = 1
})
