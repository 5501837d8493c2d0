/**
 * Meter: counts the tokens that the models of a recipe read, write and learn from.
 */
import { Effect, Stream } from "effect"
import { Models } from "../Models.ts"
import type { Policy } from "../Policy.ts"
import type { RewardModel } from "../RewardModel.ts"
import type { Counter } from "./Costs.ts"

/** Models that are counted, and the counts: `prompt` read before sampling, `sampled`, `trained`. */
export interface Meter extends Counter {
  readonly models: (models: Models["Service"]) => Models["Service"]
}

/** A meter at zero. */
export const make = (): Meter => {
  const counts = { prompt: 0, sampled: 0, trained: 0 }
  const trained = ({ tokens }: { readonly tokens: number }) => Effect.sync(() => void (counts.trained += tokens))
  const policy = (self: Policy["Service"]): Policy["Service"] => ({
    ...self,
    sample: (request) =>
      Effect.tap(self.sample(request), ({ promptIds, tokenIds }) =>
        Effect.sync(() => {
          counts.prompt += promptIds.length
          counts.sampled += tokenIds.length
        })
      ),
    learn: (examples, options, onReject) => Stream.tap(self.learn(examples, options, onReject), trained),
    update: (rollouts, options) => Effect.tap(self.update(rollouts, options), trained)
  })
  const rewardModel = (self: RewardModel["Service"]): RewardModel["Service"] => ({
    ...self,
    learn: (pairs, options, onReject) => Stream.tap(self.learn(pairs, options, onReject), trained)
  })
  return {
    read: () => ({ ...counts }),
    models: (models) => ({
      ...models,
      base: policy(models.base),
      policy: (name, from) => Effect.map(models.policy(name, from), policy),
      rewardModel: (name, from) => Effect.map(models.rewardModel(name, from), rewardModel)
    })
  }
}
