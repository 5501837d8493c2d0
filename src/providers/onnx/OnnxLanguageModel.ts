/**
 * OnnxLanguageModel: `effect/ai`'s LanguageModel over a Policy.
 *
 * It samples as `Sampling` says; a context found there reaches the policy unchanged, so a literal transcript meets no
 * chat template. Called outside a stage, it puts the prompt's messages through the model's template.
 */
import { Effect, Layer } from "effect"
import { LanguageModel } from "effect/ai"
import type { Model } from "effect/ai"
import { Policy } from "../../Policy.ts"
import * as Sampling from "../../Sampling.ts"
import * as Messages from "../http/Messages.ts"
import * as Named from "../http/Named.ts"
import * as Written from "../http/Written.ts"
import { fromPolicyError } from "./PolicyAiError.ts"

/** The service over a policy. */
export const make: Effect.Effect<LanguageModel.LanguageModel, never, Policy> = Effect.gen(function* () {
  const policy = yield* Policy

  return yield* Written.make(
    Effect.fnUntraced(function* (asked: LanguageModel.ProviderOptions) {
      const context = yield* Messages.contextOf("OnnxLanguageModel", asked)
      const { options: _, principle: __, ...sampling } = yield* Sampling.Sampling
      const { finish, promptIds, text, tokenIds } = yield* policy
        .sample({ ...sampling, context })
        .pipe(Effect.mapError(fromPolicyError("OnnxLanguageModel", "generateText")))
      const tokens = { input: promptIds.length, output: tokenIds.length }
      return { text, model: policy.model, finish, tokens } satisfies Written.Written
    })
  )
})

/** The language model over the policy in force, with its name. */
export const layer: Layer.Layer<LanguageModel.LanguageModel | Model.ModelName, never, Policy> = Layer.merge(
  Layer.effect(LanguageModel.LanguageModel, make),
  Named.layer(Policy)
)

/** The language model over a given policy, such as `Models.base`. */
export const fromPolicy = (policy: Policy["Service"]): Layer.Layer<LanguageModel.LanguageModel | Model.ModelName> =>
  Layer.provide(layer, Layer.succeed(Policy, policy))
