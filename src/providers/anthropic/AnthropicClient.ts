/**
 * AnthropicClient: Anthropic's messages endpoint.
 *
 * It answers turns and continues no text, and recent models take no first words of an answer either: a literal
 * transcript is given with the request to continue it, first words are asked for.
 *
 * @example
 * AnthropicLanguageModel.layer.pipe(
 *   Layer.provide(AnthropicClient.layerConfig()),
 *   Layer.provide(FetchHttpClient.layer)
 * )
 */
import { Config, Context, Effect, Layer, Option, Schema } from "effect"
import type { Redacted } from "effect"
import type { AiError, Response } from "effect/ai"
import type { HttpClient } from "effect/http"
import type { Message, ModelContext } from "../../Policy.ts"
import type { Filters } from "../../Sampling.ts"
import * as Endpoint from "../http/Endpoint.ts"
import { unsupported } from "../http/Failure.ts"
import * as Messages from "../http/Messages.ts"
import * as Tokens from "../http/Tokens.ts"
import type { Written } from "../http/Written.ts"

/** What is asked of the model. */
export interface Request {
  /** What it is called for: a method of the model, named by its errors. */
  readonly method: string
  readonly context: ModelContext
  /** What the model is told at the end, in place of the context's `prefix`. */
  readonly instruction?: string | undefined
  readonly maxTokens: number
  readonly temperature: number
  readonly stop: ReadonlyArray<string>
  /** Only `topP` and `topK` are known to this endpoint. */
  readonly filters?: Filters | undefined
  /** Which sample it is; undefined where the same request has the same answer. */
  readonly sample: string | undefined
  readonly principle?: string | undefined
}

/** The messages endpoint for one model. */
export class AnthropicClient extends Context.Service<
  AnthropicClient,
  {
    readonly model: string
    readonly ask: (request: Request) => Effect.Effect<Written, AiError.AiError>
  }
>()("charter/providers/AnthropicClient") {}

/** The model, its key and how it is called. */
export interface Options extends Endpoint.Options {
  /** `https://api.anthropic.com` if not given; `/v1` may be at its end or not. */
  readonly baseUrl?: string | undefined
  readonly model: string
  readonly apiKey?: Redacted.Redacted | undefined
  /** Fields for every request. They replace ours; undefined removes one. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined
}

const Answer = Schema.Struct({
  model: Schema.optional(Schema.String),
  content: Schema.Array(Schema.Struct({ type: Schema.String, text: Schema.optional(Schema.String) })),
  stop_reason: Schema.optional(Schema.NullOr(Schema.String)),
  usage: Schema.optional(
    Schema.NullOr(
      Schema.Struct({ input_tokens: Schema.optional(Schema.Unknown), output_tokens: Schema.optional(Schema.Unknown) })
    )
  )
})
type Answer = typeof Answer.Type

const textOf = ({ content }: Answer): string => content.map(({ text }) => text ?? "").join("")

const finish = (reason: string | null | undefined): Response.FinishReason => {
  if (reason === "max_tokens" || reason === "model_context_window_exceeded") return "length"
  return reason === "refusal" ? "content-filter" : "stop"
}

/** The turns, with the system's apart as this endpoint wants them. */
const turns = ({ context, instruction }: Request) => {
  if (typeof context === "string") {
    return { system: instruction ?? Messages.continuing, messages: [{ role: "user", content: context }] }
  }
  const { prefix } = context
  const told = instruction ?? (prefix === undefined ? undefined : `Begin your answer with: ${prefix}`)
  const all = told === undefined ? context.messages : Messages.instruct(context.messages, told)
  const system = all.filter(({ role }) => role === "system").map(({ content }: Message) => content)
  const messages = all.filter(({ role }) => role !== "system")
  return { ...(system.length === 0 ? {} : { system: system.join("\n\n") }), messages }
}

/** With the version at the end of the path: some have it in the base URL, Anthropic's own libraries do not. */
const versioned = (baseUrl: string): string => {
  if (!URL.canParse(baseUrl)) return baseUrl
  const url = new URL(baseUrl)
  const path = url.pathname.replace(/\/+$/, "")
  url.pathname = /\/v\d+$/.test(path) ? path : `${path}/v1`
  return url.href
}

const make = Effect.fnUntraced(function* (options: Options) {
  const { model } = options
  const post = yield* Endpoint.make(
    {
      module: "AnthropicClient",
      baseUrl: versioned(options.baseUrl ?? "https://api.anthropic.com"),
      model,
      apiKey: options.apiKey,
      headers: (key) => ({ "x-api-key": key, "anthropic-version": "2023-06-01" })
    },
    options
  )

  const ask = (request: Request): Effect.Effect<Written, AiError.AiError> => {
    // The endpoint refuses stop texts of space alone.
    const stop = request.stop.filter((text) => text.trim() !== "")
    const { topP, topK, minP, repetitionPenalty, logitBias } = request.filters ?? {}
    if (minP !== undefined || repetitionPenalty !== undefined || logitBias !== undefined) {
      const description = "this provider has no minP, repetitionPenalty or logitBias; leave them out"
      return Effect.fail(unsupported("AnthropicClient", request.method, description))
    }
    const told = turns(request)
    const body = {
      model,
      ...told,
      max_tokens: request.maxTokens,
      temperature: request.temperature,
      ...(stop.length === 0 ? {} : { stop_sequences: stop }),
      ...(topP === undefined ? {} : { top_p: topP }),
      ...(topK === undefined ? {} : { top_k: topK }),
      ...options.extra
    }
    // What the model is told besides the context is paid for, too.
    const atMost = { input: Tokens.estimate(JSON.stringify(told)), output: request.maxTokens }
    const tokens = (answer: Answer): Tokens.Tokens => {
      const { input_tokens: input, output_tokens: output } = answer.usage ?? {}
      return Tokens.taken({ input, output }, textOf(answer), atMost)
    }
    const call = {
      method: request.method,
      path: "/messages",
      body,
      schema: Answer,
      tokens,
      atMost,
      sample: request.sample,
      principle: request.principle
    }
    const read = (answer: Answer): Written => ({
      text: textOf(answer),
      model: answer.model ?? model,
      finish: finish(answer.stop_reason),
      tokens: tokens(answer)
    })
    return Effect.map(post(call), (answer) => Messages.cut(read(answer), request.stop))
  }

  return { model, ask }
})

/** A client with the settings given. */
export const layer = (options: Options): Layer.Layer<AnthropicClient, never, HttpClient.HttpClient> =>
  Layer.effect(AnthropicClient, make(options))

export interface ConfigOptions extends Omit<Options, "apiKey" | "baseUrl" | "model"> {
  /** `ANTHROPIC_API_KEY` if not given. */
  readonly apiKey?: Config.Config<Redacted.Redacted> | undefined
  /** `ANTHROPIC_BASE_URL` if not given, and Anthropic's where that is not set. */
  readonly baseUrl?: Config.Config<string> | undefined
  /** `ANTHROPIC_MODEL` if not given. */
  readonly model?: Config.Config<string> | undefined
}

/** A client with key, base URL and model from the configuration, which is the environment unless set otherwise. */
export const layerConfig = (
  options: ConfigOptions = {}
): Layer.Layer<AnthropicClient, Config.ConfigError, HttpClient.HttpClient> =>
  Layer.effect(
    AnthropicClient,
    Effect.gen(function* () {
      const apiKey = yield* options.apiKey ?? Config.Redacted("ANTHROPIC_API_KEY")
      const baseUrl = yield* Config.option(options.baseUrl ?? Config.String("ANTHROPIC_BASE_URL"))
      const model = yield* options.model ?? Config.String("ANTHROPIC_MODEL")
      return yield* make({ ...options, apiKey, baseUrl: Option.getOrUndefined(baseUrl), model })
    })
  )
