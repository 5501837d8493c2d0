/**
 * Breaker: a provider that is down is left alone for a while, so that a fallback takes over at once.
 */
import { Duration, Effect, Exit, Cause, Option } from "effect"
import type { Scope } from "effect"
import type { AiError } from "effect/ai"
import { CircuitBreaker } from "effect/persistence"
import * as Failure from "./Failure.ts"
import type { Place } from "./Failure.ts"

export interface Options {
  /** So many failures one after the other open the circuit. */
  readonly failures: number
  /** How long no request is made then; half a minute if not given. */
  readonly pause?: Duration.Input | undefined
}

/** Makes a call, or fails at once while the circuit is open. */
export type Protect = <A>(place: Place, self: Effect.Effect<A, AiError.AiError>) => Effect.Effect<A, AiError.AiError>

/** Only failures of the provider count: a wrong request says nothing about the next one. */
const classify = <A>(exit: Exit.Exit<A, AiError.AiError>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  return error?.isRetryable === true && error.reason._tag !== "RateLimitError"
    ? CircuitBreaker.failure()
    : CircuitBreaker.ignored
}

/** A breaker of its own for one layer. */
export const make = (options: Options | undefined): Effect.Effect<Protect, never, Scope.Scope> =>
  Effect.gen(function* () {
    if (options === undefined) return (_, self) => self
    const breaker = yield* CircuitBreaker.make({
      tripPolicy: CircuitBreaker.consecutive(options.failures),
      openDuration: options.pause ?? "30 seconds"
    })
    return <A>(place: Place, self: Effect.Effect<A, AiError.AiError>) =>
      breaker
        .execute(self, { key: place.url, classify })
        .pipe(Effect.catchTag("CircuitBreakerError", () => Effect.fail(Failure.leftAlone(place))))
  }).pipe(Effect.provide(CircuitBreaker.layerStoreMemory()))
