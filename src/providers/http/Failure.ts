/**
 * Failure: what goes wrong between here and a provider, as the failures that `effect/ai` knows.
 *
 * Descriptions say what to do. They are made of texts from which the key was taken out, never of the request: some
 * servers and some clients quote a refused header in full.
 *
 * @internal
 */
import { Duration, Option, Redacted, Result, Schema } from "effect"
import { AiError } from "effect/ai"
import { Headers } from "effect/http"

/** Where it went wrong. */
export interface Place {
  readonly module: string
  readonly method: string
  readonly url: string
  readonly model: string
}

const make = ({ module, method }: Place, reason: AiError.AiErrorReason): AiError.AiError =>
  AiError.make({ module, method, reason })

/** A text without the key in it. */
export const scrub = (text: string, key: Redacted.Redacted | undefined): string => {
  const secret = key === undefined ? "" : Redacted.value(key).trim()
  return secret === "" ? text : text.replaceAll(secret, "<redacted>")
}

const Said = Schema.Struct({
  error: Schema.optional(
    Schema.Union([
      Schema.String,
      Schema.Struct({
        message: Schema.optional(Schema.NullOr(Schema.String)),
        type: Schema.optional(Schema.NullOr(Schema.String)),
        code: Schema.optional(Schema.Unknown)
      })
    ])
  ),
  message: Schema.optional(Schema.String),
  detail: Schema.optional(Schema.String)
})
const decodeSaid = Schema.decodeUnknownOption(Schema.fromJsonString(Said))

/** What the server says about it: OpenAI, Anthropic, vLLM, llama.cpp and Ollama each put it in one of these places. */
const said = (body: string): { readonly text: string; readonly code: string } => {
  const found = Option.getOrUndefined(decodeSaid(body))
  const error = typeof found?.error === "string" ? { message: found.error } : found?.error
  const text = error?.message ?? found?.message ?? found?.detail ?? body
  const code = error !== undefined && "type" in error ? `${error.type ?? ""} ${String(error.code ?? "")}` : ""
  return { text: text.trim().slice(0, 500) || "it gives no reason", code }
}

const retryAfter = (headers: Headers.Headers, now: number): Duration.Duration | undefined => {
  const value = headers["retry-after"]
  if (value === undefined) return undefined
  const parsed = Headers.parseRetryAfter(value)
  return Result.isSuccess(parsed) ? Headers.retryAfterDelay(parsed.success, now) : undefined
}

/** An answer with a status that is not 2xx. */
export const fromStatus = (
  place: Place,
  status: number,
  headers: Headers.Headers,
  body: string,
  now: number
): AiError.AiError => {
  const { text, code } = said(body)
  const answer = `${place.url} answered ${status}: ${text}`
  if (status === 429) {
    // A spent account answers 429, too, and asking again does not help.
    if (code.includes("insufficient_quota")) return make(place, new AiError.QuotaExhaustedError({}))
    const after = retryAfter(headers, now)
    return make(place, new AiError.RateLimitError(after === undefined ? {} : { retryAfter: after }))
  }
  if (status === 401 || status === 403) {
    const description = `${answer}. Check the key that the layer was given`
    const kind = status === 401 ? "InvalidKey" : "InsufficientPermissions"
    return make(place, new AiError.AuthenticationError({ kind, description }))
  }
  if (status === 404) {
    const description = `${answer}. Check that the server has a model "${place.model}" and the base URL is right`
    return make(place, new AiError.InvalidRequestError({ parameter: "model", description }))
  }
  // 408 and 409 are the server's way of asking for the same request again.
  if (status >= 500 || status === 408 || status === 409) {
    return make(place, new AiError.InternalProviderError({ description: answer }))
  }
  return make(place, new AiError.InvalidRequestError({ description: answer }))
}

/** No answer, or a piece of one. The client's own error is left out: it holds the request with its headers. */
export const noAnswer = (place: Place, what: string): AiError.AiError =>
  make(place, new AiError.NetworkError({ reason: "TransportError", method: "POST", url: place.url, description: what }))

/** No answer in time. */
export const timedOut = (place: Place, after: Duration.Duration): AiError.AiError =>
  noAnswer(place, `no answer within ${Duration.format(after)}; raise \`timeout\` if the model needs longer`)

/** An answer with status 2xx that is no JSON: a gateway's page, or a torn answer, and worth another try. */
export const notJson = (place: Place, body: string): AiError.AiError =>
  make(
    place,
    new AiError.InvalidOutputError({
      description: `${place.url} answered with something that is not JSON: ${JSON.stringify(body.slice(0, 200))}`
    })
  )

/** JSON of another shape: another kind of server. */
export const unexpected = (place: Place, what: string): AiError.AiError =>
  make(
    place,
    new AiError.InvalidResponseError({
      description: `${place.url} answered with JSON of another shape; check the base URL: ${what.slice(0, 500)}`
    })
  )

/** A request that this provider cannot make. */
export const unsupported = (module: string, method: string, description: string): AiError.AiError =>
  AiError.make({ module, method, reason: new AiError.InvalidRequestError({ description }) })

/** A text of the model that is no answer to what it was asked; asking again may help, at a temperature above 0. */
export const unusable = (module: string, method: string, description: string): AiError.AiError =>
  AiError.make({ module, method, reason: new AiError.InvalidOutputError({ description }) })
