/**
 * MockRewardModel: a reward model that follows a script and remembers what it was asked.
 *
 * @example
 * MockRewardModel.make({ score: ({ completion }) => (completion.includes("sorry") ? 1 : -1) })
 */
import { Effect, Layer, Stream } from "effect"
import type { LearnOptions } from "../Policy.ts"
import { RewardModel, RewardModelError } from "../RewardModel.ts"
import type { PreferenceExample, ScoreRequest } from "../RewardModel.ts"
import * as Script from "./Script.ts"

export interface Scripts extends Script.Options {
  /** The score of each answer; 0 if not given. */
  readonly score?: Script.Script<ScoreRequest, number> | undefined
}

export interface MockRewardModel {
  readonly service: RewardModel["Service"]
  readonly layer: Layer.Layer<RewardModel>
  readonly scores: ReadonlyArray<ScoreRequest>
  readonly trainings: ReadonlyArray<{
    readonly pairs: ReadonlyArray<PreferenceExample>
    readonly options: LearnOptions
  }>
  /** The folders that it was saved to. */
  readonly saved: ReadonlyArray<string>
}

/** A reward model over scripts; `failOn` counts the calls of `score`. */
export const make = (scripts: Scripts = {}): MockRewardModel => {
  const score = Script.player<ScoreRequest, number>(scripts.score ?? 0, scripts.failOn)
  const trainings: Array<MockRewardModel["trainings"][number]> = []
  const saved: Array<string> = []
  const service = RewardModel.of({
    model: scripts.model ?? "mock-reward-model",
    score: (request) =>
      score.play(
        request,
        (n) => new RewardModelError({ message: `call ${n} is scripted to fail`, id: request.id, retryable: false })
      ),
    learn: (pairs, options) => {
      trainings.push({ pairs, options })
      const steps = Math.ceil(pairs.length / options.batchSize) * options.epochs
      return Stream.range(1, steps).pipe(
        Stream.map((step) => ({
          step,
          steps,
          loss: Math.LN2 / step,
          learning_rate: options.learningRate,
          grad_norm: 1,
          tokens: options.batchSize,
          seconds: 0
        }))
      )
    },
    save: (dir) => Effect.sync(() => void saved.push(dir))
  })
  return { service, layer: Layer.succeed(RewardModel, service), scores: score.calls, trainings, saved }
}
