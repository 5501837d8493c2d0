/**
 * Failure: what goes wrong between here and a provider, as the failures that `effect/ai` knows.
 *
 * Descriptions say what to do. They are made of texts from which the key was taken out, never of the request: some
 * servers and some clients quote a refused header in full.
 *
 * @internal
 */
import { Duration, Option, Predicate, Redacted, Result, Schema } from "effect"
import { AiError } from "effect/ai"
import { Headers } from "effect/http"

/** Where it went wrong. */
export interface Place {
  readonly module: string
  readonly method: string
  /** Without anything secret in it. */
  readonly url: string
  readonly model: string
}

interface Said {
  readonly words: string
  readonly after?: Duration.Duration | undefined
  readonly retryable?: boolean | undefined
}

/**
 * An `AiError` that says in one sentence which server failed on which model and what to do; those of `effect/ai` know
 * only the kind of failure.
 */
class ServerError extends AiError.AiError {
  said: Said | undefined

  override get message(): string {
    return this.said?.words ?? super.message
  }

  override get isRetryable(): boolean {
    return this.said?.retryable ?? super.isRetryable
  }

  /** Overloaded servers give one as well, for which `effect/ai` has no place. */
  override get retryAfter(): Duration.Duration | undefined {
    return this.said?.after ?? super.retryAfter
  }
}

const hostOf = (url: string): string => (URL.canParse(url) ? new URL(url).host : url)

/** `{host} {what} (model "m"); {todo}` */
const sentence = ({ url, model }: Place, what: string, todo: string): string =>
  `${hostOf(url)} ${what} (model "${model}"); ${todo}`

/** An error with its sentence. */
export const failure = (
  { module, method }: Pick<Place, "module" | "method">,
  reason: AiError.AiErrorReason,
  words: string,
  more: Omit<Said, "words"> = {}
): AiError.AiError => {
  const error = new ServerError({ module, method, reason })
  Object.defineProperty(error, "said", { value: { words, ...more }, enumerable: false })
  return error
}

/**
 * A text without the key in it. Short keys are the placeholders that servers of one's own are given, such as `EMPTY`:
 * they are taken out of what went wrong, and left in answers, where the word means something else.
 */
export const scrub = (text: string, key: Redacted.Redacted | undefined, failed: boolean): string => {
  const secret = key === undefined ? "" : Redacted.value(key).trim()
  return secret.length < (failed ? 4 : 16) ? text : text.replaceAll(secret, "<redacted>")
}

const Body = Schema.Struct({
  error: Schema.optional(
    Schema.Union([
      Schema.String,
      Schema.Struct({
        message: Schema.optional(Schema.NullOr(Schema.String)),
        type: Schema.optional(Schema.NullOr(Schema.String)),
        code: Schema.optional(Schema.Unknown),
        metadata: Schema.optional(Schema.Unknown)
      })
    ])
  ),
  message: Schema.optional(Schema.String),
  detail: Schema.optional(Schema.String)
})
const decodeBody = Schema.decodeUnknownOption(Schema.fromJsonString(Body))

/** A gateway's page has several lines, and nobody knows what a server would do to the terminal. */
const lineOf = (text: string): string =>
  text
    .replaceAll(/[\s\p{Cc}]+/gu, " ")
    .trim()
    .slice(0, 500)

/** What the server says about it: OpenAI, Anthropic, vLLM, llama.cpp and Ollama each put it in one of these places. */
const said = (body: string): { readonly text: string; readonly code: string; readonly flagged: boolean } => {
  const found = Option.getOrUndefined(decodeBody(body))
  const given = found?.error
  const error = typeof given === "string" ? { message: given } : given
  const text = error?.message ?? found?.message ?? found?.detail ?? body
  const code = `${error?.type ?? ""} ${String(error?.code ?? "")}`
  const line = lineOf(text)
  // OpenRouter's way of saying that a moderation did not let the text through to the model.
  const flagged = Predicate.hasProperty(error?.metadata, "flagged_input")
  return { text: line || "it gives no reason", code, flagged }
}

/** An account that is spent or closed: OpenAI and Anthropic answer 400 or 429, and asking again does not help. */
const isSpent = (status: number, { text, code }: { readonly text: string; readonly code: string }): boolean =>
  status === 402 ||
  ((status === 429 || status === 400) &&
    (/\b(insufficient_quota|billing_not_active|billing_hard_limit_reached)\b/.test(code) ||
      text.startsWith("Your credit balance is too low")))

/** Where a redirect leads, without what may be secret in it. */
const placeOf = (location: string, from: string): string => {
  if (!URL.canParse(location, from)) return "another address"
  const { origin, pathname } = new URL(location, from)
  return `${origin}${pathname}`
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
  const { text, code, flagged } = said(body)
  const answered = `answered ${status}: ${text}`
  if (isSpent(status, { text, code })) {
    return failure(place, new AiError.QuotaExhaustedError({}), sentence(place, answered, "check the account's billing"))
  }
  if (status >= 300 && status < 400 && headers["location"] !== undefined) {
    const words = sentence(
      place,
      `answered ${status}: it is at ${placeOf(headers["location"], place.url)} now`,
      "give the base URL of that address, if the key may go there"
    )
    return failure(place, new AiError.InvalidRequestError({ parameter: everyRequest, description: words }), words)
  }
  const after = retryAfter(headers, now)
  if (status === 429) {
    const wait = after === undefined ? "" : `wait ${Duration.format(after)}, `
    const words = sentence(place, answered, `${wait}lower \`limits\` or use a fallback`)
    return failure(place, new AiError.RateLimitError(after === undefined ? {} : { retryAfter: after }), words)
  }
  if (flagged) {
    const words = sentence(place, answered, "leave this text out, or use another model for it")
    return failure(place, new AiError.InvalidRequestError({ description: words }), words)
  }
  if (status === 401 || status === 403) {
    const words = sentence(place, answered, "check the key that the layer was given")
    const kind = status === 401 ? "InvalidKey" : "InsufficientPermissions"
    return failure(place, new AiError.AuthenticationError({ kind, description: words }), words)
  }
  if (status === 404) {
    const words = sentence(place, answered, `check that the server has a model "${place.model}" and its base URL`)
    return failure(place, new AiError.InvalidRequestError({ parameter: "model", description: words }), words)
  }
  // 408 and 409 are the server's way of asking for the same request again.
  if (status >= 500 || status === 408 || status === 409) {
    const words = sentence(place, answered, "try again later or use a fallback")
    return failure(place, new AiError.InternalProviderError({ description: words }), words, { after })
  }
  const words = sentence(place, answered, "change the request as it says; `extra` adds and removes fields")
  // All requests have the same fields: a model that does not take one of them, such as a temperature, takes no request.
  const parameter = /\b(unsupported|unknown)_(parameter|value)\b/.test(code) ? everyRequest : undefined
  return failure(place, new AiError.InvalidRequestError({ parameter, description: words }), words)
}

const decodeCode = Schema.decodeUnknownOption(
  Schema.Struct({ error: Schema.Struct({ code: Schema.Int.check(Schema.isBetween({ minimum: 400, maximum: 599 })) }) })
)

/**
 * The status that stands within an answer of another one: what fails once the model has begun to write, OpenRouter says
 * with 200 and the status as the error's code.
 */
export const statusWithin = (answer: unknown): number | undefined =>
  Option.getOrUndefined(decodeCode(answer))?.error.code

/** No answer, or a piece of one. The client's own error is left out: it holds the request with its headers. */
const noAnswer = (place: Place, what: string, todo: string): AiError.AiError => {
  const words = sentence(place, what, todo)
  const { url } = place
  const reason = new AiError.NetworkError({ reason: "TransportError", method: "POST", url, description: words })
  return failure(place, reason, words)
}

/** The system's name for what is wrong, such as `ENOTFOUND` or `CERT_HAS_EXPIRED`: its words may hold the request. */
const nameOf = (error: unknown): string | undefined => {
  const code = codeOf(error)
  if (typeof code === "string" && /^[A-Z][A-Z0-9_]+$/.test(code)) return code
  // There are ports that `fetch` calls nobody at, such as 6000.
  return Predicate.hasProperty(error, "message") && error.message === "bad port"
    ? "a port that fetch refuses"
    : undefined
}

const unreachable = (place: Place, name: string | undefined): AiError.AiError => {
  const what = `cannot be reached or the request cannot be sent${name === undefined ? "" : ` (${name})`}`
  return noAnswer(place, what, "check the base URL, the network and the key")
}

const codeOf = (error: unknown): unknown => (Predicate.hasProperty(error, "code") ? error.code : undefined)
const causeOf = (error: unknown): unknown => (Predicate.hasProperty(error, "cause") ? error.cause : undefined)

/**
 * No answer at all. Node's `fetch` waits five minutes for the beginning of one, whatever it is told, and ends then as if
 * there were no connection: its reason is deep in the client's error.
 */
export const unanswered = (place: Place, error: { readonly reason: unknown }): AiError.AiError => {
  const name = nameOf(causeOf(causeOf(error.reason)))
  return name === "UND_ERR_HEADERS_TIMEOUT"
    ? noAnswer(
        place,
        "gave no answer within the 5 minutes that Node's fetch waits",
        "give the layer a client that waits longer, such as NodeHttpClient.layerNodeHttp of @effect/platform-node"
      )
    : unreachable(place, name)
}

/** The connection ended before the answer did. */
export const torn = (place: Place): AiError.AiError =>
  noAnswer(place, "ended the connection within its answer", "try again later or use a fallback")

/** The server ended its answer before the model did, and says so. */
export const brokenOff = (place: Place, why: string): AiError.AiError =>
  noAnswer(place, `broke off its answer: ${lineOf(why)}`, "try again later or use a fallback")

/** No answer in time. */
export const timedOut = (place: Place, after: Duration.Duration): AiError.AiError =>
  noAnswer(place, `gave no answer within ${Duration.format(after)}`, "raise `timeout` if the model needs longer")

/** An answer with status 2xx that is no JSON: a gateway's page, or a torn answer, and worth another try. */
export const notJson = (place: Place, body: string): AiError.AiError => {
  const what = `answered with something that is not JSON: ${JSON.stringify(body.slice(0, 200))}`
  const words = sentence(place, what, "check the base URL, or try again later")
  return failure(place, new AiError.InvalidOutputError({ description: words }), words)
}

/** JSON of another shape: another kind of server, or what a gateway says with a status of 200. */
export const unexpected = (place: Place, body: string, what: string): AiError.AiError => {
  const reason = /"error"\s*:/.test(body.slice(0, 1000)) ? said(body).text : what
  const words = sentence(
    place,
    `answered with JSON of another shape: ${reason.replaceAll(/\s+/g, " ").slice(0, 300)}`,
    "check the base URL and the kind of server"
  )
  return failure(place, new AiError.InvalidResponseError({ description: words }), words)
}

/** Whether a failure may be that of a server of another kind, or of one request alone: {@link unexpected}, and a 404. */
export const isOdd = ({ reason }: AiError.AiError): boolean =>
  reason._tag === "InvalidResponseError" || (reason._tag === "InvalidRequestError" && reason.parameter === "model")

/** An odd answer as the failure of the request that was answered so, in the same words. */
export const ofOneRequest = (error: AiError.AiError): AiError.AiError => {
  const description = error.message
  const reason =
    error.reason._tag === "InvalidResponseError"
      ? new AiError.InvalidOutputError({ description })
      : new AiError.InvalidRequestError({ description })
  return failure(error, reason, description, { retryable: false })
}

/** The circuit breaker is open. */
export const leftAlone = (place: Place): AiError.AiError => {
  const words = sentence(place, "failed repeatedly and is left alone for a while", "wait, or use a fallback")
  // Not retryable: the pause is longer than a retry waits, and a fallback should come now.
  return failure(place, new AiError.UnknownError({ description: words }), words)
}

/** A base URL that is none. */
export const wrongUrl = (module: string, method: string): AiError.AiError => {
  const description = "the base URL is no http:// or https:// URL without a name and password in it"
  return unsupported(module, method, description)
}

/** A number that JSON has no form for: a server would read null and take its own default. */
export const noNumber = ({ module, method }: Pick<Place, "module" | "method">, name: string, n: number) => {
  const description = `${name} is ${n}, which cannot be sent; give a number`
  return failure({ module, method }, new AiError.InvalidRequestError({ parameter: name, description }), description)
}

/** A request that this provider cannot make, whatever the sample. */
export const unsupported = (module: string, method: string, description: string): AiError.AiError =>
  failure({ module, method }, new AiError.InvalidRequestError({ parameter: everyRequest, description }), description)

/** What is wrong with every request, and not with the one that was made. */
const everyRequest = "provider"

/**
 * A text of the model that is no answer to what it was asked. Asking again is no help: the seed is that of the sample,
 * and the answer may be in the cache.
 */
export const unusable = (module: string, method: string, description: string): AiError.AiError =>
  failure({ module, method }, new AiError.InvalidOutputError({ description }), description, { retryable: false })
