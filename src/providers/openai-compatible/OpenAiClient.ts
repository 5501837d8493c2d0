/**
 * OpenAiClient: the completions and chat endpoints of OpenAI, vLLM, llama.cpp, Ollama and their like.
 *
 * A literal text is continued (`/completions`), turns are answered (`/chat/completions`). Temperatures, seeds and stop
 * texts are those of `Sampling`.
 *
 * @example
 * OpenAiLanguageModel.layer.pipe(
 *   Layer.provide(OpenAiClient.layer({ baseUrl: "http://localhost:8000/v1", model: "Qwen/Qwen3-8B" })),
 *   Layer.provide(FetchHttpClient.layer)
 * )
 */
import { Config, Context, Effect, Layer, Option } from "effect"
import type { Redacted } from "effect"
import type { AiError } from "effect/ai"
import type { HttpClient } from "effect/http"
import type { ModelContext } from "../../Policy.ts"
import type { Filters } from "../../Sampling.ts"
import * as Endpoint from "../http/Endpoint.ts"
import * as Messages from "../http/Messages.ts"
import * as Tokens from "../http/Tokens.ts"
import * as OpenAiAnswer from "./OpenAiAnswer.ts"

/** What is asked of the model. */
export interface Request {
  /** What it is called for: a method of the model, named by its errors. */
  readonly method: string
  readonly context: ModelContext
  /** What a server is told that continues no turn, in place of the context's `prefix`. */
  readonly instruction?: string | undefined
  readonly maxTokens: number
  readonly temperature: number
  readonly seed: number
  readonly stop: ReadonlyArray<string>
  /** All but `topP` and `logitBias` are fields of vLLM and llama.cpp. */
  readonly filters?: Filters | undefined
  /** How many of the likeliest tokens are listed at each place. */
  readonly logprobs?: number | undefined
  /** The context itself comes back before what is generated: literal texts only. */
  readonly echo?: boolean | undefined
  /** The log-probabilities of the context come back: vLLM. */
  readonly promptLogprobs?: boolean | undefined
  /** Which sample it is; undefined where the same request has the same answer. */
  readonly sample: string | undefined
  readonly principle?: string | undefined
}

/** A server that speaks OpenAI's protocol, for one of its models. */
export class OpenAiClient extends Context.Service<
  OpenAiClient,
  {
    readonly model: string
    /** Whether the first words of an answer can be given. */
    readonly continues: boolean
    /** Whether a literal text is continued. */
    readonly completes: boolean
    readonly ask: (request: Request) => Effect.Effect<OpenAiAnswer.Answer, AiError.AiError>
  }
>()("charter/providers/OpenAiClient") {}

/** What a server of this kind can do, where they differ. */
export interface Abilities {
  /**
   * `continue`: the first words of an answer are given as an unfinished turn of the assistant (vLLM, llama.cpp);
   * `instruct`, the default: they are asked for.
   */
  readonly prefix?: "continue" | "instruct" | undefined
  /**
   * What is done with a literal text: `complete` goes on with it by `/completions`, `ask` puts it into a turn with the
   * request to go on. OpenAI's own models are asked if not given, those of other servers complete.
   */
  readonly literal?: "complete" | "ask" | undefined
  /** How many stop texts a request may have; the answer is cut at all of them in any case. 4 if not given. */
  readonly stops?: number | undefined
  /** Fields for every request, such as `{ reasoning_effort: "minimal" }`. They replace ours; undefined removes one. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined
}

/** The server, its model and how it is called. */
export interface Options extends Endpoint.Options, Abilities {
  /** Such as `http://localhost:11434/v1`; OpenAI's if not given. */
  readonly baseUrl?: string | undefined
  readonly model: string
  readonly apiKey?: Redacted.Redacted | undefined
}

const filtersOf = ({ topP, topK, minP, repetitionPenalty, logitBias }: Filters) => ({
  ...(topP === undefined ? {} : { top_p: topP }),
  ...(topK === undefined ? {} : { top_k: topK }),
  ...(minP === undefined ? {} : { min_p: minP }),
  ...(repetitionPenalty === undefined ? {} : { repetition_penalty: repetitionPenalty }),
  ...(logitBias === undefined ? {} : { logit_bias: Object.fromEntries(logitBias) })
})

const turns = ({ context, instruction }: Request, how: Abilities["prefix"]) => {
  if (typeof context === "string") {
    const system = { role: "system", content: instruction ?? Messages.continuing }
    return { messages: [system, { role: "user", content: context }] }
  }
  const { messages, prefix } = context
  if (prefix !== undefined && how === "continue") {
    const messagesWithPrefix = [...messages, { role: "assistant", content: prefix }]
    return { messages: messagesWithPrefix, continue_final_message: true, add_generation_prompt: false }
  }
  const told = instruction ?? (prefix === undefined ? undefined : `Begin your answer with: ${prefix}`)
  return { messages: told === undefined ? messages : Messages.instruct(messages, told) }
}

const make = Effect.fnUntraced(function* (options: Options) {
  const { model } = options
  const baseUrl = options.baseUrl ?? "https://api.openai.com/v1"
  const own = URL.canParse(baseUrl) && new URL(baseUrl).host === "api.openai.com"
  const completes = (options.literal ?? (own ? "ask" : "complete")) === "complete"
  const post = yield* Endpoint.make(
    {
      module: "OpenAiClient",
      baseUrl,
      model,
      apiKey: options.apiKey,
      headers: (key): Record<string, string> => (key === "" ? {} : { authorization: `Bearer ${key}` }),
      brokenOff: OpenAiAnswer.brokenOff
    },
    options
  )

  const ask = (request: Request): Effect.Effect<OpenAiAnswer.Answer, AiError.AiError> => {
    const { context, logprobs, method, sample, principle } = request
    const stop = request.stop.slice(0, options.stops ?? 4)
    const common = {
      model,
      // The field's older name is refused by some of OpenAI's models, the newer one by some other servers.
      ...(own ? { max_completion_tokens: request.maxTokens } : { max_tokens: request.maxTokens }),
      temperature: request.temperature,
      seed: request.seed,
      ...(stop.length === 0 ? {} : { stop }),
      ...filtersOf(request.filters ?? {}),
      ...(request.promptLogprobs === true ? { prompt_logprobs: 1 } : {})
    }
    const literal = typeof context === "string" && completes
    const told = literal ? { prompt: context } : turns(request, options.prefix)
    // What the model is told besides the context is paid for, too.
    const atMost = { input: Tokens.estimate(JSON.stringify(told)), output: request.maxTokens }
    const read = (answer: Parameters<typeof OpenAiAnswer.read>[0]) =>
      Messages.cut(OpenAiAnswer.read(answer, { model, atMost }), request.stop)
    const call = (path: string, body: Record<string, unknown>) => ({
      method,
      path,
      body,
      tokens: (answer: Parameters<typeof OpenAiAnswer.read>[0]) => OpenAiAnswer.read(answer, { model, atMost }).tokens,
      atMost,
      sample,
      principle
    })
    if (literal) {
      const body = {
        ...common,
        max_completion_tokens: undefined,
        max_tokens: request.maxTokens,
        ...told,
        ...(logprobs === undefined ? {} : { logprobs }),
        ...(request.echo === true ? { echo: true } : {}),
        ...options.extra
      }
      return Effect.map(post({ ...call("/completions", body), schema: OpenAiAnswer.Completion }), read)
    }
    const body = {
      ...common,
      ...told,
      ...(logprobs === undefined ? {} : { logprobs: true, top_logprobs: logprobs }),
      ...options.extra
    }
    return Effect.map(post({ ...call("/chat/completions", body), schema: OpenAiAnswer.Chat }), read)
  }

  return { model, ask, completes, continues: options.prefix === "continue" }
})

/** A client with the settings given. */
export const layer = (options: Options): Layer.Layer<OpenAiClient, never, HttpClient.HttpClient> =>
  Layer.effect(OpenAiClient, make(options))

export interface ConfigOptions extends Endpoint.Options, Abilities {
  /** `OPENAI_API_KEY` if not given, and none where that is not set: servers of one's own need none. */
  readonly apiKey?: Config.Config<Redacted.Redacted> | undefined
  /** `OPENAI_BASE_URL` if not given, and OpenAI's where that is not set. */
  readonly baseUrl?: Config.Config<string> | undefined
  /** `OPENAI_MODEL` if not given. */
  readonly model?: Config.Config<string> | undefined
}

/** A client with key, base URL and model from the configuration, which is the environment unless set otherwise. */
export const layerConfig = (
  options: ConfigOptions = {}
): Layer.Layer<OpenAiClient, Config.ConfigError, HttpClient.HttpClient> =>
  Layer.effect(
    OpenAiClient,
    Effect.gen(function* () {
      const apiKey = yield* Config.option(options.apiKey ?? Config.Redacted("OPENAI_API_KEY"))
      const baseUrl = yield* Config.option(options.baseUrl ?? Config.String("OPENAI_BASE_URL"))
      const model = yield* options.model ?? Config.String("OPENAI_MODEL")
      return yield* make({
        ...options,
        apiKey: Option.getOrUndefined(apiKey),
        baseUrl: Option.getOrUndefined(baseUrl),
        model
      })
    })
  )
