/**
 * RunError: what a run folder can refuse, as one sentence that says what to do.
 */
import { Effect, Schema } from "effect"

/** A run folder that cannot be used. `wrong-usage` means that nothing was written. */
export class RunError extends Schema.TaggedError<RunError>()("RunError", {
  message: Schema.String,
  reason: Schema.Literals(["wrong-usage", "failed"])
}) {}

/** The folder is not to be used in this way, and nothing was written. */
export const refuse = (message: string): RunError => new RunError({ message, reason: "wrong-usage" })

/** Something went wrong with the folder in the middle of a run. */
export const failed = (message: string): RunError => new RunError({ message, reason: "failed" })

/** For what cannot fail by its type: the folder cannot be written any more, and the run ends with the reason. */
export const orDie = <A, R>(self: Effect.Effect<A, RunError, R>): Effect.Effect<A, never, R> => Effect.orDie(self)
