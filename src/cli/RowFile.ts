/**
 * RowFile: a file of rows answered row by row, in order, in constant memory.
 *
 * The answers are JSONL, in a file that appears when it is whole or on standard output. A bad row goes to a file of
 * rejects with its line and its reason, and the rest is done; the command then ends with `RowsRejected`.
 */
import { Console, Data, Effect, Option, Result, Stdio, Stream } from "effect"
import type { FileSystem } from "effect"
import { PlatformError } from "effect/PlatformError"
import * as Bytes from "../data/Bytes.ts"
import { DataError, type Reject } from "../data/DataError.ts"
import * as Files from "../data/Files.ts"
import * as Jsonl from "../data/Jsonl.ts"
import type { ModelRow } from "../data/ModelRows.ts"
import * as Rows from "../data/Rows.ts"
import { Progress } from "../recipes/Progress.ts"
import { CommandError, RowsRejected } from "./CommandError.ts"
import * as Rejects from "./Rejects.ts"
import * as RowPlaces from "./RowPlaces.ts"

/** What was done. */
export interface Outcome {
  /** Rows of the file, bad ones too. */
  readonly rows: number
  readonly rejected: number
  /** Where the rejects are; undefined where they were told on standard error. */
  readonly rejects: string | undefined
  /** The first of them, as `line 3: the reason`. */
  readonly first: string | undefined
}

/** Says what was done, where no answers go, and fails when some rows were bad. */
export const conclude = Effect.fnUntraced(function* (places: RowPlaces.Places, outcome: Outcome, said: string) {
  const inFile = Option.isSome(places.out) && !Bytes.isStandardOutput(places.out.value)
  yield* inFile ? Console.log(said) : Console.error(said)
  const { first, rejected, rejects, rows } = outcome
  if (first !== undefined)
    return yield* new RowsRejected({ rejected, rows, rejects: rejects ?? null, source: places.in, first })
})

/** The rows of a file. */
export const read = (
  file: string,
  decode: (entry: Rows.Entry) => Result.Result<ModelRow, string>
): Stream.Stream<Result.Result<ModelRow, Reject>, DataError, FileSystem.FileSystem> =>
  Files.read(file, RowPlaces.format(file)).pipe(
    Stream.map((result) =>
      Result.flatMap(result, (entry) =>
        Result.mapError(decode(entry), (reason): Reject => ({ _tag: "Reject", file, line: entry.line, reason }))
      )
    )
  )

/**
 * Answers the rows, `concurrency` at a time; an answer of several lines is a list, and a failed `Result` is the reason
 * why a row cannot be answered. Nothing is left behind by a failure or an interruption.
 */
export const answer = Effect.fnUntraced(function* <E, R>(
  phase: string,
  places: RowPlaces.Places,
  rows: Stream.Stream<Result.Result<ModelRow, Reject>, DataError, FileSystem.FileSystem>,
  f: (row: ModelRow) => Effect.Effect<Result.Result<object | ReadonlyArray<object>, string>, E, R>,
  concurrency: number
) {
  const progress = yield* Progress
  const stdio = yield* Stdio.Stdio
  const rejects = yield* Rejects.make(yield* RowPlaces.rejectsOf(places), places.in)
  let count = 0
  const lines = rows.pipe(
    Stream.mapEffect(
      (result) =>
        Result.isFailure(result)
          ? Effect.succeed(Result.fail(result.failure))
          : Effect.map(f(result.success), (answered) =>
              Result.mapError(answered, (reason): Reject => ({
                _tag: "Reject",
                file: places.in,
                line: result.success.line,
                reason
              }))
            ),
      { concurrency }
    ),
    Stream.tap(() =>
      Effect.andThen(
        Effect.sync(() => count++),
        progress.advance()
      )
    ),
    Rows.onReject(rejects.add),
    Stream.flatMap((one) => Stream.fromIterable(Array.isArray(one) ? (one as ReadonlyArray<object>) : [one as object])),
    Rows.encodeReady(
      Option.getOrElse(places.out, () => "standard output"),
      (row) => `${Jsonl.stringify(row)}\n`
    ),
    // A file without a line would replace one that has some.
    Stream.concat(Stream.suspend(() => (rejects.count() === count ? Stream.fail(new NoneLeft()) : Stream.empty)))
  )
  yield* progress.begin(phase, Number.POSITIVE_INFINITY)
  yield* Effect.ensuring(
    Option.match(places.out, {
      onSome: (out) => Bytes.write(out)(lines),
      onNone: () => Stream.run(lines, stdio.stdout({ endOnDone: false }))
    }),
    progress.end
  ).pipe(
    Effect.catchTag("NoneLeft", () => Effect.void),
    Effect.mapError(failure)
  )
  return {
    rows: count,
    rejected: rejects.count(),
    rejects: yield* rejects.finish,
    first: rejects.first()
  } satisfies Outcome
}, Effect.scoped)

/** Every row was rejected. */
class NoneLeft extends Data.TaggedError("NoneLeft") {}

/** A reader who goes before the end, or a file that ends before it should. */
const failure = <E>(error: E): CommandError | Exclude<E, DataError | PlatformError> => {
  if (error instanceof PlatformError) {
    const closed = (error.cause as NodeJS.ErrnoException | undefined)?.code === "EPIPE"
    const what = closed ? "was closed before the last answer" : `cannot be written: ${Bytes.reasonOf(error)}`
    return new CommandError({ message: `Standard output ${what}; use --out to keep all.` })
  }
  if (error instanceof DataError) return new CommandError({ message: error.message })
  return error as Exclude<E, DataError | PlatformError>
}
