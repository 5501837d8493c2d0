/**
 * Endpoint: JSON requests to one provider, with everything that has to happen around them.
 *
 * From the outside in: equal requests, cache, budget, what an odd answer means, retry, circuit breaker, limits, time-out.
 * A repeated request goes through the limits again and not through the budget, since a refused one costs nothing.
 *
 * {@link Usage}, {@link Budget} and {@link AnswerCache} are used where they are provided, around the call or to the
 * layer.
 *
 * @internal
 */
import { Clock, Context, Duration, Effect, Option, Redacted, Schema, Semaphore } from "effect"
import type { AiError } from "effect/ai"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import { positive } from "../../Positive.ts"
import * as AnswerCache from "./AnswerCache.ts"
import * as Breaker from "./Breaker.ts"
import * as Budget from "./Budget.ts"
import * as Failure from "./Failure.ts"
import * as Limits from "./Limits.ts"
import * as Readable from "./Readable.ts"
import * as Retry from "./Retry.ts"
import * as Tokens from "./Tokens.ts"
import * as UnderWay from "./UnderWay.ts"
import * as Usage from "./Usage.ts"

/** How a provider is called. */
export interface Options {
  /** The longest time for one attempt; two minutes if not given. */
  readonly timeout?: Duration.Input | undefined
  readonly retry?: Retry.Options | undefined
  readonly limits?: Limits.Options | undefined
  readonly breaker?: Breaker.Options | undefined
}

export interface Server {
  readonly module: string
  /** With the version, such as `http://localhost:8000/v1`. */
  readonly baseUrl: string
  readonly model: string
  readonly apiKey: Redacted.Redacted | undefined
  readonly headers: (key: string) => Record<string, string>
  /** Why the server ended an answer in the middle; undefined for one that is whole. */
  readonly brokenOff?: (answer: unknown) => string | undefined
}

export interface Call<A> {
  readonly method: string
  readonly path: string
  readonly body: Record<string, unknown>
  readonly schema: Schema.ConstraintCodec<A, unknown>
  readonly tokens: (answer: A) => Tokens.Tokens
  readonly atMost: Tokens.Tokens
  /** Which sample it is; undefined where the same request has the same answer. */
  readonly sample: string | undefined
  readonly principle?: string | undefined
}

const parse = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Unknown))

/** The base URL as text to go on from, with its query, which may be secret, apart; undefined if it cannot be used. */
const baseOf = (text: string): { readonly url: string; readonly query: string } | undefined => {
  if (!URL.canParse(text)) return undefined
  const { protocol, username, password, origin, pathname, search } = new URL(text)
  if (!/^https?:$/.test(protocol) || username !== "" || password !== "") return undefined
  return { url: `${origin}${pathname.replace(/\/+$/, "")}`, query: search }
}

/** Calls one provider. */
export type Post = <A>(call: Call<A>) => Effect.Effect<A, AiError.AiError>

export const make = Effect.fnUntraced(function* (server: Server, options: Options) {
  const client = yield* HttpClient.HttpClient
  const around = yield* Effect.context<never>()
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "2 minutes")
  const wait = yield* Limits.make(options.limits ?? {})
  const { concurrency = Infinity } = options.limits ?? {}
  const places =
    concurrency === Infinity ? undefined : yield* Semaphore.make(positive("limits.concurrency", concurrency))
  const protect = yield* Breaker.make(options.breaker)
  const readable = yield* Readable.make
  const alone = UnderWay.make()
  const retry = Retry.retry(options.retry)
  const { model, module, apiKey } = server
  const base = baseOf(server.baseUrl)

  /** A service around the call, or else around the layer. */
  const optional = <I, S>(key: Context.Key<I, S>) =>
    Effect.map(Effect.context<never>(), (now) =>
      Option.getOrUndefined(Option.orElse(Context.getOption(now, key), () => Context.getOption(around, key)))
    )

  const send = Effect.fnUntraced(function* (place: Failure.Place, query: string, body: Record<string, unknown>) {
    const request = HttpClientRequest.post(`${place.url}${query}`).pipe(
      HttpClientRequest.setHeaders(server.headers(apiKey === undefined ? "" : Redacted.value(apiKey).trim())),
      HttpClientRequest.bodyJsonUnsafe(body)
    )
    const init = yield* optional(FetchHttpClient.RequestInit)
    const answer = yield* client.execute(request).pipe(
      // The key is for this address: `fetch` would take it to wherever a redirect leads, and often without the body.
      Effect.provideService(FetchHttpClient.RequestInit, { ...init, redirect: "manual" }),
      // The client's own span would keep the request with the key in its headers, and a trace id is not for others.
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true),
      Effect.provideService(HttpClient.TracerPropagationEnabled, false),
      Effect.mapError((error) => Failure.unanswered(place, error))
    )
    const read = yield* Effect.mapError(answer.text, () => Failure.torn(place))
    const failed = Effect.fnUntraced(function* (status: number) {
      const now = yield* Clock.currentTimeMillis
      return yield* Failure.fromStatus(place, status, answer.headers, Failure.scrub(read, apiKey, true), now)
    })
    if (answer.status < 200 || answer.status > 299) return yield* failed(answer.status)
    const text = Failure.scrub(read, apiKey, false)
    const json = yield* Effect.mapError(parse(text), () => Failure.notJson(place, Failure.scrub(text, apiKey, true)))
    const status = Failure.statusWithin(json)
    if (status !== undefined) return yield* failed(status)
    const why = server.brokenOff?.(json)
    if (why !== undefined) return yield* Failure.brokenOff(place, Failure.scrub(why, apiKey, true))
    return json
  })

  const attempt = (place: Failure.Place, query: string, { body, atMost }: Pick<Call<unknown>, "body" | "atMost">) => {
    const one = Effect.andThen(
      wait(new URL(place.url).origin, atMost),
      Effect.timeoutOrElse(send(place, query, body), {
        duration: timeout,
        orElse: () => Effect.fail(Failure.timedOut(place, timeout))
      }).pipe(Effect.withSpan(`${module}.request`, { kind: "client", attributes: { url: place.url, model } }))
    )
    return places === undefined ? one : places.withPermit(one)
  }

  /** An answer that was asked for now. */
  const ask = Effect.fnUntraced(function* <A>(
    place: Failure.Place,
    query: string,
    call: Call<A>,
    label: Usage.Label,
    keep: (answer: unknown, tokens: Tokens.Tokens) => Effect.Effect<void>
  ) {
    const budget = yield* optional(Budget.Budget)
    const usage = yield* optional(Usage.Usage)
    const reservation =
      budget === undefined
        ? undefined
        : yield* Effect.mapError(budget.reserve(call.atMost), (error) => Budget.toAiError(module, call.method, error))
    let taken = Tokens.zero
    const asked = protect(place, attempt(place, query, call)).pipe(
      retry,
      Effect.flatMap((json) =>
        Schema.decodeUnknownEffect(call.schema)(json).pipe(
          Effect.mapError((error) => {
            const hidden = (text: string) => Failure.scrub(text, apiKey, true)
            return Failure.unexpected(place, hidden(JSON.stringify(json)), hidden(error.message))
          }),
          Effect.map((answer) => ({ json, answer }))
        )
      ),
      readable.tell,
      Effect.tap(({ json, answer }) =>
        Effect.suspend(() => {
          taken = call.tokens(answer)
          return Effect.andThen(
            usage?.record(label, { _tag: "Answered", tokens: taken }) ?? Effect.void,
            keep(json, taken)
          )
        })
      ),
      Effect.map(({ answer }) => answer),
      Effect.onError(() => usage?.record(label, { _tag: "Failed" }) ?? Effect.void),
      Effect.ensuring(Effect.suspend(() => reservation?.settle(taken) ?? Effect.void))
    )
    return yield* asked
  })

  const post: Post = Effect.fnUntraced(function* <A>(call: Call<A>): Effect.fn.Return<A, AiError.AiError> {
    if (base === undefined) return yield* Failure.wrongUrl(module, call.method)
    const place = { module, method: call.method, url: `${base.url}${call.path}`, model }
    for (const [name, value] of Object.entries(call.body)) {
      if (typeof value === "number" && !Number.isFinite(value)) return yield* Failure.noNumber(place, name, value)
    }
    const label = yield* Usage.labelOf(model, call.principle)
    const cache = yield* optional(AnswerCache.AnswerCache)
    if (cache === undefined) return yield* ask(place, base.query, call, label, () => Effect.void)

    const key = AnswerCache.keyOf(place.url, call.body, call.sample)
    return yield* Effect.gen(function* () {
      const kept = Schema.decodeUnknownOption(call.schema)(yield* cache.get(key))
      if (Option.isNone(kept)) {
        return yield* ask(place, base.query, call, label, (answer, tokens) => cache.set(key, answer, { label, tokens }))
      }
      yield* readable.known
      const usage = yield* optional(Usage.Usage)
      if (usage !== undefined) yield* usage.record(label, { _tag: "Cached" })
      return kept.value
    }).pipe(alone(key))
  })
  return post
})
