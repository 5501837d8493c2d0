/**
 * Decoding speed: tokens a second by batch size, prompts of 64 tokens continued by 64, at temperature 1.
 *
 *     node bench/decode.ts [MODEL] [--precision fp32|int8] [--batch 1,8,32,128] [--tokens 64]
 *
 * Without a model, the sandbox's. `cpu` is the share of the machine's cores that the decoding had: well below one, the
 * figure says more about the neighbours than about the decoder. The prefill is timed apart.
 */
import { Effect } from "effect"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import * as Decoder from "../src/engine/Decoder.ts"
import * as Checkpoint from "../src/model/Checkpoint.ts"
import * as Quantized from "../src/model/Quantized.ts"
import type * as Program from "../src/engine/Program.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: "string", default: "fp32" },
    batch: { type: "string", default: "1,8,32,128" },
    tokens: { type: "string", default: "64" }
  }
})

const prompt = 64

const program = Effect.gen(function* () {
  const dir = positionals[0] ?? fileURLToPath(new URL("../assets/sandbox", import.meta.url))
  const checkpoint = yield* Checkpoint.open(dir)
  const base: Program.Base =
    values.precision === "int8" ? { ...checkpoint, quantized: yield* Quantized.open(checkpoint) } : checkpoint
  const { vocabSize } = checkpoint.config
  const request = (i: number, maxTokens: number): Decoder.Request => ({
    id: `${i}`,
    ids: Array.from({ length: prompt }, (_, t) => (i * 7919 + t * 104_729 + 17) % vocabSize),
    adapter: undefined,
    seed: 1,
    maxTokens,
    temperature: 1,
    stopIds: new Set()
  })
  console.log(`${dir}, ${values.precision}, ${availableParallelism()} cores`)
  for (const batch of values.batch.split(",").map(Number)) {
    const decoder = yield* Decoder.make(base, { memory: 2 ** 32, maxRows: batch })
    const run = (maxTokens: number) =>
      Effect.gen(function* () {
        const started = performance.now()
        const cpu = process.cpuUsage()
        yield* Effect.forEach(
          Array.from({ length: batch }, (_, i) => request(i, maxTokens)),
          decoder.generate,
          { concurrency: "unbounded" }
        )
        const seconds = (performance.now() - started) / 1000
        const used = process.cpuUsage(cpu)
        return { seconds, cpu: (used.user + used.system) / 1e6 }
      })
    yield* run(2)
    const prefill = yield* run(1)
    const whole = yield* run(Number(values.tokens) + 1)
    const seconds = whole.seconds - prefill.seconds
    const tokens = batch * Number(values.tokens)
    console.log(
      `batch ${String(batch).padStart(3)}: ${(tokens / seconds).toFixed(0).padStart(6)} tokens/s` +
        `, ${((1000 * seconds) / Number(values.tokens)).toFixed(1)} ms a step` +
        `, prefill ${((batch * prompt) / prefill.seconds).toFixed(0)} tokens/s` +
        `, cpu ${((whole.cpu - prefill.cpu) / seconds / availableParallelism()).toFixed(2)}`
    )
  }
})

Effect.runPromise(Effect.scoped(program)).catch((error) => {
  console.error(error)
  process.exitCode = 1
})
