/**
 * AnthropicLanguageModel: `effect/ai`'s LanguageModel over Anthropic's messages.
 */
import { Effect, Layer } from "effect"
import { LanguageModel } from "effect/ai"
import type { Model } from "effect/ai"
import * as Named from "../http/Named.ts"
import * as Written from "../http/Written.ts"
import { AnthropicClient } from "./AnthropicClient.ts"

/** The service over a client. */
export const make: Effect.Effect<LanguageModel.LanguageModel, never, AnthropicClient> = Effect.flatMap(
  AnthropicClient,
  ({ ask }) => Written.over("AnthropicLanguageModel", ask)
)

/** The language model over the client in force, with its name. */
export const layer: Layer.Layer<LanguageModel.LanguageModel | Model.ModelName, never, AnthropicClient> = Layer.merge(
  Layer.effect(LanguageModel.LanguageModel, make),
  Named.layer(AnthropicClient)
)
