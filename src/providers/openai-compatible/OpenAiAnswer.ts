/**
 * OpenAiAnswer: what servers of this kind answer, in the three shapes that are in use.
 *
 * @internal
 */
import { Schema } from "effect"
import type { Response } from "effect/ai"
import type { Written } from "../http/Written.ts"

const maybe = <S extends Schema.Constraint>(schema: S) => Schema.optional(Schema.NullOr(schema))

const Usage = Schema.Struct({ prompt_tokens: maybe(Schema.Finite), completion_tokens: maybe(Schema.Finite) })

const Listed = Schema.Struct({ token: Schema.String, logprob: Schema.Finite })

/** Chat completions, and the completions of llama.cpp. */
const ContentLogprobs = Schema.Struct({
  content: Schema.NullOr(Schema.Array(Schema.Struct({ ...Listed.fields, top_logprobs: maybe(Schema.Array(Listed)) })))
})

/** Completions. */
const TokenLogprobs = Schema.Struct({
  tokens: Schema.Array(Schema.String),
  token_logprobs: Schema.Array(Schema.NullOr(Schema.Finite)),
  top_logprobs: maybe(Schema.Array(Schema.NullOr(Schema.Record(Schema.String, Schema.Finite))))
})

/** What vLLM gives for each token that it read: the token itself and the likeliest one, by their ids. */
const PromptLogprobs = maybe(
  Schema.Array(
    Schema.NullOr(
      Schema.Record(Schema.String, Schema.Struct({ logprob: Schema.Finite, decoded_token: maybe(Schema.String) }))
    )
  )
)

const choiceFields = {
  prompt_logprobs: PromptLogprobs,
  finish_reason: maybe(Schema.String),
  logprobs: maybe(Schema.Union([TokenLogprobs, ContentLogprobs]))
}

const answer = <S extends Schema.Struct.Fields>(fields: S) =>
  Schema.Struct({
    model: maybe(Schema.String),
    prompt_logprobs: PromptLogprobs,
    choices: Schema.NonEmptyArray(Schema.Struct({ ...choiceFields, ...fields })),
    usage: maybe(Usage)
  })

export const Completion = answer({ text: Schema.String })
export const Chat = answer({ message: Schema.Struct({ content: maybe(Schema.String) }) })

/** A generated (or echoed) token with the likeliest ones at its place, in nats. */
export interface Position {
  readonly token: string
  readonly logprob: number | undefined
  readonly top: ReadonlyArray<readonly [token: string, logprob: number]>
}

/** An answer of either endpoint. */
export interface Answer extends Written {
  /** Undefined where the server gives no log-probabilities. */
  readonly positions: ReadonlyArray<Position> | undefined
  /** Those of what the server read, where it was asked for them and gives them. */
  readonly promptPositions: ReadonlyArray<Position> | undefined
}

type Logprobs = (typeof Completion.Type)["choices"][0]["logprobs"]

const positions = (logprobs: Logprobs): ReadonlyArray<Position> | undefined => {
  if (logprobs === undefined || logprobs === null) return undefined
  if ("content" in logprobs) {
    return logprobs.content?.map(({ token, logprob, top_logprobs }) => ({
      token,
      logprob,
      top: top_logprobs?.length ? top_logprobs.map((top) => [top.token, top.logprob] as const) : [[token, logprob]]
    }))
  }
  return logprobs.tokens.map((token, i) => {
    const logprob = logprobs.token_logprobs[i] ?? undefined
    const top = Object.entries(logprobs.top_logprobs?.[i] ?? {})
    return { token, logprob, top: top.length > 0 || logprob === undefined ? top : [[token, logprob] as const] }
  })
}

/** Of the token itself and the likeliest one, the one that is not likelier is the token itself. */
const promptPositions = (logprobs: typeof PromptLogprobs.Type): ReadonlyArray<Position> | undefined =>
  logprobs?.map((at) => {
    const [first, ...more] = Object.values(at ?? {})
    const own = more.reduce((least, next) => (next.logprob < least!.logprob ? next : least), first)
    return { token: own?.decoded_token ?? "", logprob: own?.logprob, top: [] }
  })

const finish = (reason: string | null | undefined): Response.FinishReason => {
  if (reason === "length") return "length"
  return reason === "content_filter" ? "content-filter" : "stop"
}

/** The first choice; token counts that a server leaves out are 0. */
export const read = (answer: typeof Completion.Type | typeof Chat.Type, model: string): Answer => {
  const choice = answer.choices[0]
  return {
    text: "text" in choice ? choice.text : (choice.message.content ?? ""),
    model: answer.model ?? model,
    finish: finish(choice.finish_reason),
    tokens: { input: answer.usage?.prompt_tokens ?? 0, output: answer.usage?.completion_tokens ?? 0 },
    positions: positions(choice.logprobs),
    promptPositions: promptPositions(choice.prompt_logprobs ?? answer.prompt_logprobs)
  }
}
