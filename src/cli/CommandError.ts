/**
 * CommandError: how a command over rows fails, apart from wrong usage.
 */
import { Schema } from "effect"

/** A command that failed while running and left nothing behind; exit code 1. */
export class CommandError extends Schema.TaggedError<CommandError>()("CommandError", { message: Schema.String }) {}

/** A command that is done but for some rows, which are in a file with their reasons; exit code 3, or 2 if it was all. */
export class RowsRejected extends Schema.TaggedError<RowsRejected>()("RowsRejected", {
  rejected: Schema.Int,
  rows: Schema.Int,
  /** The file of rejects; null where they were told on standard error. */
  rejects: Schema.NullOr(Schema.String),
  /** The file of rows. */
  source: Schema.String,
  /** The first of them, as `line 3: the reason`. */
  first: Schema.String
}) {
  override get message(): string {
    if (this.rejected === this.rows) {
      const more =
        this.rows === 1
          ? ""
          : `; the reasons of all ${this.rows} ${this.rejects === null ? "stand above" : `are in ${this.rejects}`}`
      // A reason may be a whole sentence.
      return `No row of ${this.source} can be used: ${this.first.replace(/\.$/, "")}${more}.`
    }
    const some = this.rejected === 1 ? "1 row was" : `${this.rejected} rows were`
    return `${some} rejected of ${this.rows}; ${this.rejects === null ? "the lines above say" : `${this.rejects} says`} why.`
  }
}

/** Any failure as one of the running command. */
export const fromFailure = (error: { readonly message: string }): CommandError =>
  new CommandError({ message: error.message })
