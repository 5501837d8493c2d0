/**
 * AnthropicDecisionModel: `effect/ai`'s DecisionModel over Anthropic's messages.
 *
 * The endpoint gives no log-probabilities, so a label is the share of k samples that name it: with 8 votes the soft
 * label has steps of an eighth.
 */
import { Effect, Layer } from "effect"
import { DecisionModel } from "effect/ai"
import type { Model } from "effect/ai"
import * as Judge from "../http/Judge.ts"
import * as Named from "../http/Named.ts"
import { AnthropicClient } from "./AnthropicClient.ts"

export interface Options {
  /** How many samples vote; 8 if not given. */
  readonly votes?: number | undefined
  /** How long an answer to be read may get; 16 tokens if not given. */
  readonly maxTokens?: number | undefined
}

const module = "AnthropicDecisionModel"

/** The service over a client. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const client = yield* AnthropicClient

  return yield* Judge.make(module, (question) => Judge.poll(module, question, options, client.ask))
})

/** The judge over the client in force, with its name. */
export const layer = (
  options: Options = {}
): Layer.Layer<DecisionModel.DecisionModel | Model.ModelName, never, AnthropicClient> =>
  Layer.merge(Layer.effect(DecisionModel.DecisionModel, make(options)), Named.layer(AnthropicClient))
