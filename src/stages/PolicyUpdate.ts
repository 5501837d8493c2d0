/**
 * PolicyUpdate: the policy learns from a batch of scored rollouts.
 *
 * A failed update ends the stream: unlike a sample, an update is a state that everything after it builds on.
 */
import { Effect, Stream } from "effect"
import { Policy } from "../Policy.ts"
import type { PolicyError, ScoredRollout, UpdateMetrics, UpdateOptions } from "../Policy.ts"
import { positive } from "../Positive.ts"
import type * as Sample from "../Sample.ts"
import * as Stage from "../Stage.ts"

/** What the policy sees of a reward. */
export const scored = ({ rollout, reward }: Sample.Reward): ScoredRollout => ({
  id: rollout.id,
  promptIds: rollout.promptIds,
  tokenIds: rollout.tokenIds,
  logprobs: rollout.logprobs,
  reward
})

/** One update from a batch. */
export const one = Effect.fnUntraced(function* (
  rewards: ReadonlyArray<Sample.Reward>,
  options: UpdateOptions
): Effect.fn.Return<UpdateMetrics, PolicyError, Policy> {
  const policy = yield* Policy
  return yield* policy.update(rewards.map(scored), options)
}, Stage.span("PolicyUpdate.one"))

export interface Options extends UpdateOptions {
  /** How many rewards make a batch; what is left at the end makes a smaller one. */
  readonly batchSize: number
}

/**
 * An update for each batch, one after the other; `options.iteration` is that of the first and rises by one with each.
 *
 * Stages before it read ahead: rollouts in the same stream may come from the policy before an update. For strictly
 * on-policy learning run one stream for each iteration.
 */
export const stage = (options: Options): Stage.Stage<Sample.Reward, UpdateMetrics, PolicyError, Policy> => {
  const batchSize = positive("batchSize", options.batchSize)
  return Stage.from((rewards) =>
    rewards.pipe(
      Stream.grouped(batchSize),
      Stream.zipWithIndex,
      Stream.mapEffect(([batch, i]) => one(batch, { ...options, iteration: options.iteration + i }))
    )
  )
}
