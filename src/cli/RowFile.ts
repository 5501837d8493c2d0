/**
 * RowFile: a file of rows answered row by row, in order, in constant memory.
 *
 * The answers are JSONL, in a file that appears when it is whole or on standard output. A bad row goes to a file of
 * rejects with its line and its reason, and the rest is done; the command then ends with `RowsRejected`.
 */
import { Console, Effect, Exit, FileSystem, Option, Result, Scope, Stdio, Stream } from "effect"
import { PlatformError } from "effect/PlatformError"
import { randomBytes } from "node:crypto"
import { basename, dirname, join, resolve } from "node:path"
import * as Bytes from "../data/Bytes.ts"
import { DataError, type Reject } from "../data/DataError.ts"
import * as Files from "../data/Files.ts"
import * as Jsonl from "../data/Jsonl.ts"
import type { ModelRow } from "../data/ModelRows.ts"
import * as Rows from "../data/Rows.ts"
import { Progress } from "../recipes/Progress.ts"
import { CommandError, RowsRejected } from "./CommandError.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** Where rows come from and where answers go; standard output where there is no `out`. */
export interface Places {
  readonly in: string
  readonly out: Option.Option<string>
}

/** What was done. */
export interface Outcome {
  /** Rows of the file, bad ones too. */
  readonly rows: number
  readonly rejected: number
  /** Where the rejects are. */
  readonly rejects: string
  /** The first of them, as `line 3: the reason`. */
  readonly first: string | undefined
}

/** Says what was done, where no answers go, and fails when some rows were bad. */
export const conclude = Effect.fnUntraced(function* (places: Places, outcome: Outcome, said: string) {
  yield* Option.isSome(places.out) ? Console.log(said) : Console.error(said)
  const { first, rejected, rejects, rows } = outcome
  if (first !== undefined) return yield* new RowsRejected({ rejected, rows, rejects, source: places.in, first })
})

/** The file of rejects: `rows.jsonl` has `rows.rejected.jsonl`, beside the answers or else beside the rows. */
export const rejectsOf = (places: Places): string =>
  join(
    dirname(Option.getOrElse(places.out, () => places.in)),
    `${basename(places.in).replace(/(\.[a-z]+)?(\.(gz|zstd?))?$/i, "")}.rejected.jsonl`
  )

/** Refuses places that cannot work, before anything is computed. */
export const check = Effect.fnUntraced(function* (places: Places) {
  const fs = yield* FileSystem.FileSystem
  yield* Effect.mapError(Bytes.head(places.in, 4), fromInput)
  if (Option.isNone(places.out)) return
  const out = places.out.value
  const refuse = (message: string) => new UsageError({ message })
  if (resolve(out) === resolve(places.in)) return yield* refuse("--out is the file of --in; give another name.")
  const folder = yield* Effect.option(fs.stat(dirname(resolve(out))))
  if (Option.isNone(folder) || folder.value.type !== "Directory") {
    return yield* refuse(`There is no folder ${dirname(out)} for --out; make it first.`)
  }
  const there = yield* Effect.option(fs.stat(out))
  if (Option.isSome(there) && there.value.type === "Directory") {
    return yield* refuse(`--out ${out} is a folder; give the name of a file.`)
  }
})

/** The rows of a file; one without a known ending is JSONL. */
export const read = (
  file: string,
  decode: (entry: Rows.Entry) => Result.Result<ModelRow, string>
): Stream.Stream<Result.Result<ModelRow, Reject>, DataError, FileSystem.FileSystem> =>
  Files.read(file, Files.format(file) ?? "jsonl").pipe(
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
  places: Places,
  rows: Stream.Stream<Result.Result<ModelRow, Reject>, DataError, FileSystem.FileSystem>,
  f: (row: ModelRow) => Effect.Effect<Result.Result<object | ReadonlyArray<object>, string>, E, R>,
  concurrency: number
) {
  const progress = yield* Progress
  const stdio = yield* Stdio.Stdio
  const file = rejectsOf(places)
  const rejects = yield* rejectsSink(file)
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
    Rows.encode(
      Option.getOrElse(places.out, () => "standard output"),
      (row) => `${Jsonl.stringify(row)}\n`
    )
  )
  yield* progress.begin(phase, Number.POSITIVE_INFINITY)
  yield* Effect.ensuring(
    Option.match(places.out, {
      onSome: (out) => Bytes.write(out)(lines),
      onNone: () => Stream.run(lines, stdio.stdout({ endOnDone: false }))
    }),
    progress.end
  ).pipe(Effect.mapError(failure))
  return { rows: count, rejected: rejects.count(), rejects: file, first: rejects.first() } satisfies Outcome
}, Effect.scoped)

/** A reader who goes before the end, or a file that ends before it should. */
const failure = <E>(error: E): CommandError | Exclude<E, DataError | PlatformError> => {
  if (error instanceof PlatformError) {
    return new CommandError({ message: "Standard output was closed before the last answer; use --out to keep all." })
  }
  if (error instanceof DataError) return new CommandError({ message: error.message })
  return error as Exclude<E, DataError | PlatformError>
}

/** A file of rejects that is made when the first is there; one of an earlier command goes when there is none now. */
const rejectsSink = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const scope = yield* Effect.scope
  const part = `${file}.${randomBytes(4).toString("hex")}.part`
  let handle: FileSystem.File | undefined
  let count = 0
  let first: string | undefined
  const unwritable = Effect.mapError(
    (error: { readonly message: string }) =>
      new DataError({ file, message: `${file} cannot be written: ${error.message}.` })
  )
  yield* Effect.addFinalizer((exit) =>
    Effect.ignore(
      Exit.isFailure(exit)
        ? fs.remove(part, { force: true })
        : handle === undefined
          ? fs.remove(file, { force: true })
          : fs.rename(part, file)
    )
  )
  return {
    count: () => count,
    first: () => first,
    add: Effect.fnUntraced(function* ({ line, reason }: Reject) {
      count++
      first ??= `line ${line}: ${reason}`
      handle ??= yield* unwritable(Effect.provideService(fs.open(part, { flag: "wx" }), Scope.Scope, scope))
      yield* unwritable(handle.writeAll(Buffer.from(`${JSON.stringify({ line, reason })}\n`)))
    })
  }
})
