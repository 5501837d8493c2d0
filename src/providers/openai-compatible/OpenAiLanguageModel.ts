/**
 * OpenAiLanguageModel: `effect/ai`'s LanguageModel over a server that speaks OpenAI's protocol.
 */
import { Effect, Layer } from "effect"
import { LanguageModel, Model } from "effect/ai"
import * as Sampling from "../../Sampling.ts"
import * as Draw from "../http/Draw.ts"
import * as Messages from "../http/Messages.ts"
import * as Written from "../http/Written.ts"
import { OpenAiClient } from "./OpenAiClient.ts"

/** The service over a client. */
export const make: Effect.Effect<LanguageModel.LanguageModel, never, OpenAiClient> = Effect.gen(function* () {
  const client = yield* OpenAiClient

  return yield* Written.make(
    Effect.fnUntraced(function* (options: LanguageModel.ProviderOptions) {
      const context = yield* Messages.contextOf("OpenAiLanguageModel", options)
      const sampling = yield* Sampling.Sampling
      const { maxTokens, temperature, stop } = sampling
      return yield* client.ask({
        method: "generateText",
        context,
        maxTokens,
        temperature,
        stop,
        filters: sampling,
        ...Draw.make(sampling)
      })
    })
  )
})

/** The language model over the client in force, with its name. */
export const layer: Layer.Layer<LanguageModel.LanguageModel | Model.ModelName, never, OpenAiClient> = Layer.merge(
  Layer.effect(LanguageModel.LanguageModel, make),
  Layer.effect(
    Model.ModelName,
    Effect.map(OpenAiClient, ({ model }) => model)
  )
)
