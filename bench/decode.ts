/**
 * Decoding speed: tokens a second by batch size, prompts of 64 tokens continued by 64, at temperature 1.
 *
 *     node bench/decode.ts [MODEL] [--precision fp32|int8] [--batch 1,8,32,128] [--tokens 64]
 *
 * Without a model, the sandbox's. The rate is that of the fastest tenth of the steps, which other work on the machine
 * disturbs least; the median's stands beside it, and that of the whole, prompts included. On a GPU a run takes several
 * steps, and only the whole is timed.
 */
import { Effect } from "effect"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import * as Base from "../src/engine/Base.ts"
import * as Decoder from "../src/engine/Decoder.ts"
import * as Checkpoint from "../src/model/Checkpoint.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: "string", default: "fp32" },
    device: { type: "string", default: "cpu" },
    batch: { type: "string", default: "1,8,32,128" },
    tokens: { type: "string", default: "64" }
  }
})
const precision = values.precision === "int8" ? "int8" : "fp32"
const device = values.device === "cuda" ? "cuda" : "cpu"

const prompt = 64

const program = Effect.gen(function* () {
  const dir = positionals[0] ?? fileURLToPath(new URL("../assets/sandbox", import.meta.url))
  const checkpoint = yield* Checkpoint.open(dir)
  const base = yield* Base.make(checkpoint, { precision, device })
  const { vocabSize } = checkpoint.config
  const request = (i: number, maxTokens: number): Decoder.Request => ({
    id: `${i}`,
    ids: Array.from({ length: prompt }, (_, t) => ((i + 1) * 7919 + t * 104_729 + 17) % vocabSize),
    adapter: undefined,
    seed: 1,
    maxTokens,
    temperature: 1,
    stopIds: new Set()
  })
  const steps = Number(values.tokens)
  console.log(`${dir}, ${values.precision}, ${availableParallelism()} cores`)
  for (const batch of values.batch.split(",").map(Number)) {
    const decoder = yield* Decoder.make(base, { memory: 2 ** 32, maxRows: batch })
    // The first request is asked after each token whether it ends: that is the clock.
    const ticks: Array<number> = []
    const tick = () => {
      ticks.push(performance.now())
      return false
    }
    // Compiles what will be run.
    yield* decoder.generate(request(-1, 4))
    const started = performance.now()
    yield* Effect.forEach(
      Array.from({ length: batch }, (_, i) => ({ ...request(i, steps + 1), ...(i === 0 ? { stop: tick } : {}) })),
      decoder.generate,
      { concurrency: "unbounded" }
    )
    const perSecond = (tokens: number, milliseconds: number) => ((1000 * tokens) / milliseconds).toFixed(0).padStart(6)
    const whole = `whole ${perSecond(batch * (steps + 1), performance.now() - started)} tokens/s`
    if (device === "cuda") {
      console.log(`batch ${String(batch).padStart(3)}: ${whole}`)
      continue
    }
    const times = ticks
      .slice(1)
      .map((at, i) => at - ticks[i]!)
      .sort((a, b) => a - b)
    const rate = (share: number) => perSecond(batch, times[Math.floor(share * times.length)]!)
    console.log(`batch ${String(batch).padStart(3)}: ${rate(0.1)} tokens/s, median ${rate(0.5)}, ${whole}`)
  }
})

Effect.runPromise(Effect.scoped(program)).catch((error) => {
  console.error(error)
  process.exitCode = 1
})
