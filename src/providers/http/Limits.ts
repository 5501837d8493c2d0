/**
 * Limits: requests and tokens a minute, kept by waiting.
 */
import { Effect } from "effect"
import { RateLimiter } from "effect/persistence"
import { atLeastZero } from "../../Positive.ts"
import * as Tokens from "./Tokens.ts"

export interface Options {
  readonly requestsPerMinute?: number | undefined
  /** Tokens read and written; a call counts as what it may take at most. */
  readonly tokensPerMinute?: number | undefined
  /** Requests that are under way at the same time. */
  readonly concurrency?: number | undefined
}

/** Waits until a call may be made. Calls with the same `key` share the limits. */
export type Wait = (key: string, atMost: Tokens.Tokens) => Effect.Effect<void>

/** The limits, in this process. */
export const make = (options: Options): Effect.Effect<Wait> =>
  Effect.gen(function* (): Effect.fn.Return<Wait, never, RateLimiter.RateLimiterStore> {
    for (const name of ["requestsPerMinute", "tokensPerMinute"] as const) {
      atLeastZero(`limits.${name}`, options[name] ?? 0)
    }
    if (options.requestsPerMinute === undefined && options.tokensPerMinute === undefined) return () => Effect.void
    const limiter = yield* RateLimiter.make
    const take = (key: string, limit: number | undefined, tokens: number) =>
      limit === undefined
        ? Effect.void
        : // A call larger than a minute's tokens still has to be made: it takes all of them.
          RateLimiter.sleep(limiter, {
            key,
            limit,
            tokens: Math.min(tokens, limit),
            window: "1 minute",
            algorithm: "token-bucket"
          }).pipe(Effect.orDie)
    return (key, atMost) =>
      Effect.andThen(
        take(`${key}/requests`, options.requestsPerMinute, 1),
        take(`${key}/tokens`, options.tokensPerMinute, Tokens.total(atMost))
      )
  }).pipe(Effect.provide(RateLimiter.layerStoreMemory))
