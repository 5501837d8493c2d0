/**
 * RewardModel: a scalar judge of an answer that learns from soft preferences (Bai et al. 2022; Bradley & Terry 1952).
 */
import { Context, Schema } from "effect"
import type { Effect, Stream } from "effect"
import type { LearnOptions, ModelContext, StepMetrics } from "./Policy.ts"

/** An answer to be scored: the score is read on the last token (the model's end token after `completion`). */
export interface ScoreRequest {
  readonly id: string
  readonly context: ModelContext
  readonly completion: string
}

/** A pair with the probability that the first is preferred. */
export interface PreferenceExample {
  readonly id: string
  readonly context: ModelContext
  readonly first: string
  readonly second: string
  /** In [0, 1]: a soft label; 1 says that `first` is certainly the better. */
  readonly probability: number
}

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
