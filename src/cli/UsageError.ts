/**
 * UsageError: a command that cannot be carried out as it was given. Nothing was written.
 */
import { Schema } from "effect"

/** Wrong usage or input, as one sentence that says what to do. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", { message: Schema.String }) {}

/** The error of an input as a usage error: it was found before anything was written. */
export const fromInput = (error: { readonly message: string }): UsageError => new UsageError({ message: error.message })
