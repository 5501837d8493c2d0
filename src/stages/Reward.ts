/**
 * Reward: the reward model scores a rollout, and the score becomes what the policy learns from.
 *
 * reward = clamp((score - mean) / std, -clamp, clamp), less a penalty where the answer was cut off before its end. The
 * KL term is not part of it: the policy update takes it token by token.
 */
import { Effect } from "effect"
import { RewardModel } from "../RewardModel.ts"
import type { RewardModelError } from "../RewardModel.ts"
import * as Sample from "../Sample.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"

export interface Options {
  /** The mean score of answers of the policy before training; 0 if not given. See {@link scale}. */
  readonly mean?: number | undefined
  /** Their standard deviation; 1 if not given. */
  readonly std?: number | undefined
  /** The reward stays within plus and minus this. */
  readonly clamp?: number | undefined
  /** Taken from the reward of an answer that did not end; 0 if not given. */
  readonly missingStopPenalty?: number | undefined
}

/** The scale of a reward from the scores of answers before training. */
export const scale = (scores: ReadonlyArray<number>): { readonly mean: number; readonly std: number } => {
  // Scores that do not differ give no scale; their mean, rounded, may be none of them.
  const [first = 0] = scores
  if (scores.every((score) => score === first)) return { mean: first, std: 1 }
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length
  const std = Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / scores.length)
  return { mean, std: std > 0 ? std : 1 }
}

/** The reward of a score. */
export const fromScore = (score: number, finish: "stop" | "length", options: Options = {}): number => {
  const { clamp = Infinity, mean = 0, missingStopPenalty = 0, std = 1 } = options
  const bounded = Math.max(-clamp, Math.min(clamp, (score - mean) / std))
  return finish === "length" ? bounded - missingStopPenalty : bounded
}

/** One reward. */
export const one = Effect.fnUntraced(function* (
  rollout: Sample.Rollout,
  options: Options = {}
): Effect.fn.Return<Sample.Reward, RewardModelError, RewardModel> {
  const rewardModel = yield* RewardModel
  const transcript = yield* Transcript.Transcript
  const score = yield* rewardModel.score({
    id: rollout.id,
    context: transcript.response(rollout.prompt).context,
    completion: transcript.completion(rollout.text)
  })
  const reward = fromScore(score, rollout.finish, options)
  return Sample.reward({ rollout, score, reward, model: rewardModel.model })
}, Stage.span("Reward.one"))

/** Rewards of rollouts. */
export const stage = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Rollout, Sample.Reward, RewardModelError, RewardModel> =>
  Stage.make("Reward", (rollout: Sample.Rollout) => one(rollout, options), options)
