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

/** An answer with what a real model says of it. */
export interface Answer {
  readonly text: string
  /** Why it ended; not told if not given. */
  readonly finish?: Response.FinishReason | undefined
  /** Who wrote it, where the mock has no name of its own. */
  readonly model?: string | undefined
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

const unknown = { uncached: undefined, cacheRead: undefined, cacheWrite: undefined }
const usage = {
  inputTokens: { total: undefined, ...unknown },
  outputTokens: { total: undefined, text: undefined, reasoning: undefined }
}

/** How an answer ends, where it says so. */
const finishPart = ({ finish }: Answer): ReadonlyArray<Response.FinishPartEncoded> =>
  finish === undefined ? [] : [{ type: "finish", reason: finish, usage }]

/** A model that answers from `script`. */
export const make = (script: Script.Script<Call, string | Answer>, options: Script.Options = {}): MockLanguageModel => {
  const { calls, play } = Script.player<Call, string | Answer>(script, options)
  const generate = (prompt: Prompt.Prompt) =>
    Effect.flatMap(Sampling.Sampling, (sampling) => play({ ...sampling, prompt }, failure)).pipe(
      Effect.map((made): Answer => (typeof made === "string" ? { text: made } : made))
    )
  const nameOf = ({ model }: Answer) => options.model ?? model ?? "mock"
  const metadata = (answer: Answer) => ({ type: "response-metadata" as const, modelId: nameOf(answer) })

  const whole = LanguageModel.make({
    generateText: ({ prompt }) =>
      Effect.map(generate(prompt), (answer): Array<Response.PartEncoded> => [
        metadata(answer),
        { type: "text", text: answer.text },
        ...finishPart(answer)
      ]),
    streamText: ({ prompt }) =>
      Stream.unwrap(
        Effect.map(generate(prompt), (answer) =>
          Stream.fromIterable<Response.StreamPartEncoded>([
            metadata(answer),
            { type: "text-start", id: "0" },
            { type: "text-delta", id: "0", delta: answer.text },
            { type: "text-end", id: "0" },
            ...finishPart(answer)
          ])
        )
      )
  })
  // `LanguageModel.make` checks each answer of a provider, which takes longer than a stage does; a script needs none.
  const unchecked = ({ prompt }: { readonly prompt: Prompt.RawInput }) =>
    Effect.map(
      Effect.suspend(() => generate(Prompt.make(prompt))),
      (answer) =>
        new LanguageModel.GenerateTextResponse<{}>([
          Response.makePart("response-metadata", { id: undefined, timestamp: undefined, modelId: nameOf(answer) }),
          Response.makePart("text", { text: answer.text }),
          ...finishPart(answer).map(({ reason }) =>
            Response.makePart("finish", { reason, usage: new Response.Usage(usage), response: undefined })
          )
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

/** An answer as JSON. */
const answerOf = ({ content, text }: LanguageModel.GenerateTextResponse<any, any>) => {
  const model = content.find((part) => part.type === "response-metadata")?.modelId
  const finish = content.find((part) => part.type === "finish")?.reason
  return { text, ...(finish === undefined ? {} : { finish }), ...(model === undefined ? {} : { model }) }
}

/** The model around it, with its answers written into a recording; give it the real model with `Layer.provide`. */
export const record = (
  recording: Recording.Recording
): Layer.Layer<LanguageModel.LanguageModel, never, LanguageModel.LanguageModel> =>
  Layer.effect(
    LanguageModel.LanguageModel,
    Effect.map(LanguageModel.LanguageModel, (real) => ({
      ...real,
      generateText: ((asked: Parameters<typeof real.generateText>[0]) =>
        Effect.flatMap(Sampling.Sampling, (sampling) =>
          Effect.tap(real.generateText(asked), (response) =>
            Effect.sync(() =>
              recording.set(keyOf({ ...sampling, prompt: Prompt.make(asked.prompt) }), sampling.id, answerOf(response))
            )
          )
        )) as typeof real.generateText
    }))
  )

/** A model that answers from a recording, with the reasons why answers ended, and under the names of their models. */
export const replay = (recording: Recording.Recording, options: Script.Options = {}): MockLanguageModel =>
  make((call) => recording.get(keyOf(call)) as string | Answer | undefined, options)
