/**
 * Hosted: models of other servers in place of the base, as `--judge` and `--critic` name them: `openai:MODEL` for
 * servers that speak OpenAI's protocol, `anthropic:MODEL` for Anthropic, each with `@URL` for another address.
 *
 * Keys and addresses come from the environment: `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `ANTHROPIC_API_KEY`,
 * `ANTHROPIC_BASE_URL`.
 */
import { Config, Effect, Layer, Option, Redacted, Result } from "effect"
import { FetchHttpClient } from "effect/http"
import type * as Budget from "../providers/http/Budget.ts"
import type * as Endpoint from "../providers/http/Endpoint.ts"
import { AnthropicClient, AnthropicDecisionModel, AnthropicLanguageModel } from "../providers/anthropic/index.ts"
import { OpenAiClient, OpenAiDecisionModel, OpenAiLanguageModel } from "../providers/openai-compatible/index.ts"
import * as Feedback from "../recipes/Feedback.ts"
import type { Settings } from "../recipes/Settings.ts"
import { UsageError } from "./UsageError.ts"

const kinds = {
  openai: { key: "OPENAI_API_KEY", url: "OPENAI_BASE_URL" },
  anthropic: { key: "ANTHROPIC_API_KEY", url: "ANTHROPIC_BASE_URL" }
} as const

/** A model of a server. */
export interface Spec {
  readonly kind: keyof typeof kinds
  readonly model: string
  /** The server's address, where it is given. */
  readonly url: string | undefined
}

/** The models that were named. */
export interface Hosted {
  readonly judge: Spec | undefined
  readonly critic: Spec | undefined
}

/** Whether it is an address that requests can go to; a name and password in it are none of an address. */
const isHttp = (text: string): boolean => {
  if (!URL.canParse(text)) return false
  const { protocol, username, password } = new URL(text)
  return /^https?:$/.test(protocol) && username === "" && password === ""
}

/** A scheme, a host with a port, this machine, a number of the internet, or a host with a path. */
const addresses = [
  /\/\//,
  /^[\w.-]*:\d{2,5}(\/|$)/,
  /^localhost([:/]|$)/i,
  /^\d+(\.\d+){3}([:/]|$)/,
  /^\[[\da-f:.]+\]/i,
  /^[\w-]+(\.[\w-]+)*\.[a-z]{2,}\//i
]

/**
 * Whether an address without http stands in the name of a model. Taken for a part of the name, it would send everything
 * to the maker's server. Names have an @ of their own (`@cf/meta/llama`, `claude-3@20240229`).
 */
const hasAddress = (model: string): boolean =>
  model
    .split("@")
    .slice(1)
    .some((part) => addresses.some((address) => address.test(part)))

/** The model that a flag names, or what is wrong with it. */
export const parse = (flag: string, text: string): Result.Result<Spec, string> => {
  const found = /^(openai|anthropic):(.+?)(?:@([Hh][Tt][Tt][Pp][Ss]?:.*))?$/.exec(text)
  if (found === null) {
    return Result.fail(`${flag} needs openai:MODEL or anthropic:MODEL, and "${text}" is neither.`)
  }
  const [, kind, model = "", url] = found
  return (url === undefined ? !hasAddress(model) : isHttp(url))
    ? Result.succeed({ kind: kind as Spec["kind"], model, url })
    : Result.fail(`The address after @ in ${flag} is no URL; it is one such as http://localhost:8000/v1.`)
}

/** What the votes are that make a label; undefined where the server's probabilities are taken. */
export const votesOf = ({ kind }: Spec, { hosted }: Settings): number | undefined =>
  hosted.votes > 0 ? hosted.votes : kind === "anthropic" ? 8 : undefined

/** What determines the answers of a model. A server that moved is the same model, so its address is no part of it. */
const nameOf = ({ kind, model }: Spec): string => `${kind}:${model}`

const judgeName = (spec: Spec, settings: Settings): string => {
  const votes = votesOf(spec, settings)
  return votes === undefined ? nameOf(spec) : `${nameOf(spec)}, ${votes} votes`
}

const limited = (limit: number) => (limit === 0 ? undefined : limit)

/** Where a model is and with what key, or which variable has to be set. */
const connection = Effect.fnUntraced(function* (spec: Spec) {
  const names = kinds[spec.kind]
  const filled = (value: string) => value.trim() !== ""
  const url = Option.getOrUndefined(yield* Config.option(Config.String(names.url)))
  const key = Option.getOrUndefined(yield* Config.option(Config.Redacted(names.key)))
  const baseUrl = spec.url ?? (url !== undefined && filled(url) ? url.trim() : undefined)
  const apiKey = key !== undefined && filled(Redacted.value(key)) ? key : undefined
  if (baseUrl === undefined && apiKey === undefined) {
    const message = `${nameOf(spec)} needs a key in ${names.key}, or the address of your own server in ${names.url}.`
    return yield* new UsageError({ message })
  }
  if (baseUrl !== undefined && !isHttp(baseUrl)) {
    return yield* new UsageError({ message: `${names.url} is no URL; it is one such as http://localhost:8000/v1.` })
  }
  return { model: spec.model, baseUrl, apiKey }
})

const endpoint = ({ hosted }: Settings): Endpoint.Options => ({
  limits: {
    concurrency: hosted.concurrency,
    requestsPerMinute: limited(hosted.requestsPerMinute),
    tokensPerMinute: limited(hosted.tokensPerMinute)
  }
})

/** The language model and the judge that a spec names. */
const modelsOf = (spec: Spec, settings: Settings) =>
  Layer.unwrap(
    Effect.map(connection(spec), (where) => {
      const options = { ...where, ...endpoint(settings) }
      const votes = votesOf(spec, settings)
      return spec.kind === "openai"
        ? Layer.merge(
            OpenAiLanguageModel.layer,
            OpenAiDecisionModel.layer({ method: votes === undefined ? "logprobs" : { votes } })
          ).pipe(Layer.provide(OpenAiClient.layer(options)))
        : Layer.merge(AnthropicLanguageModel.layer, AnthropicDecisionModel.layer({ votes })).pipe(
            Layer.provide(AnthropicClient.layer(options))
          )
    })
  ).pipe(Layer.provide(FetchHttpClient.layer))

/** What the settings say that hosted models may take. */
export const budgetOf = ({ budget }: Settings): Budget.Options => ({
  tokens: limited(budget.tokens),
  ...(budget.dollars === 0
    ? {}
    : { money: { limit: budget.dollars, price: { input: budget.inputPrice, output: budget.outputPrice } } })
})

/** The models in their places; what is wrong with a key or an address is told before anything is written. */
export const layer = ({ judge, critic }: Hosted, settings: Settings): Layer.Layer<never, UsageError> => {
  const judging = judge && Feedback.layerJudge(judgeName(judge, settings), modelsOf(judge, settings))
  const criticising = critic && Feedback.layerCritic(nameOf(critic), modelsOf(critic, settings))
  return Layer.merge(judging ?? Layer.empty, criticising ?? Layer.empty).pipe(
    Layer.catchTag("ConfigError", (error) =>
      Layer.effectDiscard(Effect.fail(new UsageError({ message: error.message })))
    )
  )
}
