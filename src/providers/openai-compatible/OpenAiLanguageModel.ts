/**
 * OpenAiLanguageModel: `effect/ai`'s LanguageModel over a server that speaks OpenAI's protocol.
 */
import { Effect, Layer } from "effect"
import { LanguageModel } from "effect/ai"
import type { Model } from "effect/ai"
import * as Named from "../http/Named.ts"
import * as Written from "../http/Written.ts"
import { OpenAiClient } from "./OpenAiClient.ts"

/** The service over a client. */
export const make: Effect.Effect<LanguageModel.LanguageModel, never, OpenAiClient> = Effect.flatMap(
  OpenAiClient,
  ({ ask }) => Written.over("OpenAiLanguageModel", ask)
)

/** The language model over the client in force, with its name. */
export const layer: Layer.Layer<LanguageModel.LanguageModel | Model.ModelName, never, OpenAiClient> = Layer.merge(
  Layer.effect(LanguageModel.LanguageModel, make),
  Named.layer(OpenAiClient)
)
