/**
 * Scoring speed: batches of 8 rows of 256 tokens, beside the machine's own rate of fp32 matrix products (2048 cubed),
 * taken in turns; loading time and resident memory.
 *
 *     node bench/score.ts MODEL [--precision fp32|int8] [--runs 5]
 *
 * Operations are those of a forward pass, 2 for each parameter of a linear map and each token, and 4 · T · width for
 * each layer and token in attention (Chowdhery et al. 2022, appendix B); "maps alone" leaves attention out. Beside
 * rates by the clock stand those by processor time, which other work on the machine changes little.
 */
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import * as Base from "../src/engine/Base.ts"
import * as Scorer from "../src/engine/Scorer.ts"
import * as Checkpoint from "../src/model/Checkpoint.ts"
import { linears } from "../src/model/ModelConfig.ts"
import * as Memory from "../src/model/Memory.ts"
import * as Graph from "../src/onnx/Graph.ts"
import * as Op from "../src/onnx/Op.ts"
import * as Session from "../src/onnx/Session.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: "string", default: "fp32" },
    device: { type: "string", default: "cpu" },
    runs: { type: "string", default: "5" }
  }
})
const precision = values.precision === "int8" ? "int8" : "fp32"
const device = values.device === "cuda" ? "cuda" : "cpu"

const [rows, length, size] = [8, 256, 2048]

/** Seconds by the clock and of the processors. */
const timed = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const started = performance.now()
  const cpu = process.cpuUsage()
  yield* effect
  const wall = (performance.now() - started) / 1000
  const { system, user } = process.cpuUsage(cpu)
  return { wall, cpu: (user + system) / 1e6 }
})

const median = (numbers: ReadonlyArray<number>) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!

/** Megabytes of the process, where the system tells them. */
const resident = (): string => {
  try {
    const status = readFileSync("/proc/self/status", "utf8")
    const of = (name: string) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024)
    return `${of("VmRSS")} MB, at most ${of("VmHWM")} MB (${of("RssAnon")} MB its own, the rest mapped files)`
  } catch {
    return `${Math.round(process.memoryUsage().rss / 2 ** 20)} MB`
  }
}

const program = Effect.gen(function* () {
  const dir = positionals[0]
  if (dir === undefined) return yield* Effect.die("node bench/score.ts MODEL [--precision fp32|int8] [--runs 5]")
  let scorer!: Scorer.Scorer
  const load = Effect.gen(function* () {
    const checkpoint = yield* Checkpoint.open(dir)
    const base = yield* Base.make(checkpoint, { precision, device })
    scorer = yield* Scorer.make(base, { maxTokens: rows * length })
    // Graphs are compiled when they are first asked for.
    yield* scorer.score({ ids: [1, 2], adapter: undefined, kind: "logprobs", at: [0], targets: [2] })
    return checkpoint
  })
  // Made beforehand, as they are kept.
  if (precision === "int8") yield* Base.make(yield* Checkpoint.open(dir), { precision })
  let checkpoint!: Checkpoint.Checkpoint
  const loading = yield* timed(Effect.tap(load, (loaded) => Effect.sync(() => (checkpoint = loaded))))
  const { config } = checkpoint

  const tokens = rows * length
  const head = config.vocabSize * config.hiddenSize
  const perToken = linears(config).reduce((sum, map) => sum + map.in * map.out, head)
  const maps = 2 * perToken * tokens
  const attention = 4 * length * config.heads * config.headDim * config.layers * tokens
  const batch = Array.from({ length: rows }, (_, b) =>
    Array.from({ length }, (_, t) => (b * 7919 + t * 104_729) % config.vocabSize)
  )
  const score = Effect.forEach(
    batch,
    (ids) =>
      scorer.score({
        ids,
        adapter: undefined,
        kind: "logprobs",
        at: ids.slice(1).map((_, t) => t),
        targets: ids.slice(1)
      }),
    { concurrency: "unbounded", discard: true }
  )
  yield* score
  const memory = resident()

  const graph = Graph.make("product")
  const square = Graph.constant(graph, "float32", [size, size], new Float32Array(size * size).fill(0.01))
  const product = Op.matmul(Graph.input(graph, "x", "float32", [size, size]), square)
  Graph.output(graph, "y", Op.max(product, [0, 1]))
  const session = yield* Session.make(graph)
  const x = Session.float32(new Float32Array(size * size).fill(0.5), [size, size])
  const multiply = session.run({ x })
  yield* multiply

  const both = yield* Effect.forEach(Array.from({ length: Number(values.runs) }), () =>
    Effect.all({ product: timed(Effect.repeat(multiply, { times: 4 })), score: timed(score) })
  )
  const products = 5 * 2 * size ** 3
  const rate = (by: "wall" | "cpu") => {
    const per = (flops: number, of: "product" | "score") => median(both.map((run) => flops / run[of][by] / 1e9))
    const ratio = (flops: number) => median(both.map((run) => flops / run.score[by] / (products / run.product[by])))
    return [
      `products ${per(products, "product").toFixed(0)} GFLOP/s`,
      `scoring ${per(maps + attention, "score").toFixed(0)} GFLOP/s (maps alone ${per(maps, "score").toFixed(0)})`,
      `ratio ${ratio(maps + attention).toFixed(2)} (maps alone ${ratio(maps).toFixed(2)})`,
      `${per(tokens * 1e9, "score").toFixed(0)} tokens/s`
    ].join(", ")
  }
  const weights = Memory.fp32Bytes(config)
  console.log(`${dir}, ${values.precision}, ${rows} x ${length} tokens, ${availableParallelism()} cores`)
  console.log(`loading: ${loading.wall.toFixed(2)} s (${loading.cpu.toFixed(2)} s of processor time)`)
  console.log(`resident: ${memory}; the weights in fp32 are ${Math.round(weights / 2 ** 20)} MB`)
  console.log(`by the clock: ${rate("wall")}`)
  console.log(`by processor time: ${rate("cpu")}`)
}).pipe(Effect.scoped)

await Effect.runPromise(program)
