/**
 * Recording: answers of a real model, kept to be replayed in tests.
 *
 * A call is found again by everything that determines its answer: what is asked, the sample's id, the seed and how it is
 * sampled. A call that is not in the recording is a failure of the replay and never another answer.
 *
 * @example
 * const recording = Recording.make()
 * yield* program.pipe(Effect.provide(MockLanguageModel.record(recording).pipe(Layer.provide(realModel))))
 * yield* Recording.save(recording, "test/answers.jsonl")
 *
 * // In the test:
 * const model = MockLanguageModel.replay(yield* Recording.load("test/answers.jsonl"))
 */
import { Effect, FileSystem, Schema } from "effect"
import type { PlatformError } from "effect"
import * as Json from "../Json.ts"
import * as Sample from "../Sample.ts"

/** A file that is no recording: which line, and what to do. */
export class RecordingError extends Schema.TaggedError<RecordingError>()("RecordingError", {
  file: Schema.String,
  line: Schema.Number
}) {
  override get message(): string {
    return `${this.file}:${this.line}: is no recorded call; record the file anew`
  }
}

/** One recorded call. */
const Entry = Schema.Struct({
  key: Schema.String,
  /** Which sample the call was for: not needed to find it again, but to read the file. */
  id: Schema.String,
  answer: Schema.Json
})
type Entry = typeof Entry.Type

export interface Recording {
  readonly entries: ReadonlyMap<string, Entry>
  readonly get: (key: string) => Schema.Json | undefined
  readonly set: (key: string, id: string, answer: Schema.Json) => void
}

/** A recording with the entries given, or an empty one. */
export const make = (entries: Iterable<Entry> = []): Recording => {
  const byKey = new Map(Array.from(entries, (entry) => [entry.key, entry]))
  return {
    entries: byKey,
    get: (key) => byKey.get(key)?.answer,
    set: (key, id, answer) => void byKey.set(key, { key, id, answer })
  }
}

/** The key of a call of one kind. */
export const keyOf = (kind: string, call: object): string => Sample.id(kind, Json.text(call))

const Line = Schema.fromJsonString(Entry)

/** Reads a recording from a JSONL file. */
export const load = (
  file: string
): Effect.Effect<Recording, PlatformError.PlatformError | RecordingError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const text = (yield* fs.readFileString(file)).trimEnd()
    const lines = text === "" ? [] : text.split("\n")
    const decode = (line: string, i: number) =>
      Schema.decodeEffect(Line)(line).pipe(Effect.mapError(() => new RecordingError({ file, line: i + 1 })))
    return make(yield* Effect.forEach(lines, decode))
  })

/**
 * Writes a recording to a JSONL file, beside it and renamed. It is sorted by what was asked for, so that the same
 * recording is the same file.
 */
export const save = (
  { entries }: Recording,
  file: string
): Effect.Effect<void, PlatformError.PlatformError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const sorted = [...entries.values()].sort((a, b) => (`${a.id} ${a.key}` < `${b.id} ${b.key}` ? -1 : 1))
    yield* fs.writeFileString(`${file}.part`, sorted.map((entry) => `${JSON.stringify(entry)}\n`).join(""))
    yield* fs.rename(`${file}.part`, file)
  })
