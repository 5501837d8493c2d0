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
import * as Sample from "../Sample.ts"

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
export const keyOf = (kind: string, call: object): string => Sample.id(kind, JSON.stringify(call))

const Line = Schema.fromJsonString(Entry)

/** Reads a recording from a JSONL file. */
export const load = (
  file: string
): Effect.Effect<Recording, PlatformError.PlatformError | Schema.SchemaError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const lines = (yield* fs.readFileString(file)).split("\n").filter((line) => line !== "")
    return make(yield* Effect.forEach(lines, (line) => Schema.decodeEffect(Line)(line)))
  })

/** Writes a recording to a JSONL file, sorted by what was asked for: the same recording is the same file. */
export const save = (
  { entries }: Recording,
  file: string
): Effect.Effect<void, PlatformError.PlatformError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const sorted = [...entries.values()].sort((a, b) => (`${a.id} ${a.key}` < `${b.id} ${b.key}` ? -1 : 1))
    yield* fs.writeFileString(file, sorted.map((entry) => `${JSON.stringify(entry)}\n`).join(""))
  })
