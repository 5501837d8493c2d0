/**
 * Training: runs a training to its end, keeping its metrics. The state it resumes from is the model's own affair.
 */
import { Data, Effect, Stream } from "effect"
import { existsSync, rmSync } from "node:fs"
import * as Random from "../Random.ts"
import type { LearnOptions, StepMetrics } from "../Policy.ts"
import { Progress } from "./Progress.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"
import { failed, orDie, type RunError } from "./RunError.ts"
import type { Settings } from "./Settings.ts"

/** The options of a training out of the settings. */
export const options = (settings: Settings, group: "supervised" | "reward", stateDir: string): LearnOptions => {
  const { epochs, batchSize, microTokens, learningRate, schedule } = settings[group]
  const { warmupSteps, floor, weightDecay, maxGradNorm, maxLength } = settings[group]
  return {
    seed: Random.hash(settings.seed, group, "training"),
    ...{ epochs, batchSize, microTokens, learningRate, schedule },
    ...{ warmupSteps, floor, weightDecay, maxGradNorm, maxLength },
    stateDir
  }
}

/** The steps that a training of so many rows takes. */
export const stepsOf = (rows: number, { epochs, batchSize }: { readonly epochs: number; readonly batchSize: number }) =>
  epochs * Math.ceil(rows / batchSize)

/** What a training needs besides its data. */
export interface Training<M, E, R> {
  /** Where the metrics are kept. */
  readonly file: string
  readonly stateDir: string
  /** How many rows there are to learn from. */
  readonly rows: number
  /** The model as it is before the training. */
  readonly model: Effect.Effect<M, E, R>
  readonly learn: (
    model: M,
    onReject: (id: string, reason: string) => Effect.Effect<void>
  ) => Stream.Stream<StepMetrics, E, R>
}

/** A trained model as it was left in the folder of its adapter; where that is damaged, it can be made again. */
export const left = <A, E extends { readonly message: string; readonly retryable: boolean }, R>(
  adapter: string,
  model: Effect.Effect<A, E, R>
): Effect.Effect<A, E | RunError, R> =>
  Effect.mapError(model, (error) =>
    error.retryable ? error : failed(`${error.message} Or delete ${adapter}: it is made again from what was learnt.`)
  )

/** The state that a training was to go on from is ahead of the metrics. */
export class Gap extends Data.TaggedError("Gap") {}

/**
 * Runs a training, keeps its metrics in a file of the run folder, and gives the trained model.
 *
 * The state is saved by the model, the metrics here: a process that is killed between the two leaves a state whose last
 * steps have no metrics. Then the training is run again from its beginning, where each step has the same numbers. Steps
 * that were skipped have no metrics either, so only what goes on from a state is looked at.
 */
export const run = Effect.fnUntraced(function* <M, E, R>({ file, stateDir, rows, model, learn }: Training<M, E, R>) {
  const { path } = yield* Run
  const progress = yield* Progress
  const log = yield* Records.metrics(file, "step")
  const from = Effect.fnUntraced(function* (before: M) {
    let rejected = 0
    const onReject = (id: string, reason: string) => {
      rejected++
      return orDie(log.reject(file.split("/")[0] ?? file, id, reason))
    }
    let unsure = existsSync(stateDir)
    yield* learn(before, onReject).pipe(
      Stream.runForEach(
        Effect.fnUntraced(function* (metrics) {
          if (unsure && metrics.step > 1 && log.get(String(metrics.step - 1)) === undefined) return yield* new Gap()
          unsure = false
          yield* log.append(metrics)
          yield* progress.advance({ note: `loss ${metrics.loss.toFixed(3)}` })
        })
      )
    )
    if (rejected === rows) {
      return yield* failed(`There is nothing to learn: no row could be used; ${path("rejected.jsonl")} says why.`)
    }
    const last = log.values().at(-1)
    if (unsure && (last === undefined || last["step"] !== last["steps"])) return yield* new Gap()
    return before
  })
  return yield* from(yield* model).pipe(
    Effect.catchTag("Gap", () =>
      Effect.gen(function* () {
        rmSync(stateDir, { recursive: true, force: true })
        return yield* from(yield* model)
      })
    )
  )
})
