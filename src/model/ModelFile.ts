/**
 * ModelFile: the small files of a model folder, which are untrusted like the large ones.
 */
import { Effect, Predicate, Schema } from "effect"
import * as fs from "node:fs/promises"
import { reason } from "./Quoted.ts"

/** A folder that is not a model, or lacks a part of one. */
export class CheckpointError extends Schema.TaggedError<CheckpointError>()("CheckpointError", {
  /** The folder or the file in it. */
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** Whether there is something of that name. */
export const exists = (file: string): Effect.Effect<boolean> =>
  Effect.promise(() =>
    fs.access(file).then(
      () => true,
      () => false
    )
  )

/** The largest tokenizers have some 35 MB. */
const mostBytes = 200_000_000

/**
 * A text file, or undefined where there is none. Fails with a `CheckpointError` when it cannot be read, is no file, is
 * larger than any of a model's text files or is not UTF-8.
 */
export const readText = Effect.fnUntraced(function* (
  file: string
): Effect.fn.Return<string | undefined, CheckpointError> {
  const bytes = yield* Effect.tryPromise({
    try: async () => {
      try {
        // A pipe or a device would be read without end.
        const stat = await fs.stat(file)
        if (!stat.isFile()) throw new Error("it is no file")
        if (stat.size > mostBytes) throw new Error(`it has ${stat.size} bytes, more than ${mostBytes}`)
        return await fs.readFile(file)
      } catch (cause) {
        // Where tests run in contexts of their own, as Jest's do, what Node throws is no `Error` of this context.
        if (Predicate.hasProperty(cause, "code") && cause.code === "ENOENT") return undefined
        throw cause
      }
    },
    catch: (cause) => new CheckpointError({ file, reason: `cannot be read: ${reason(cause)}` })
  })
  if (bytes === undefined) return undefined
  return yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: () => new CheckpointError({ file, reason: "is not UTF-8; download or save it again" })
  })
})

/** A parsed JSON file, or undefined where there is none. */
export const readJson = Effect.fnUntraced(function* (file: string): Effect.fn.Return<unknown, CheckpointError> {
  const text = yield* readText(file)
  if (text === undefined) return undefined
  return yield* Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: () => new CheckpointError({ file, reason: "is not valid JSON; download or save it again" })
  })
})

/** What TypeScript's library does not know yet: the text of a number that is read, and a value that is written as text. */
const Verbatim = JSON as unknown as {
  readonly parse: (
    text: string,
    reviver: (key: string, value: unknown, context: { readonly source: string }) => unknown
  ) => unknown
  readonly rawJSON: (text: string) => unknown
}

/**
 * Parses JSON that is to be written again by `JSON.stringify`, with each number in its own spelling.
 *
 * To Python 20.0 is no 20: transformers refuses a config.json whose float became an integer. The numbers are no numbers
 * here, so only what is not read can be kept so.
 */
export const parseVerbatim = (text: string): unknown =>
  Verbatim.parse(text, (_, value, { source }) => (typeof value === "number" ? Verbatim.rawJSON(source) : value))
