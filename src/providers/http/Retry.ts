/**
 * Retry: asking again after a failure that may pass, not for ever.
 */
import { Duration, Effect, Schedule } from "effect"
import type { AiError } from "effect/ai"

export interface Options {
  /** How often a request is repeated; 5 if not given, 0 never. */
  readonly times?: number | undefined
  /** The first pause, which doubles each time; half a second if not given. */
  readonly first?: Duration.Input | undefined
  /** No pause is longer: where a server asks for more (`Retry-After`), the call fails. A minute if not given. */
  readonly longest?: Duration.Input | undefined
}

/**
 * Repeats what may succeed later, after `Retry-After` where the server gives it. The jittered pause comes on top, so
 * that calls which were refused together do not come back together.
 */
export const retry = (
  options: Options = {}
): (<A, R>(self: Effect.Effect<A, AiError.AiError, R>) => Effect.Effect<A, AiError.AiError, R>) => {
  const longest = Duration.fromInputUnsafe(options.longest ?? "1 minute")
  const asked = (error: AiError.AiError) => error.retryAfter ?? Duration.zero
  const schedule = Schedule.exponential(options.first ?? "500 millis").pipe(
    Schedule.jittered,
    Schedule.setInputType<AiError.AiError>(),
    Schedule.modifyDelay(({ duration, input }) =>
      Effect.succeed(Duration.sum(Duration.min(duration, longest), asked(input)))
    ),
    Schedule.while(({ input }) => input.isRetryable && Duration.isLessThanOrEqualTo(asked(input), longest)),
    Schedule.upTo({ times: options.times ?? 5 })
  )
  return (self) => (options.times === 0 ? self : Effect.retry(self, schedule))
}
