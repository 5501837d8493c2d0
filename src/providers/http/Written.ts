/**
 * Written: a text from a model as the parts that `effect/ai` expects.
 *
 * @internal
 */
import { Effect, Stream } from "effect"
import { LanguageModel } from "effect/ai"
import type { AiError, Response } from "effect/ai"
import type { Tokens } from "./Tokens.ts"

/** A text with what is said about it. */
export interface Written {
  readonly text: string
  readonly model: string
  readonly finish: Response.FinishReason
  readonly tokens: Tokens
}

const finish = ({ finish, tokens }: Written): Response.FinishPartEncoded => ({
  type: "finish",
  reason: finish,
  usage: {
    inputTokens: { total: tokens.input, uncached: undefined, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: tokens.output, text: undefined, reasoning: undefined }
  }
})

/** A whole text. */
export const parts = (written: Written): Array<Response.PartEncoded> => [
  { type: "response-metadata", modelId: written.model },
  { type: "text", text: written.text },
  finish(written)
]

/** The same as a stream, which has one piece: the stages read whole texts. */
const streamParts = (written: Written): Array<Response.StreamPartEncoded> => [
  { type: "response-metadata", modelId: written.model },
  { type: "text-start", id: "0" },
  { type: "text-delta", id: "0", delta: written.text },
  { type: "text-end", id: "0" },
  finish(written)
]

/** The language model over a way of writing one text. */
export const make = (write: (asked: LanguageModel.ProviderOptions) => Effect.Effect<Written, AiError.AiError>) =>
  LanguageModel.make({
    generateText: (asked) => Effect.map(write(asked), parts),
    streamText: (asked) => Stream.unwrap(Effect.map(write(asked), (text) => Stream.fromIterable(streamParts(text))))
  })
