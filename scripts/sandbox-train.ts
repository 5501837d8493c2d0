/**
 * Trains the sandbox model with Charter's own learner and writes `assets/sandbox/model.safetensors` (half precision).
 *
 * Takes about 40 minutes on two cores. Its state is kept every 250 steps in `runs/sandbox-train`, so that the same
 * command continues after an interruption. Check the result with `npm run sandbox:check` before committing it.
 */
import { Effect } from "effect"
import { existsSync, mkdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Batch from "../src/engine/Batch.ts"
import * as Learner from "../src/engine/Learner.ts"
import * as Objective from "../src/engine/Objective.ts"
import * as Trainables from "../src/engine/Trainables.ts"
import * as Config from "../src/model/ModelConfig.ts"
import * as Safetensors from "../src/model/Safetensors.ts"
import * as Tokenizer from "../src/model/Tokenizer.ts"
import * as Optimizer from "../src/engine/Optimizer.ts"
import * as Folder from "../src/sandbox/Folder.ts"
import * as Pretraining from "../src/sandbox/Pretraining.ts"

const assets = fileURLToPath(new URL("../assets/sandbox", import.meta.url))
const work = fileURLToPath(new URL("../runs/sandbox-train", import.meta.url))
const stateFile = `${work}/state.safetensors`
const { options } = Pretraining

const program = Effect.gen(function* () {
  const config = yield* Effect.fromResult(Config.fromJson(Folder.config(), "config.json"))
  const tokenizer = yield* Tokenizer.load(assets)
  const layout = Trainables.layout(Pretraining.parameters(config))
  const untrained = { dir: assets, config, tensors: new Map(), eosTokenIds: [], bosTokenId: 0, padTokenId: 1 }
  const learner = yield* Learner.make(untrained, { layout, scales: new Map() }, Objective.sft, {
    microTokens: 2048
  })

  const state = Learner.initialState(Trainables.pack(layout, (e) => Pretraining.initial(config, options.seed, e)))
  mkdirSync(work, { recursive: true })
  if (existsSync(stateFile)) {
    const file = yield* Safetensors.read(stateFile)
    for (const name of ["parameters", "m", "v"] as const) {
      state[name] = yield* Safetensors.load(file.tensors.get(name)!)
    }
    state.step = Number(file.metadata["step"])
    console.error(`continuing at step ${state.step}`)
  }

  const schedule = { kind: "cosine", steps: options.steps, warmup: options.warmup, floor: options.floor } as const
  const started = performance.now()
  let [step, tokens, first] = [0, 0, state.step]
  for (const rows of Pretraining.batches(options.seed, tokenizer.encode)) {
    if (step >= options.steps) break
    // Batches before the resumed step are drawn and dropped: what follows depends on them.
    if (step++ < first) continue
    const rate = options.learningRate * Optimizer.stepMultiplier(schedule, step - 1)
    const metrics = yield* learner.step(state, [Batch.supervised(rows, Batch.totalWeight(rows))], {
      learningRates: [rate, rate],
      weightDecays: [options.weightDecay, 0],
      maxGradNorm: options.maxGradNorm
    })
    tokens += rows.reduce((n, r) => n + r.ids.length, 0)
    if (step % 25 === 0) {
      const seconds = (performance.now() - started) / 1000
      console.error(
        `step ${step}/${options.steps} loss ${metrics.loss.toFixed(4)} norm ${metrics.grad_norm.toFixed(2)} ` +
          `${Math.round(tokens / seconds)} tokens/s, ${Math.round(((options.steps - step) * seconds) / (step - first))} s left`
      )
    }
    if (step % 250 === 0 || step === options.steps) {
      const shape = [layout.size]
      yield* Safetensors.write(
        stateFile,
        (["parameters", "m", "v"] as const).map((name) => ({ name, shape, data: state[name] })),
        { step: String(state.step) }
      )
    }
  }
  const numbers = Trainables.views(layout, state.parameters)
  yield* Safetensors.write(
    `${assets}/model.safetensors`,
    layout.entries.map(({ name, shape }) => ({ name, shape, data: numbers.get(name)!, dtype: "F16" as const }))
  )
  console.log(`wrote ${assets}/model.safetensors after ${state.step} steps`)
})

await Effect.runPromise(Effect.scoped(program))
