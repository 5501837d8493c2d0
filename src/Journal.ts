/**
 * Journal: an append-only JSONL file of what a stage made of each sample, for `Stage.checkpoint`.
 *
 * A line is one sample with everything made of it, written with its line end in one piece, so a killed process loses at
 * most the line that it was writing; such a torn last line is cut off when the file is opened again. Only the places of
 * the lines are held in memory.
 *
 * @internal
 */
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from "node:fs"
import { dirname } from "node:path"
import { Effect, Schema } from "effect"
import type { Scope } from "effect"

/** A checkpoint file that cannot be used: which file, which line where that is known, and what to do. */
export class CheckpointError extends Schema.TaggedError<CheckpointError>()("CheckpointError", {
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
  readonly get: (key: string) => Effect.Effect<ReadonlyArray<A> | undefined, CheckpointError>
  readonly append: (key: string, made: ReadonlyArray<A>) => Effect.Effect<void, CheckpointError>
}

/** Where a line is: its number from 1, and its bytes without the line end. */
interface Place {
  readonly line: number
  readonly start: number
  readonly length: number
}

const Line = Schema.Struct({ key: Schema.String, made: Schema.Array(Schema.Unknown) })

/** Opens a journal, or begins one, for as long as the scope lasts. */
export const open = <A, I>(
  file: string,
  schema: Schema.Codec<A, I>
): Effect.Effect<Journal<A>, CheckpointError, Scope.Scope> =>
  Effect.gen(function* () {
    const decodeLine = Schema.decodeUnknownSync(Schema.fromJsonString(Line))
    const decode = Schema.decodeUnknownSync(Schema.Array(schema))
    const encode = Schema.encodeSync(Schema.Array(schema))
    const wrong = (fact: string, line?: number) => new CheckpointError({ file, line, fact })
    const unusable = (cause: unknown) => wrong(`cannot be read and written (${(cause as Error).message})`)
    const damaged = (line: number) => wrong("is damaged; delete this line, and what it held is made again", line)

    const fd = yield* Effect.acquireRelease(
      Effect.try({
        try: () => {
          mkdirSync(dirname(file), { recursive: true })
          return openSync(file, "a+")
        },
        catch: unusable
      }),
      (fd) => Effect.sync(() => closeSync(fd))
    )
    const read = ({ start, length }: Pick<Place, "start" | "length">): Buffer => {
      const bytes = Buffer.alloc(length)
      let done = 0
      while (done < length) {
        const n = readSync(fd, bytes, done, length - done, start + done)
        if (n === 0) throw new Error("it ends too early")
        done += n
      }
      return bytes
    }
    const parse = (place: Place) =>
      Effect.try({ try: () => decodeLine(read(place).toString("utf8")), catch: () => damaged(place.line) })

    const places = new Map<string, Place>()
    const found = yield* Effect.try({ try: () => complete(fd), catch: unusable })
    for (const place of found) places.set((yield* parse(place)).key, place)
    let lines = found.length
    let end = fstatSync(fd).size

    return {
      get: Effect.fnUntraced(function* (key) {
        const place = places.get(key)
        if (place === undefined) return undefined
        const { made } = yield* parse(place)
        return yield* Effect.try({ try: () => decode(made), catch: () => damaged(place.line) })
      }),
      append: (key, made) =>
        Effect.try({
          try: () => {
            const bytes = Buffer.from(`${JSON.stringify({ key, made: encode(made) })}\n`)
            try {
              let done = 0
              while (done < bytes.length) done += writeSync(fd, bytes, done)
            } catch (error) {
              // A full disk must not leave half a line in front of the next one.
              ftruncateSync(fd, end)
              throw error
            }
            places.set(key, { line: ++lines, start: end, length: bytes.length - 1 })
            end += bytes.length
          },
          catch: unusable
        })
    }
  })

/** The places of the complete lines; what follows the last line end is cut off. */
const complete = (fd: number): ReadonlyArray<Place> => {
  const places: Array<Place> = []
  const piece = Buffer.alloc(1 << 16)
  let start = 0
  let at = 0
  for (let n = readSync(fd, piece, 0, piece.length, at); n > 0; n = readSync(fd, piece, 0, piece.length, at)) {
    for (let i = piece.indexOf(0x0a); i >= 0 && i < n; i = piece.indexOf(0x0a, i + 1)) {
      places.push({ line: places.length + 1, start, length: at + i - start })
      start = at + i + 1
    }
    at += n
  }
  if (start < at) ftruncateSync(fd, start)
  return places
}
