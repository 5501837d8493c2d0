/**
 * MockLanguageModel: a language model that follows a script and remembers what it was asked.
 *
 * @example
 * const model = MockLanguageModel.make(["an answer", "a critique", "a revision"])
 * yield* program.pipe(Effect.provide(model.layer))
 * assert.include(model.calls[1].context, "CritiqueRequest")
 */
import { Effect, Layer, Stream } from "effect"
import { AiError, LanguageModel, Prompt, Response } from "effect/ai"
import * as Sampling from "../Sampling.ts"
import * as Recording from "./Recording.ts"
import * as Script from "./Script.ts"

/** A call: the sampling that the stage asked for, and the prompt as other providers see it. */
export interface Call extends Sampling.Sampling {
  readonly prompt: Prompt.Prompt
}

export interface MockLanguageModel {
  readonly layer: Layer.Layer<LanguageModel.LanguageModel>
  readonly calls: ReadonlyArray<Call>
}

const failure = (description: string) =>
  AiError.make({
    module: "MockLanguageModel",
    method: "generateText",
    reason: new AiError.InternalProviderError({ description })
  })

/** A model that answers from `script`. */
export const make = (script: Script.Script<Call, string>, options: Script.Options = {}): MockLanguageModel => {
  const { calls, play } = Script.player<Call, string>(script, options)
  const generate = (prompt: Prompt.Prompt) =>
    Effect.flatMap(Sampling.Sampling, (sampling) => play({ ...sampling, prompt }, failure))
  const metadata = { type: "response-metadata" as const, modelId: options.model ?? "mock" }

  const whole = LanguageModel.make({
    generateText: ({ prompt }) =>
      Effect.map(generate(prompt), (text): Array<Response.PartEncoded> => [metadata, { type: "text", text }]),
    streamText: ({ prompt }) =>
      Stream.unwrap(
        Effect.map(generate(prompt), (text) =>
          Stream.fromIterable<Response.StreamPartEncoded>([
            metadata,
            { type: "text-start", id: "0" },
            { type: "text-delta", id: "0", delta: text },
            { type: "text-end", id: "0" }
          ])
        )
      )
  })
  // `LanguageModel.make` checks each answer of a provider, which takes longer than a stage does; a script needs none.
  const unchecked = ({ prompt }: { readonly prompt: Prompt.RawInput }) =>
    Effect.map(
      Effect.suspend(() => generate(Prompt.make(prompt))),
      (text) =>
        new LanguageModel.GenerateTextResponse<{}>([
          Response.makePart("response-metadata", { id: undefined, timestamp: undefined, modelId: metadata.modelId }),
          Response.makePart("text", { text })
        ])
    )
  const layer = Layer.effect(
    LanguageModel.LanguageModel,
    Effect.map(whole, (model) => {
      const generateText = (asked: Parameters<typeof model.generateText>[0]) =>
        "toolkit" in asked ? model.generateText(asked) : unchecked(asked)
      return { ...model, generateText: generateText as typeof model.generateText }
    })
  )
  return { calls, layer }
}

/** What determines an answer. */
const keyOf = ({ context, prompt, ...sampling }: Call) =>
  Recording.keyOf("language-model", { ...sampling, principle: undefined, asked: context ?? prompt })

/** The model around it, with its texts written into a recording; give it the real model with `Layer.provide`. */
export const record = (
  recording: Recording.Recording
): Layer.Layer<LanguageModel.LanguageModel, never, LanguageModel.LanguageModel> =>
  Layer.effect(
    LanguageModel.LanguageModel,
    Effect.map(LanguageModel.LanguageModel, (real) => ({
      ...real,
      generateText: ((asked: Parameters<typeof real.generateText>[0]) =>
        Effect.flatMap(Sampling.Sampling, (sampling) =>
          Effect.tap(real.generateText(asked), ({ text }) =>
            Effect.sync(() =>
              recording.set(keyOf({ ...sampling, prompt: Prompt.make(asked.prompt) }), sampling.id, text)
            )
          )
        )) as typeof real.generateText
    }))
  )

/** A model that answers from a recording. */
export const replay = (recording: Recording.Recording, options: Script.Options = {}): MockLanguageModel =>
  make((call) => recording.get(keyOf(call)) as string | undefined, options)
