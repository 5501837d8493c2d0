/**
 * AnthropicLanguageModel: `effect/ai`'s LanguageModel over Anthropic's messages.
 */
import { Effect, Layer } from "effect"
import { LanguageModel, Model } from "effect/ai"
import * as Sampling from "../../Sampling.ts"
import * as Draw from "../http/Draw.ts"
import * as Messages from "../http/Messages.ts"
import * as Written from "../http/Written.ts"
import { AnthropicClient } from "./AnthropicClient.ts"

/** The service over a client. */
export const make: Effect.Effect<LanguageModel.LanguageModel, never, AnthropicClient> = Effect.gen(function* () {
  const client = yield* AnthropicClient

  return yield* Written.make(
    Effect.fnUntraced(function* (options: LanguageModel.ProviderOptions) {
      const context = yield* Messages.contextOf("AnthropicLanguageModel", options)
      const sampling = yield* Sampling.Sampling
      const { maxTokens, temperature, stop } = sampling
      return yield* client.ask({
        method: "generateText",
        context,
        maxTokens,
        temperature,
        stop,
        filters: sampling,
        sample: Draw.make(sampling).sample
      })
    })
  )
})

/** The language model over the client in force, with its name. */
export const layer: Layer.Layer<LanguageModel.LanguageModel | Model.ModelName, never, AnthropicClient> = Layer.merge(
  Layer.effect(LanguageModel.LanguageModel, make),
  Layer.effect(
    Model.ModelName,
    Effect.map(AnthropicClient, ({ model }) => model)
  )
)
