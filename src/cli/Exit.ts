/**
 * Exit: how the program ends. 0 done, 1 failed while running, 2 wrong usage or input with nothing written,
 * 3 done but for some rows, which a file of rejects names (2 if none is left), 130 interrupted.
 */
import { Cause, Exit } from "effect"
import { CliError } from "effect/cli"
import { RunError } from "../recipes/RunError.ts"
import { CommandError, RowsRejected } from "./CommandError.ts"
import { UsageError } from "./UsageError.ts"

/** The exit code of an interrupted program. */
export const interruptedCode = 130

/** What an interrupted program says: whether the same command goes on, or begins again as what it did is not kept. */
export const interrupted = (again: string, resumes: boolean = true): string =>
  resumes ? `Interrupted; to go on: ${again}` : `Interrupted; nothing is kept to go on from. To begin again: ${again}`

/** The exit code of an outcome. */
export const code = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return interruptedCode
  const error = Cause.squash(exit.cause)
  if (error instanceof UsageError) return 2
  if (error instanceof RowsRejected) return error.rejected === error.rows ? 2 : 3
  if (error instanceof RunError) return error.reason === "wrong-usage" ? 2 : 1
  if (CliError.isCliError(error)) return error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : 2
  return 1
}

/**
 * What is said of an outcome on standard error; undefined when everything has been said. An expected error is its
 * sentence; the stack of an unexpected one is kept, because it is a bug and somebody has to find it.
 */
export const words = (
  exit: Exit.Exit<unknown, unknown>,
  again: string,
  resumes: boolean = true
): string | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  if (Cause.hasInterruptsOnly(exit.cause)) return interrupted(again, resumes)
  const error = Cause.squash(exit.cause)
  if (CliError.isCliError(error)) return undefined
  const expected = typeof error === "object" && error !== null && "_tag" in error && error instanceof Error
  const said = expected ? error.message : `This is a bug in Charter.\n${Cause.pretty(exit.cause)}`
  return resumes && code(exit) === 1 && !(error instanceof CommandError)
    ? `${said}\nWhat was finished is kept; to go on: ${again}`
    : said
}
