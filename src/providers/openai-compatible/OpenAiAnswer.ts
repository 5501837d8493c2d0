/**
 * OpenAiAnswer: what servers of this kind answer, in the three shapes that are in use.
 *
 * @internal
 */
import { Option, Predicate, Schema } from "effect"
import type { Response } from "effect/ai"
import * as Tokens from "../http/Tokens.ts"
import type { Written } from "../http/Written.ts"

const maybe = <S extends Schema.Constraint>(schema: S) => Schema.optional(Schema.NullOr(schema))

const Usage = Schema.Struct({ prompt_tokens: maybe(Schema.Unknown), completion_tokens: maybe(Schema.Unknown) })

/** JSON has no infinity: SGLang writes null for a token that has no probability, as under a grammar. */
const Logprob = Schema.NullOr(Schema.Finite)

const Listed = Schema.Struct({ token: Schema.String, logprob: Logprob })

/** Chat completions, and the completions of llama.cpp. */
const ContentLogprobs = Schema.Struct({
  content: Schema.NullOr(Schema.Array(Schema.Struct({ ...Listed.fields, top_logprobs: maybe(Schema.Array(Listed)) })))
})

/** Completions. */
const TokenLogprobs = Schema.Struct({
  tokens: Schema.Array(Schema.String),
  token_logprobs: Schema.Array(Logprob),
  top_logprobs: maybe(Schema.Array(Schema.NullOr(Schema.Record(Schema.String, Logprob))))
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

/** What a content filter withheld: some servers leave out the text as well. */
const Withheld = Schema.Struct({ ...choiceFields, finish_reason: Schema.Literal("content_filter") })

const answer = <S extends Schema.Struct.Fields>(fields: S) =>
  Schema.Struct({
    model: maybe(Schema.String),
    prompt_logprobs: PromptLogprobs,
    choices: Schema.NonEmptyArray(Schema.Union([Schema.Struct({ ...choiceFields, ...fields }), Withheld])),
    usage: maybe(Usage)
  })

export const Completion = answer({ text: Schema.String })

/** Models that think may answer in parts, of which the texts are the answer: Mistral, Databricks. */
const Part = Schema.Struct({ type: Schema.String, text: maybe(Schema.String) })
const Content = maybe(Schema.Union([Schema.String, Schema.Array(Part)]))

export const Chat = answer({ message: Schema.Struct({ content: Content }) })

/** What the server itself ended in the middle: vLLM and SGLang say `abort`, OpenRouter `error`, DeepSeek the last. */
const BrokenOff = Schema.Struct({
  choices: Schema.NonEmptyArray(
    Schema.Struct({
      finish_reason: Schema.Literals(["abort", "error", "insufficient_system_resource"]),
      error: Schema.optional(Schema.Unknown)
    })
  )
})
const decodeBrokenOff = Schema.decodeUnknownOption(BrokenOff)

/** Why the server broke its answer off; undefined where it did not. */
export const brokenOff = (answer: unknown): string | undefined => {
  const found = Option.getOrUndefined(decodeBrokenOff(answer))
  if (found === undefined) return undefined
  const { error, finish_reason } = found.choices[0]
  return Predicate.hasProperty(error, "message") ? String(error.message) : `finish_reason ${finish_reason}`
}

/** A generated (or echoed) token with the likeliest ones at its place, in nats. */
export interface Position {
  readonly token: string
  readonly logprob: number | undefined
  /** Empty where the server lists none: the token alone says nothing of those that were not written. */
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
      logprob: logprob ?? undefined,
      top: top_logprobs?.map((top) => [top.token, top.logprob ?? -Infinity] as const) ?? []
    }))
  }
  return logprobs.tokens.map((token, i) => ({
    token,
    logprob: logprobs.token_logprobs[i] ?? undefined,
    top: Object.entries(logprobs.top_logprobs?.[i] ?? {}).map(([token, top]) => [token, top ?? -Infinity] as const)
  }))
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

const textOf = (choice: (typeof Completion.Type | typeof Chat.Type)["choices"][0]): string => {
  if ("text" in choice) return choice.text
  const content = ("message" in choice ? choice.message.content : undefined) ?? ""
  if (typeof content === "string") return content
  return content.map(({ text, type }) => (type === "text" ? (text ?? "") : "")).join("")
}

/** The first choice. */
export const read = (
  answer: typeof Completion.Type | typeof Chat.Type,
  { model, atMost }: { readonly model: string; readonly atMost: Tokens.Tokens }
): Answer => {
  const choice = answer.choices[0]
  const text = textOf(choice)
  return {
    text,
    model: answer.model ?? model,
    finish: finish(choice.finish_reason),
    tokens: Tokens.taken({ input: answer.usage?.prompt_tokens, output: answer.usage?.completion_tokens }, text, atMost),
    positions: positions(choice.logprobs),
    promptPositions: promptPositions(choice.prompt_logprobs ?? answer.prompt_logprobs)
  }
}
