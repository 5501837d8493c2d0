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
import * as Recording from "./Recording.ts"
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
  const model = scripts.model ?? "mock-reward-model"
  const score = Script.player<ScoreRequest, number>(scripts.score ?? 0, scripts, model)
  const trainings: Array<MockRewardModel["trainings"][number]> = []
  const saved: Array<string> = []
  const service = RewardModel.of({
    model,
    score: (request) =>
      score.play(request, (message) => new RewardModelError({ message, id: request.id, retryable: false })),
    learn: (pairs, options) =>
      Stream.suspend(() => {
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
      }),
    save: (dir) => Effect.sync(() => void saved.push(dir))
  })
  return { service, layer: Layer.succeed(RewardModel, service), scores: score.calls, trainings, saved }
}

const keyOf = (request: ScoreRequest) => Recording.keyOf("score", request)

/** The reward model around it, with its scores written into a recording; give it the real one with `Layer.provide`. */
export const record = (recording: Recording.Recording): Layer.Layer<RewardModel, never, RewardModel> =>
  Layer.effect(
    RewardModel,
    Effect.map(RewardModel, (real) => ({
      ...real,
      score: (request) =>
        Effect.tap(real.score(request), (score) => Effect.sync(() => recording.set(keyOf(request), request.id, score)))
    }))
  )

/** A reward model that answers from a recording. */
export const replay = (recording: Recording.Recording, options: Script.Options = {}): MockRewardModel =>
  make({ ...options, score: (request) => recording.get(keyOf(request)) as number | undefined })
