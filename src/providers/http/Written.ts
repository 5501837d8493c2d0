/**
 * Written: a text from a model as the parts that `effect/ai` expects.
 *
 * @internal
 */
import { Effect, Stream } from "effect"
import { LanguageModel } from "effect/ai"
import type { AiError, Response } from "effect/ai"
import * as Sampling from "../../Sampling.ts"
import type { ModelContext } from "../../Policy.ts"
import * as Draw from "./Draw.ts"
import * as Messages from "./Messages.ts"
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

/** What a client is asked for one text. */
export interface Asked extends Draw.Draw {
  readonly method: string
  readonly context: ModelContext
  readonly maxTokens: number
  readonly temperature: number
  readonly stop: ReadonlyArray<string>
  readonly filters: Sampling.Sampling
}

/** The language model over a client, which samples as `Sampling` says; `module` is named by its failures. */
export const over = (module: string, ask: (asked: Asked) => Effect.Effect<Written, AiError.AiError>) =>
  make(
    Effect.fnUntraced(function* (options: LanguageModel.ProviderOptions) {
      const context = yield* Messages.contextOf(module, options)
      const sampling = yield* Sampling.Sampling
      const { maxTokens, temperature, stop } = sampling
      const draw = Draw.make(sampling)
      return yield* ask({ method: "generateText", context, maxTokens, temperature, stop, filters: sampling, ...draw })
    })
  )
