/**
 * Lines: the non-blank lines of a text file, with their numbers, as a stream.
 */
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import type { Reject } from "./DataError.ts"
import * as Records from "./Records.ts"

/** A line of a file; the first has number 1, and blank lines count but are not given out. */
export interface Line {
  readonly line: number
  readonly text: string
}

/** Fails with a typed sentence when there is no such file or nothing in it. */
export const inspect = Effect.fnUntraced(function* (file: string) {
  const head = yield* Bytes.head(file)
  if (head.length === 0) {
    return yield* new DataError({ file, message: `${file} is empty; it needs at least one prompt.` })
  }
})

const withoutEnd = (text: string): string => {
  const end = text.endsWith("\n") ? text.length - 1 : text.length
  return text.slice(0, text[end - 1] === "\r" ? end - 1 : end)
}

/** The lines of a file that are not blank, without what ends them (`\n` or `\r\n`). */
export const read = (file: string): Stream.Stream<Result.Result<Line, Reject>, DataError, FileSystem.FileSystem> =>
  Records.read(file, Records.lines).pipe(
    Stream.map(Result.map(({ line, text }): Line => ({ line, text: withoutEnd(text) }))),
    Stream.filter((result) => Result.isFailure(result) || result.success.text.trim() !== "")
  )
