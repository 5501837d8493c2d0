/**
 * Training: a learner over a data set, in epochs of shuffled batches, resumable at every step.
 *
 * The order of the data is a function of (seed, epoch). The state is saved every few seconds and at the end; a training
 * that is started again continues at the step of the state it finds, with the numbers it would have had.
 */
import { Effect, Stream } from "effect"
import type { Scope } from "effect"
import type { LearnOptions, StepMetrics } from "../Policy.ts"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type { SafetensorsError } from "../model/Safetensors.ts"
import * as Optimizer from "../onnx/Optimizer.ts"
import type { SessionError } from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import * as Adapters from "./Adapters.ts"
import * as Learner from "./Learner.ts"
import type { Objective } from "./Objective.ts"
import * as TrainingState from "./TrainingState.ts"

/** The rows of a batch as micro-batches. */
export type Collate<Row> = (rows: ReadonlyArray<Row>) => ReadonlyArray<Learner.MicroBatch>

/** Milliseconds between saved states, unless another interval is asked for. */
const usualInterval = 10_000

/** Rows in groups of at most `microTokens` padded tokens, alike in length; a single longer row is a group. */
export const microBatches = <Row>(
  rows: ReadonlyArray<Row>,
  lengthOf: (row: Row) => number,
  microTokens: number
): ReadonlyArray<ReadonlyArray<Row>> => {
  const sorted = [...rows].sort((a, b) => lengthOf(b) - lengthOf(a))
  const groups: Array<Array<Row>> = []
  for (const row of sorted) {
    const group = groups.at(-1)
    if (group === undefined || (group.length + 1) * lengthOf(group[0]!) > microTokens) groups.push([row])
    else group.push(row)
  }
  return groups
}

/** Trains `adapter` in place; one element a step. */
export const run = <Row>(
  checkpoint: Checkpoint,
  adapter: Adapters.Adapter,
  objective: Objective,
  data: ReadonlyArray<Row>,
  options: LearnOptions,
  tokensOf: (row: Row) => number,
  collate: Collate<Row>,
  saveEvery: number = usualInterval
): Stream.Stream<StepMetrics, SessionError | SafetensorsError, Scope.Scope> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const learner = yield* Learner.make(checkpoint, { layout: adapter.layout, scales: adapter.scales }, objective)
      const perEpoch = Math.ceil(data.length / options.batchSize)
      const steps = options.epochs * perEpoch
      const schedule = { kind: options.schedule, steps, warmup: options.warmupSteps, floor: options.floor }
      const found = yield* TrainingState.load(options.stateDir, adapter.layout.size)
      const state = found?.state ?? Learner.initialState(adapter.vector)
      adapter.vector = state.parameters
      let saved = performance.now()

      const step = Effect.fnUntraced(function* (index: number) {
        const epoch = Math.floor(index / perEpoch)
        const order = Random.make(options.seed, "epoch", epoch).shuffle(data.map((_, i) => i))
        const at = (index - epoch * perEpoch) * options.batchSize
        const rows = order.slice(at, at + options.batchSize).map((i) => data[i]!)
        const started = performance.now()
        const rate = options.learningRate * Optimizer.stepMultiplier(schedule, index)
        const metrics = yield* learner.step(state, collate(rows), {
          learningRates: adapter.layout.groups.map(() => rate),
          weightDecays: adapter.layout.groups.map(() => options.weightDecay),
          maxGradNorm: options.maxGradNorm
        })
        adapter.vector = state.parameters
        if (index + 1 === steps || performance.now() - saved > saveEvery) {
          yield* TrainingState.save(options.stateDir, state, index + 1)
          saved = performance.now()
        }
        return {
          ...metrics,
          step: index + 1,
          steps,
          learning_rate: rate,
          tokens: rows.reduce((n, row) => n + tokensOf(row), 0),
          seconds: (performance.now() - started) / 1000
        } satisfies StepMetrics
      })
      return Stream.range(found?.progress ?? 0, steps - 1).pipe(Stream.mapEffect(step))
    })
  )
