/**
 * How fast Charter learns, and in how much memory: LoRA of rank 16 on all linear layers.
 *
 *     node bench/train.ts MODEL [sft|reward|dpo] [steps] [--micro-tokens 640] [--recompute] [--int8] [--cuda]
 *
 * Prints one line of JSON. The best step of a few is counted, as the machine may be busy otherwise; `cpu_seconds` are
 * those of all cores in that step, which other work disturbs less.
 */
import { Effect } from "effect"
import * as Adapters from "../src/engine/Adapters.ts"
import * as Base from "../src/engine/Base.ts"
import * as Forward from "../src/engine/Forward.ts"
import * as Learner from "../src/engine/Learner.ts"
import * as Objective from "../src/engine/Objective.ts"
import * as Scorer from "../src/engine/Scorer.ts"
import type * as Training from "../src/engine/Training.ts"
import * as TrainingData from "../src/engine/TrainingData.ts"
import * as Checkpoint from "../src/model/Checkpoint.ts"
import * as Lora from "../src/model/Lora.ts"
import * as Random from "../src/Random.ts"

const [dir, kind = "sft", count = "3"] = process.argv.slice(2)
if (dir === undefined) throw new Error("give the folder of a model")
const option = (name: string, otherwise: number) => {
  const at = process.argv.indexOf(name)
  return at < 0 ? otherwise : Number(process.argv[at + 1])
}
const how = { microTokens: option("--micro-tokens", 640), recompute: process.argv.includes("--recompute") }
const rates = { learningRates: [1e-4], weightDecays: [0], maxGradNorm: 1 }

const program = Effect.gen(function* () {
  const opened = yield* Checkpoint.open(dir)
  const precision = process.argv.includes("--int8") ? "int8" : "fp32"
  const device = process.argv.includes("--cuda") ? "cuda" : "cpu"
  const checkpoint = yield* Base.make(opened, { precision, device })
  const { config } = checkpoint
  const random = Random.make(1, "bench")
  const tokens = (n: number) => Array.from({ length: n }, () => random.int(config.vocabSize))
  const lora = yield* Effect.fromResult(
    Lora.init(config, { rank: 16, alpha: 32, targets: Lora.allTargets(config) }, 1, { score: kind === "reward" })
  )
  const adapter = Adapters.fromLora(lora, config)
  const rows = Array.from({ length: 8 }, (_, i) => ({
    id: `${i}`,
    ids: tokens(256),
    weights: Array<number>(256).fill(1)
  }))
  const pairs = Array.from({ length: 8 }, (_, i) => {
    const prompt = tokens(60)
    return {
      id: `${i}`,
      first: [...prompt, ...tokens(100)],
      second: [...prompt, ...tokens(100)],
      from: 60,
      probability: 1
    }
  })
  const forward = Forward.over(yield* Scorer.make(checkpoint, { maxTokens: how.microTokens }))
  const [objective, data] = (
    kind === "sft"
      ? [Objective.sft, TrainingData.supervised(rows, how)]
      : kind === "reward"
        ? [Objective.bradleyTerry, TrainingData.preferences(pairs, how)]
        : [
            Objective.dpo({ beta: 0.1, loss: "sigmoid" }),
            TrainingData.directPreferences(pairs, how, forward, undefined)
          ]
  ) as [Objective.Objective, Training.Data<unknown>]
  const learner = yield* Learner.make(checkpoint, adapter, objective, how)
  const state = Learner.initialState(adapter.vector)
  const seconds: Array<number> = []
  const cpu: Array<number> = []
  let loss = 0
  for (let step = 0; step < Number(count); step++) {
    const started = performance.now()
    const used = process.cpuUsage()
    ;({ loss } = yield* learner.step(state, yield* data.collate(data.rows), rates))
    seconds.push((performance.now() - started) / 1000)
    const { system, user } = process.cpuUsage(used)
    cpu.push((user + system) / 1e6)
  }
  const best = Math.min(...seconds)
  const all = data.rows.reduce<number>((n, row) => n + data.tokens(row), 0)
  console.log(
    JSON.stringify({
      kind,
      precision,
      device,
      loss,
      tokens_per_second: Math.round(all / best),
      ...(kind === "sft" ? {} : { pairs_per_second: Number((8 / best).toFixed(2)) }),
      cpu_seconds: Number(Math.min(...cpu).toFixed(2)),
      tokens_per_cpu_second: Math.round(all / Math.min(...cpu)),
      seconds: seconds.map((s) => Number(s.toFixed(2))),
      peak_resident_gb: Number((process.resourceUsage().maxRSS / 2 ** 20).toFixed(2))
    })
  )
})

await Effect.runPromise(Effect.scoped(program))
