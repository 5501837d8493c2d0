/**
 * Log: a JSONL file of records with keys; what is in it is done and is never asked for again.
 *
 * A line is written with one system call when its record is ready, so a killed process loses at most the line that it
 * was writing; such a torn last line is cut off when the file is opened again. Records are ready in an order that no two
 * runs share: when all of them are there, {@link Log.settle} puts the lines in the order of what they were made from,
 * and the file of a run that was killed is that of one that was not.
 *
 * Nothing is forced to the disk for each record: a process that dies loses nothing by that, and a training run is worth
 * less than a slow one.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import { closeSync, existsSync, openSync, readFileSync } from "node:fs"
import { dirname } from "node:path"
import * as Folder from "../Folder.ts"
import * as LineFile from "../LineFile.ts"
import * as Atomic from "./Atomic.ts"
import { failed, type RunError } from "./RunError.ts"

/** The records of one kind in a run. */
export interface Log<A> {
  readonly file: string
  /** The record with this key, where it is done. */
  readonly get: (key: string) => A | undefined
  /** The same; a record that is only in one of the sources is taken over from there. */
  readonly find: (key: string) => Effect.Effect<A | undefined, RunError>
  /** All records, in the order of the file. */
  readonly values: () => ReadonlyArray<A>
  /** Writes a record; one whose key is there already is left as it is. */
  readonly append: (record: A) => Effect.Effect<void, RunError>
  /** Puts the lines in the order of the keys; those of other keys keep theirs and come last. */
  readonly settle: (keys: Iterable<string>) => Effect.Effect<void, RunError>
}

export interface Options<A, I> {
  readonly file: string
  readonly schema: Schema.Codec<A, I>
  /** What identifies a record's place: usually its parents and not its content, as it is known before the record is. */
  readonly key: (record: A) => string
  /** Whether a record is made only together with all others, as the metrics of a training are; not if not given. */
  readonly whole?: boolean | undefined
  /** Other files of such records, which hold here as well; the first that has a key gives the record. */
  readonly sources?: ReadonlyArray<string> | undefined
}

/** Opens the log of a run for as long as the scope lasts. */
export const open = Effect.fnUntraced(function* <A, I>(
  options: Options<A, I>
): Effect.fn.Return<Log<A>, RunError, Scope.Scope> {
  const { file, key, sources = [], whole = false } = options
  // What JSON has no form for, such as a date, a map or NaN, would come back as something else.
  const json = Schema.toCodecJson(options.schema)
  const decode = Schema.decodeUnknownSync(json)
  const encode = Schema.encodeSync(json)
  const remedy = whole ? "delete the file, and it is made again" : "delete that line, and its record is made again"
  const parse = (from: string, line: Buffer, i: number) =>
    Effect.try({
      try: () => decode(JSON.parse(line.toString())),
      catch: () => failed(`Line ${i + 1} of ${from} is damaged; ${remedy}.`)
    })

  let fd = yield* writing(file, () => {
    Folder.makeUnsafe(dirname(file))
    return openSync(file, "a+")
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => closeSync(fd)))
  yield* writing(file, () => LineFile.cutTornUnsafe(fd))
  const bytes = yield* reading(file, () => readFileSync(file))
  const records = new Map<string, A>()
  // The key of each line: settling moves lines, and does not write records anew.
  let order: Array<string> = []
  for (const [i, line] of LineFile.of(bytes).entries()) {
    const record = yield* parse(file, line, i)
    records.set(key(record), record)
    order.push(key(record))
  }

  const append = (record: A) =>
    writing(file, () => {
      const at = key(record)
      if (records.has(at)) return
      LineFile.appendUnsafe(fd, Buffer.from(`${JSON.stringify(encode(record))}\n`))
      records.set(at, record)
      order.push(at)
    })

  const elsewhere = yield* Effect.cached(
    Effect.gen(function* () {
      const found = new Map<string, A>()
      for (const source of sources) {
        const bytes = yield* reading(source, () => (existsSync(source) ? readFileSync(source) : Buffer.of()))
        for (const [i, line] of LineFile.of(bytes).entries()) {
          const record = yield* parse(source, line, i)
          if (!found.has(key(record))) found.set(key(record), record)
        }
      }
      return found
    })
  )

  return {
    file,
    get: (key) => records.get(key),
    find: Effect.fnUntraced(function* (key) {
      const here = records.get(key)
      if (here !== undefined || sources.length === 0) return here
      const there = (yield* elsewhere).get(key)
      if (there !== undefined) yield* append(there)
      return there
    }),
    values: () => [...records.values()],
    append,
    settle: (keys) =>
      writing(file, () => {
        const settled = [...new Set([...keys, ...order])].filter((key) => records.has(key))
        if (settled.length === order.length && settled.every((key, i) => key === order[i])) return
        const lines = LineFile.of(readFileSync(file))
        // Of two lines with the same key the later one counts.
        const at = new Map(order.map((key, i) => [key, i]))
        Atomic.writeUnsafe(file, Buffer.concat(settled.map((key) => lines[at.get(key)!]!)))
        closeSync(fd)
        fd = openSync(file, "a+")
        order = settled
        const sorted = settled.map((key) => [key, records.get(key)!] as const)
        records.clear()
        for (const [key, record] of sorted) records.set(key, record)
      })
  }
})

const attempt =
  (what: "read" | "written") =>
  <A>(file: string, f: () => A): Effect.Effect<A, RunError> =>
    Effect.try({ try: f, catch: (cause) => failed(`${file} cannot be ${what}: ${Atomic.reasonOf(cause)}.`) })

const reading = attempt("read")
const writing = attempt("written")
