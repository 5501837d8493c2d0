/**
 * DataError: an input file that cannot be used at all, as one sentence that says what to do.
 */
import { Schema } from "effect"

/** A file that cannot be used. A single bad row is no `DataError` but a `Reject`. */
export class DataError extends Schema.TaggedError<DataError>()("DataError", {
  message: Schema.String,
  file: Schema.String
}) {}

/** A row that could not be used, with where it was and why; the rest of the file goes on. */
export const Reject = Schema.TaggedStruct("Reject", {
  file: Schema.String,
  line: Schema.Int,
  reason: Schema.String
})
export type Reject = typeof Reject.Type
