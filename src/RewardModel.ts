/**
 * RewardModel: a scalar judge of an answer that learns from soft preferences (Bai et al. 2022; Bradley & Terry 1952).
 */
import { Context, Schema } from "effect"
import type { Effect, Stream } from "effect"
import { ModelContext } from "./Policy.ts"
import type { LearnOptions, StepMetrics } from "./Policy.ts"

/** An answer to be scored: the score is read on the last token (the model's end token after `completion`). */
export const ScoreRequest = Schema.Struct({ id: Schema.String, context: ModelContext, completion: Schema.String })
export type ScoreRequest = typeof ScoreRequest.Type

/** A pair with the probability that the first is preferred. */
export const PreferenceExample = Schema.Struct({
  id: Schema.String,
  context: ModelContext,
  first: Schema.String,
  second: Schema.String,
  /** In [0, 1]: a soft label; 1 says that `first` is certainly the better. */
  probability: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))
})
export type PreferenceExample = typeof PreferenceExample.Type

/** A failure of a reward model. */
export class RewardModelError extends Schema.TaggedError<RewardModelError>()("RewardModelError", {
  message: Schema.String,
  id: Schema.optional(Schema.String),
  retryable: Schema.Boolean
}) {}

/** A scalar judge of answers, which learns from preferences. */
export class RewardModel extends Context.Service<
  RewardModel,
  {
    readonly model: string
    /** The score of one answer (a logit: differences of scores are log-odds). */
    readonly score: (request: ScoreRequest) => Effect.Effect<number, RewardModelError>
    /** Bradley-Terry training with soft labels; one element a step. */
    readonly learn: (
      pairs: ReadonlyArray<PreferenceExample>,
      options: LearnOptions,
      onReject: (id: string, reason: string) => Effect.Effect<void>
    ) => Stream.Stream<StepMetrics, RewardModelError>
    /** Writes the adapter and score head as a PEFT folder (`SEQ_CLS`). */
    readonly save: (dir: string) => Effect.Effect<void, RewardModelError>
  }
>()("charter/RewardModel") {}
