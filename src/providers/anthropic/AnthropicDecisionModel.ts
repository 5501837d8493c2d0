/**
 * AnthropicDecisionModel: `effect/ai`'s DecisionModel over Anthropic's messages.
 *
 * The endpoint gives no log-probabilities, so a label is the share of k samples that name it: with 8 votes the soft
 * label has steps of an eighth.
 */
import { Effect, Layer } from "effect"
import { DecisionModel } from "effect/ai"
import type { Model } from "effect/ai"
import * as Sampling from "../../Sampling.ts"
import * as Draw from "../http/Draw.ts"
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

  return yield* Judge.make(
    module,
    Effect.fnUntraced(function* (question) {
      const sampling = yield* Sampling.Sampling
      return yield* Judge.vote(module, question, options.votes ?? 8, (vote) =>
        client.ask({
          method: "decide",
          context: question.context,
          instruction: Judge.instruction(question.choice),
          maxTokens: options.maxTokens ?? 16,
          temperature: sampling.temperature,
          stop: sampling.stop,
          filters: sampling,
          principle: question.principle,
          sample: Draw.make(sampling, vote).sample
        })
      )
    })
  )
})

/** The judge over the client in force, with its name. */
export const layer = (
  options: Options = {}
): Layer.Layer<DecisionModel.DecisionModel | Model.ModelName, never, AnthropicClient> =>
  Layer.merge(Layer.effect(DecisionModel.DecisionModel, make(options)), Named.layer(AnthropicClient))
