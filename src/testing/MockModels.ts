/**
 * MockModels: the models of a recipe, all mocks. Policies and reward models are made on request, under their names.
 */
import { Effect, Layer } from "effect"
import { Models } from "../Models.ts"
import type { AdapterSource } from "../Models.ts"
import * as MockPolicy from "./MockPolicy.ts"
import * as MockRewardModel from "./MockRewardModel.ts"

export interface Options {
  readonly base?: MockPolicy.Scripts | undefined
  /** How the policies behave, by the name that they are asked for under. */
  readonly policy?: ((name: string, from: AdapterSource) => MockPolicy.Scripts) | undefined
  readonly rewardModel?: ((name: string, from: AdapterSource) => MockRewardModel.Scripts) | undefined
  readonly chat?: boolean | undefined
}

export interface MockModels {
  readonly service: Models["Service"]
  readonly layer: Layer.Layer<Models>
  readonly base: MockPolicy.MockPolicy
  /** What was made, by name; the same name gives the same mock. */
  readonly policies: ReadonlyMap<string, MockPolicy.MockPolicy>
  readonly rewardModels: ReadonlyMap<string, MockRewardModel.MockRewardModel>
}

/** Models over scripts. */
export const make = (options: Options = {}): MockModels => {
  const base = MockPolicy.make({ model: "base", ...options.base })
  const policies = new Map<string, MockPolicy.MockPolicy>()
  const rewardModels = new Map<string, MockRewardModel.MockRewardModel>()
  const service = Models.of({
    base: base.service,
    chat: options.chat ?? false,
    description: { name: "mock", family: "mock", parameters: 0, fingerprint: "mock" },
    policy: (name, from) =>
      Effect.sync(() => {
        const policy = policies.get(name) ?? MockPolicy.make({ model: name, ...options.policy?.(name, from) })
        policies.set(name, policy)
        return policy.service
      }),
    rewardModel: (name, from) =>
      Effect.sync(() => {
        const made =
          rewardModels.get(name) ?? MockRewardModel.make({ model: name, ...options.rewardModel?.(name, from) })
        rewardModels.set(name, made)
        return made.service
      })
  })
  return { service, layer: Layer.succeed(Models, service), base, policies, rewardModels }
}
