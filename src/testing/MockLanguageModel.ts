/**
 * MockLanguageModel: a language model that follows a script and remembers what it was asked.
 *
 * @example
 * const model = MockLanguageModel.make(["an answer", "a critique", "a revision"])
 * yield* program.pipe(Effect.provide(model.layer))
 * assert.include(model.calls[1].context, "CritiqueRequest")
 */
import { Effect, Layer, Stream } from "effect"
import { AiError, LanguageModel } from "effect/ai"
import type { Prompt, Response } from "effect/ai"
import * as Sampling from "../Sampling.ts"
import * as Script from "./Script.ts"

/** A call: the sampling that the stage asked for, and the prompt as other providers see it. */
export interface Call extends Sampling.Sampling {
  readonly prompt: Prompt.Prompt
}

export interface MockLanguageModel {
  readonly layer: Layer.Layer<LanguageModel.LanguageModel>
  readonly calls: ReadonlyArray<Call>
}

/** A model that answers from `script`. */
export const make = (script: Script.Script<Call, string>, options: Script.Options = {}): MockLanguageModel => {
  const { calls, play } = Script.player<Call, string>(script, options.failOn)
  const generate = ({ prompt }: LanguageModel.ProviderOptions) =>
    Effect.flatMap(Sampling.Sampling, (sampling) =>
      play({ ...sampling, prompt }, (n) =>
        AiError.make({
          module: "MockLanguageModel",
          method: "generateText",
          reason: new AiError.InternalProviderError({ description: `call ${n} is scripted to fail` })
        })
      )
    )
  const metadata = { type: "response-metadata" as const, modelId: options.model ?? "mock" }
  return {
    calls,
    layer: Layer.effect(
      LanguageModel.LanguageModel,
      LanguageModel.make({
        generateText: (asked) =>
          Effect.map(generate(asked), (text): Array<Response.PartEncoded> => [metadata, { type: "text", text }]),
        streamText: (asked) =>
          Stream.unwrap(
            Effect.map(generate(asked), (text) =>
              Stream.fromIterable<Response.StreamPartEncoded>([
                metadata,
                { type: "text-start", id: "0" },
                { type: "text-delta", id: "0", delta: text },
                { type: "text-end", id: "0" }
              ])
            )
          )
      })
    )
  }
}
