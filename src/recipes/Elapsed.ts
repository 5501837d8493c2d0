/**
 * Elapsed: how long something takes, whatever becomes of the system's clock meanwhile: it may be set, or put right.
 */
import { Clock, Effect } from "effect"

/** The seconds since now, each time it is asked. */
export const begin: Effect.Effect<Effect.Effect<number>> = Effect.map(Clock.monotonicTimeNanos, (started) =>
  Effect.map(Clock.monotonicTimeNanos, (now) => Number(now - started) / 1e9)
)
