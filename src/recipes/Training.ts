/**
 * Training: runs a training to its end, keeping its metrics. The state it resumes from is the model's own affair.
 */
import { Effect, Stream } from "effect"
import * as Random from "../Random.ts"
import type { LearnOptions, StepMetrics } from "../Policy.ts"
import { Progress } from "./Progress.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"
import { orDie } from "./Run.ts"
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

/** Runs a training and keeps its metrics in a file of the run folder. */
export const run = <E, R>(
  file: string,
  learn: (onReject: (id: string, reason: string) => Effect.Effect<void>) => Stream.Stream<StepMetrics, E, R>
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { reject } = yield* Run
      const progress = yield* Progress
      const log = yield* Records.metrics(file, "step")
      const onReject = (id: string, reason: string) => orDie(reject({ stage: file.split("/")[0] ?? file, id, reason }))
      yield* learn(onReject).pipe(
        Stream.runForEach((metrics) =>
          Effect.andThen(log.append(metrics), progress.advance({ note: `loss ${metrics.loss.toFixed(3)}` }))
        )
      )
    })
  )
