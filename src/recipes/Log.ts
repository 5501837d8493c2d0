/**
 * Log: an append-only JSONL file of records with keys; what is in it is done and is never asked for again.
 *
 * A line is written with one system call when its record is ready, so a killed process loses at most the line that it
 * was writing; such a torn last line is cut off when the file is opened again. Nothing is forced to the disk for each
 * record: a process that dies loses nothing by that, and a training run is worth less than a slow one.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs"
import { dirname } from "node:path"
import { reasonOf } from "./Atomic.ts"
import { failed, type RunError } from "./RunError.ts"

/** The records of one kind in a run. */
export interface Log<A> {
  readonly file: string
  /** The record with this key, where it is done. */
  readonly get: (key: string) => A | undefined
  /** All records, in the order in which they were written. */
  readonly values: () => ReadonlyArray<A>
  /** Writes a record; one whose key is there already is left as it is. */
  readonly append: (record: A) => Effect.Effect<void, RunError>
}

/** The complete lines of a file, and how many of its bytes they take. */
const completeLines = (bytes: Buffer): { readonly lines: ReadonlyArray<string>; readonly length: number } => {
  const length = bytes.lastIndexOf(0x0a) + 1
  return { lines: length === 0 ? [] : bytes.toString("utf8", 0, length - 1).split("\n"), length }
}

/**
 * Opens the log of a run for as long as the scope lasts.
 *
 * @param options.key what identifies a record's place: usually its parents and not its content, because it has to be
 *   known before the record is made.
 */
export const open = <A, I>(options: {
  readonly file: string
  readonly schema: Schema.Codec<A, I>
  readonly key: (record: A) => string
}): Effect.Effect<Log<A>, RunError, Scope.Scope> =>
  Effect.gen(function* () {
    const { file, key } = options
    const decode = Schema.decodeUnknownSync(options.schema)
    const encode = Schema.encodeSync(options.schema)
    const fd = yield* Effect.acquireRelease(
      attempt(file, () => {
        mkdirSync(dirname(file), { recursive: true })
        return openSync(file, "a+")
      }),
      (fd) => Effect.sync(() => closeSync(fd))
    )
    const { lines, length } = yield* attempt(file, () => {
      const complete = completeLines(readFileSync(file))
      if (fstatSync(fd).size > complete.length) ftruncateSync(fd, complete.length)
      return complete
    })
    let size = length
    const records = new Map<string, A>()
    for (const [i, line] of lines.entries()) {
      const record = yield* Effect.try({
        try: () => decode(JSON.parse(line)),
        catch: () => failed(`Line ${i + 1} of ${file} is damaged; delete that line, and its record is made again.`)
      })
      records.set(key(record), record)
    }
    return {
      file,
      get: (key) => records.get(key),
      values: () => [...records.values()],
      append: (record) =>
        attempt(file, () => {
          if (records.has(key(record))) return
          const line = Buffer.from(`${JSON.stringify(encode(record))}\n`)
          try {
            let done = 0
            while (done < line.length) done += writeSync(fd, line, done)
          } catch (error) {
            // A full disk must not leave half a line in front of the next one.
            ftruncateSync(fd, size)
            throw error
          }
          size += line.length
          records.set(key(record), record)
        })
    }
  })

const attempt = <A>(file: string, f: () => A): Effect.Effect<A, RunError> =>
  Effect.try({ try: f, catch: (cause) => failed(`${file} cannot be written: ${reasonOf(cause)}.`) })
