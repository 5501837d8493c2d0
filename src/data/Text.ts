/**
 * Text: a line a prompt.
 */
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import * as Bytes from "./Bytes.ts"
import type { DataError } from "./DataError.ts"
import * as Lines from "./Lines.ts"
import * as Rows from "./Rows.ts"

/** The lines of a file that are not blank, as rows with a `prompt`. */
export const read = (file: string): Rows.Reader<{ readonly prompt: string }> =>
  Lines.read(file).pipe(Stream.map(Result.map(({ line, text }) => ({ line, row: { prompt: text } }))))

const lineOf = (text: string): string => {
  if (/[\r\n]/.test(text)) throw new Error("it has more than one line; JSONL can hold it")
  if (text.trim() === "") throw new Error("it is blank")
  if (text.includes("\0")) throw new Error("it has a NUL byte; JSONL can hold it")
  if (!text.isWellFormed()) throw new Error("it has half a character; JSONL can hold it")
  return `${text}\n`
}

/** Writes texts to a file, one a line. */
export const write =
  (file: string) =>
  <E, R>(texts: Stream.Stream<string, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> =>
    texts.pipe(Rows.encode(file, lineOf), Bytes.write(file))
