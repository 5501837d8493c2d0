/**
 * Journal: an append-only JSONL file of what a stage made of each sample, for `Stage.checkpoint`.
 *
 * A line is one sample with everything made of it, written with its line end in one piece, so a killed process loses at
 * most the line that it was writing; such a torn last line is cut off when the file is opened again. Only the places of
 * the lines are held in memory.
 *
 * @internal
 */
import { closeSync, openSync, readSync } from "node:fs"
import { dirname } from "node:path"
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import * as Folder from "./Folder.ts"
import * as LineFile from "./LineFile.ts"

/** A checkpoint file that cannot be used: which file, which line where that is known, and what to do. */
export class JournalError extends Schema.TaggedError<JournalError>()("JournalError", {
  file: Schema.String,
  line: Schema.optional(Schema.Number),
  fact: Schema.String
}) {
  override get message(): string {
    return `${this.file}${this.line === undefined ? "" : `:${this.line}`}: ${this.fact}`
  }
}

export interface Journal<A> {
  /** What was made of a sample; undefined where nothing is written of it. */
  readonly get: (key: string) => Effect.Effect<ReadonlyArray<A> | undefined, JournalError>
  readonly append: (key: string, made: ReadonlyArray<A>) => Effect.Effect<void, JournalError>
}

/** Where a line is: its bytes without the line end. */
interface Place {
  readonly start: number
  readonly length: number
}

const Line = Schema.Struct({ key: Schema.String, made: Schema.Array(Schema.Unknown) })

/** Opens a journal, or begins one, for as long as the scope lasts. */
export const open = <A, I>(
  file: string,
  schema: Schema.Codec<A, I>
): Effect.Effect<Journal<A>, JournalError, Scope.Scope> =>
  Effect.gen(function* () {
    const decodeLine = Schema.decodeUnknownSync(Schema.fromJsonString(Line))
    // What JSON has no form for, such as a date, a map or NaN, would come back as something else.
    const json = Schema.toCodecJson(Schema.Array(schema))
    const decode = Schema.decodeUnknownSync(json)
    const encode = Schema.encodeSync(json)
    const wrong = (fact: string, line?: number) => new JournalError({ file, line, fact })
    const unusable = (cause: unknown) => wrong(`cannot be read and written (${(cause as Error).message})`)
    const other = (key: string, cause: unknown) => {
      const why = (cause as Error).message.replace(/\s+/g, " ")
      return wrong(`cannot hold what was made of ${key} (${why}); { ...record } is no record: make it with its class`)
    }
    const damaged = (place: Place) => {
      const line = places(fd).findIndex(({ start }) => start === place.start) + 1
      return wrong("is damaged; delete this line, and what it held is made again", line)
    }

    const fd = yield* Effect.acquireRelease(
      Effect.try({
        try: () => {
          Folder.makeUnsafe(dirname(file))
          return openSync(file, "a+")
        },
        catch: unusable
      }),
      (fd) => Effect.sync(() => closeSync(fd))
    )
    const read = ({ start, length }: Place): Buffer => {
      const bytes = LineFile.readUnsafe(fd, Buffer.alloc(length), start)
      if (bytes.length < length) throw new Error("it ends too early")
      return bytes
    }
    const parse = (place: Place) =>
      Effect.try({ try: () => decodeLine(read(place).toString("utf8")), catch: () => damaged(place) })

    const known = new Map<string, Place>()
    const found = yield* Effect.try({
      try: () => {
        LineFile.cutTornUnsafe(fd)
        return places(fd)
      },
      catch: unusable
    })
    for (const place of found) known.set((yield* parse(place)).key, place)

    return {
      get: Effect.fnUntraced(function* (key) {
        const place = known.get(key)
        if (place === undefined) return undefined
        const { made } = yield* parse(place)
        return yield* Effect.try({ try: () => decode(made), catch: () => damaged(place) })
      }),
      append: Effect.fnUntraced(function* (key, made) {
        const encoded = yield* Effect.try({ try: () => encode(made), catch: (cause) => other(key, cause) })
        const bytes = Buffer.from(`${JSON.stringify({ key, made: encoded })}\n`)
        yield* Effect.try({
          try: () => {
            // Another stream of the same stage may have the file open, too: its lines are between those of this one.
            const start = LineFile.appendUnsafe(fd, bytes)
            known.set(key, { start, length: bytes.length - 1 })
          },
          catch: unusable
        })
      })
    }
  })

/** The places of the complete lines. */
const places = (fd: number): ReadonlyArray<Place> => {
  const found: Array<Place> = []
  const piece = Buffer.alloc(1 << 16)
  let start = 0
  let at = 0
  for (let n = readSync(fd, piece, 0, piece.length, at); n > 0; n = readSync(fd, piece, 0, piece.length, at)) {
    for (let i = piece.indexOf(0x0a); i >= 0 && i < n; i = piece.indexOf(0x0a, i + 1)) {
      found.push({ start, length: at + i - start })
      start = at + i + 1
    }
    at += n
  }
  return found
}
