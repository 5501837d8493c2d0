/**
 * Training: a learner over a data set, in epochs of shuffled batches, resumable at every step.
 *
 * The order of the data is a function of (seed, epoch). A training that is started again continues at the step of the
 * state it finds, with the numbers it would have had. The state of a step is saved only after its metrics were taken
 * from the stream, so what a consumer writes down is never behind the state.
 */
import { Effect, Schema, Stream } from "effect"
import type { Scope } from "effect"
import type { LearnOptions, StepMetrics } from "../Policy.ts"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type { SafetensorsError } from "../model/Safetensors.ts"
import type { SessionError } from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import type { Trained } from "./LearnProgram.ts"
import * as Learner from "./Learner.ts"
import type { Objective } from "./Objective.ts"
import * as Optimizer from "./Optimizer.ts"
import * as Saving from "./Saving.ts"
import * as TrainingState from "./TrainingState.ts"

/** Steps in a row without a finite loss and gradient after which a training, or an update of a policy, stops. */
export const patience = 3

/** A training that cannot go on; everything is saved. */
export class TrainingError extends Schema.TaggedError<TrainingError>()("TrainingError", { message: Schema.String }) {}

/** What is trained: the parameters' layout, and their numbers. */
export interface Trainee extends Trained {
  vector: Float32Array
}

/** The rows of a batch as micro-batches. */
export type Collate<Row> = (rows: ReadonlyArray<Row>) => Effect.Effect<ReadonlyArray<Learner.MicroBatch>, SessionError>

/** What is learnt from. */
export interface Data<Row> {
  readonly rows: ReadonlyArray<Row>
  readonly collate: Collate<Row>
  readonly tokens: (row: Row) => number
  readonly id: (row: Row) => string
}

/** A step that changed nothing, as its loss or gradient was not finite. */
export interface Skip {
  readonly step: number
  readonly loss: number
  readonly grad_norm: number
  /** The samples of the batch. */
  readonly ids: ReadonlyArray<string>
}

/** How a training goes; `steps` stands for `epochs` where it is given. */
export interface Options extends Omit<LearnOptions, "maxLength"> {
  readonly steps?: number
  /** Whether others compute with the vector meanwhile: then each step gives them another one, as it changes its own. */
  readonly shared?: boolean
  /** What the state belongs to, see `TrainingIdentity.ts`; that of another training is refused. */
  readonly training?: string
  /** Told of each skipped step, which has no element in the stream; its failure ends the training. */
  readonly onSkip?: (skip: Skip) => Effect.Effect<void, TrainingError>
}

/** Rows in groups of at most `microTokens` tokens, alike in length; a single longer row is a group. */
export const microBatches = <Row>(
  rows: ReadonlyArray<Row>,
  lengthOf: (row: Row) => number,
  microTokens: number
): ReadonlyArray<ReadonlyArray<Row>> => {
  const sorted = rows.map((row) => ({ row, length: lengthOf(row) })).sort((a, b) => b.length - a.length)
  const groups: Array<Array<Row>> = []
  let room = 0
  for (const { length, row } of sorted) {
    if (groups.length === 0 || length > room) {
      groups.push([row])
      room = microTokens - length
    } else {
      groups.at(-1)!.push(row)
      room -= length
    }
  }
  return groups
}

/** Families, themselves cut where they are larger, in groups of at most `most` rows. */
export const bounded = <Row>(
  families: ReadonlyArray<ReadonlyArray<Row>>,
  most: number
): ReadonlyArray<ReadonlyArray<ReadonlyArray<Row>>> => {
  const groups: Array<Array<ReadonlyArray<Row>>> = [[]]
  let room = most
  for (let rest of families) {
    while (rest.length > 0) {
      if (room === 0) {
        groups.push([])
        room = most
      }
      const part = rest.slice(0, room)
      groups.at(-1)!.push(part)
      room -= part.length
      rest = rest.slice(part.length)
    }
  }
  return groups
}

/** The steps of a training over so many rows. */
export const stepsOf = (rows: number, { batchSize, epochs, steps }: Pick<Options, "batchSize" | "epochs" | "steps">) =>
  steps ?? epochs * Math.ceil(rows / batchSize)

/**
 * The rows of a step (from 0), which is asked for: each epoch uses every row once, in an order of its own. The order is
 * kept for the epoch: all rows shuffled for a few of them would take longer than what is learnt from these.
 */
export const batches = <Row>(
  rows: ReadonlyArray<Row>,
  { batchSize, seed }: Pick<Options, "batchSize" | "seed">
): ((index: number) => ReadonlyArray<Row>) => {
  const perEpoch = Math.ceil(rows.length / batchSize)
  let shuffled: { readonly epoch: number; readonly order: ReadonlyArray<number> } | undefined
  return (index) => {
    const epoch = Math.floor(index / perEpoch)
    if (shuffled?.epoch !== epoch) {
      const all = Array.from({ length: rows.length }, (_, i) => i)
      shuffled = { epoch, order: Random.make(seed, "epoch", epoch).shuffle(all) }
    }
    const at = (index - epoch * perEpoch) * batchSize
    return shuffled.order.slice(at, at + batchSize).map((i) => rows[i]!)
  }
}

/** The tokens of a micro-batch at most: a row with more than it may have is one by itself. */
export const mostTokens = <Row>({ rows, tokens }: Pick<Data<Row>, "rows" | "tokens">, microTokens: number): number =>
  rows.reduce((most, row) => Math.max(most, tokens(row)), microTokens)

/** Trains in place; one element for each step that changed something. */
export const run = <Row>(
  checkpoint: Checkpoint,
  trainee: Trainee,
  objective: Objective,
  data: Data<Row>,
  options: Options
): Stream.Stream<StepMetrics, SessionError | SafetensorsError | TrainingError, Scope.Scope> =>
  Stream.unwrap(
    Effect.map(
      Learner.make(checkpoint, trainee, objective, { microTokens: mostTokens(data, options.microTokens) }),
      (learner) => runWith(learner, trainee, data, options)
    )
  )

/** {@link run} with a learner at hand. */
export const runWith = <Row>(
  learner: Learner.Learner,
  trainee: Trainee,
  data: Data<Row>,
  options: Options
): Stream.Stream<StepMetrics, SessionError | SafetensorsError | TrainingError> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const steps = stepsOf(data.rows.length, options)
      const schedule = { kind: options.schedule, steps, warmup: options.warmupSteps, floor: options.floor }
      const found = yield* TrainingState.load(options.stateDir, trainee.layout.size, options.training)
      const state = found?.state ?? Learner.initialState(trainee.vector)
      const publish = () => {
        trainee.vector = options.shared === true ? state.parameters.slice() : state.parameters
      }
      publish()
      const saving = Saving.make()
      const batchOf = batches(data.rows, options)
      let progress = found?.progress ?? 0
      let skipped = found?.more["skipped"] ?? 0
      // What the first step begins with is saved, too: a step changes the trainee, with which the training is asked for
      // again where it is cut off before the next save.
      let saved = found === undefined ? -1 : progress

      const save = Effect.suspend(() => {
        const end = saving.begin()
        return Effect.andThen(
          TrainingState.save(options.stateDir, state, progress, { skipped }, options.training),
          Effect.sync(() => {
            saved = progress
            end()
          })
        )
      })
      const giveUp = (ids: ReadonlyArray<string>) =>
        Effect.andThen(
          save,
          Effect.fail(
            new TrainingError({
              message: `The loss or its gradient was not finite in ${patience} steps in a row, the last one (step ${progress}) of ${named(ids)}; look at these samples, or lower the learning rate. The state before them is kept.`
            })
          )
        )

      const step = Effect.fnUntraced(function* (index: number) {
        if (index > saved && saving.due()) yield* save
        const rows = batchOf(index)
        const started = performance.now()
        const rate = options.learningRate * Optimizer.stepMultiplier(schedule, index)
        const metrics = yield* learner.step(state, yield* data.collate(rows), {
          learningRates: trainee.layout.groups.map(() => rate),
          weightDecays: trainee.layout.groups.map(() => options.weightDecay),
          maxGradNorm: options.maxGradNorm
        })
        publish()
        progress = index + 1
        skipped = Learner.applied(metrics) ? 0 : skipped + 1
        if (skipped > 0) {
          const ids = rows.map(data.id)
          const { grad_norm, loss } = metrics
          if (options.onSkip !== undefined) yield* options.onSkip({ step: progress, loss, grad_norm, ids })
          return skipped >= patience ? yield* giveUp(ids) : []
        }
        return [
          {
            ...metrics,
            step: progress,
            steps,
            learning_rate: rate,
            tokens: rows.reduce((n, row) => n + data.tokens(row), 0),
            seconds: (performance.now() - started) / 1000
          } satisfies StepMetrics
        ]
      })
      if (progress >= steps) {
        // One that gave up on its last steps is no finished one, however often it is started.
        if (skipped >= patience) return yield* giveUp(batchOf(progress - 1).map(data.id))
        return Stream.empty
      }
      return Stream.range(progress, steps - 1).pipe(
        Stream.rechunk(1),
        Stream.mapEffect(step),
        Stream.flattenIterable,
        Stream.concat(Stream.fromEffectDrain(Effect.suspend(() => (saved < progress ? save : Effect.void))))
      )
    })
  )

/** The first few samples by name. */
const named = (ids: ReadonlyArray<string>): string =>
  ids.length <= 8 ? ids.join(", ") : `${ids.slice(0, 8).join(", ")} and ${ids.length - 8} more`
