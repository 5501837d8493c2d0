/**
 * Charter's side of `bench/peers.ts`: the same work, arguments and lines as the scripts beside it.
 *
 *     node bench/peers/charter.ts decode|score|sft|reward|dpo|grpo MODEL [--precision fp32|int8] [--batch 8]
 *         [--length 64] [--tokens 64] [--turns 3] [--led]
 *
 * The engine is set up as the command line does it. With int8, what is frozen is computed in 8 bits, in learning
 * forward and backward; what is learnt stays in fp32.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Base from "../../src/engine/Base.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Forward from "../../src/engine/Forward.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as PolicyGradient from "../../src/engine/PolicyGradient.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import type * as Training from "../../src/engine/Training.ts"
import * as TrainingData from "../../src/engine/TrainingData.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Random from "../../src/Random.ts"
import * as Turns from "./turns.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: "string", default: "fp32" },
    device: { type: "string", default: "cpu" },
    ...Turns.options
  }
})
const precision = values.precision === "int8" ? "int8" : "fp32"
const device = values.device === "cuda" ? "cuda" : "cpu"
const [work, dir] = positionals
if (work === undefined || dir === undefined) throw new Error("give the work and the folder of a model")
const [batch, length, tokens] = [values.batch, values.length, values.tokens].map(Number) as [number, number, number]

/** A turn of work: gives the units that it did. */
type Turn<E> = Effect.Effect<number, E>

const take = <E>(warmUp: Effect.Effect<unknown, E>, turn: Turn<E>) =>
  Effect.promise(() =>
    Turns.take(
      values,
      () => Effect.runPromise(warmUp),
      () => Effect.runPromise(turn)
    )
  )

const rates: Learner.Rates = { learningRates: [1e-4], weightDecays: [0], maxGradNorm: 1 }
const how = { microTokens: 640 }

const program = Effect.gen(function* () {
  const checkpoint = yield* Checkpoint.open(dir)
  const { config } = checkpoint
  const base = yield* Base.make(checkpoint, { precision, device })
  const random = Random.make(1, "peers")
  const ids = (n: number) => Array.from({ length: n }, () => 100 + random.int(config.vocabSize - 100))
  const rows = <Row>(make: (id: string) => Row) => Array.from({ length: batch }, (_, i) => make(`${i}`))

  const adapterOf = Effect.fnUntraced(function* (score: boolean) {
    const settings = { rank: 16, alpha: 32, targets: Lora.allTargets(config) }
    return Adapters.fromLora(yield* Effect.fromResult(Lora.init(config, settings, 1, { score })), config)
  })
  const request = (id: string, prompt: ReadonlyArray<number>, turn: number, adapter?: Adapters.Adapter) => ({
    id,
    ids: prompt,
    adapter,
    seed: turn,
    maxTokens: tokens,
    temperature: 1,
    stopIds: new Set<number>()
  })

  const decode = Effect.gen(function* () {
    const decoder = yield* Decoder.make(base, { memory: 2 ** 30, maxRows: 256 })
    const prompts = rows((id) => ({ id, prompt: ids(length) }))
    let turn = 0
    const generate = (maxTokens: number) =>
      Effect.suspend(() => {
        turn++
        return Effect.map(
          Effect.forEach(prompts, ({ id, prompt }) => decoder.generate({ ...request(id, prompt, turn), maxTokens }), {
            concurrency: "unbounded"
          }),
          (found) => found.reduce((n, { tokenIds }) => n + tokenIds.length, 0)
        )
      })
    yield* take(generate(2), generate(tokens))
  })

  const score = Effect.gen(function* () {
    const scorer = yield* Scorer.make(base, { maxTokens: 2048 })
    const forward = Forward.over(scorer)
    const texts = rows(() => ids(length)).map((row) => ({ ids: row, weights: row.map((_, t) => (t === 0 ? 0 : 1)) }))
    const run = Effect.as(forward.logprobs(undefined, texts), batch * length)
    yield* take(run, run)
  })

  const learn = Effect.fnUntraced(function* <Row>(
    adapter: Adapters.Adapter,
    objective: Objective.Objective,
    data: Training.Data<Row>,
    units: number
  ) {
    const learner = yield* Learner.make(base, adapter, objective, how)
    const state = Learner.initialState(adapter.vector)
    const step = Effect.gen(function* () {
      yield* learner.step(state, yield* data.collate(data.rows), rates)
      return units
    })
    yield* take(step, step)
  })

  const sft = Effect.gen(function* () {
    const all = rows((id) => ({ id, ids: ids(length), weights: Array<number>(length).fill(1) }))
    yield* learn(yield* adapterOf(false), Objective.sft, TrainingData.supervised(all, how), batch * length)
  })

  const pairs = () =>
    rows((id) => {
      const prompt = ids(length)
      return {
        id,
        first: [...prompt, ...ids(tokens)],
        second: [...prompt, ...ids(tokens)],
        from: length,
        probability: 1
      }
    })
  const reward = Effect.gen(function* () {
    yield* learn(yield* adapterOf(true), Objective.bradleyTerry, TrainingData.preferences(pairs(), how), batch)
  })
  const dpo = Effect.gen(function* () {
    const forward = Forward.over(yield* Scorer.make(base, { maxTokens: how.microTokens }))
    const data = TrainingData.directPreferences(pairs(), how, forward, undefined)
    yield* learn(yield* adapterOf(false), Objective.dpo({ beta: 0.1, loss: "sigmoid" }), data, batch)
  })

  const grpo = Effect.gen(function* () {
    const samples = 8
    const adapter = yield* adapterOf(false)
    const decoder = yield* Decoder.make(base, { memory: 2 ** 29, maxRows: 64 })
    const forward = Forward.over(yield* Scorer.make(base, { maxTokens: how.microTokens }))
    const learner = yield* Learner.make(base, adapter, Objective.grpo({ clip: 0.2, beta: 0 }), how)
    const state = Learner.initialState(adapter.vector)
    const models = { adapter, reference: undefined, forward, learner, state }
    const prompts = Array.from({ length: batch / samples }, () => ids(length))
    let turn = 0
    const step = Effect.gen(function* () {
      const iteration = turn++
      const wanted = prompts.flatMap((prompt, p) =>
        Array.from({ length: samples }, (_, i) => request(`${p}/${i}`, prompt, iteration, adapter))
      )
      const sampled = yield* Effect.forEach(wanted, decoder.generate, { concurrency: "unbounded" })
      const scored = sampled.map(({ logprobs, tokenIds }, i) => ({
        id: wanted[i]!.id,
        promptIds: wanted[i]!.ids,
        tokenIds,
        logprobs,
        reward: (tokenIds.reduce((a, b) => a + b, 0) % 97) / 97
      }))
      yield* PolicyGradient.update(
        models,
        scored,
        { kind: "grpo", samples, aggregation: "token", klCoefficient: 0 },
        rates,
        { seed: 1, iteration, epochs: 1, minibatchSize: batch, ...how, temperature: 1, warn: Effect.logWarning }
      )
      return batch
    })
    yield* take(step, step)
  })

  const works = { decode, score, sft, reward, dpo, grpo }
  yield* works[work as keyof typeof works] ?? Effect.die(`there is no work ${work}`)
})

Effect.runPromise(Effect.scoped(program)).then(
  () => process.exit(),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
