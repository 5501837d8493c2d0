/**
 * Rejects: the file of rows that could not be used, `{"line", "reason"}` for each.
 *
 * It is made when the first is there and has its name when all are. One of an earlier command is replaced, or goes when
 * there is none now; any other file under that name is somebody's own, and the command is refused before it begins.
 * Where no file can be made, the rows are told on standard error: a bad row does not end the command.
 */
import { Console, Effect, Exit, FileSystem, Option, Result, Scope, Stream } from "effect"
import * as Bytes from "../data/Bytes.ts"
import type { Reject } from "../data/DataError.ts"
import * as Jsonl from "../data/Jsonl.ts"
import type * as Rows from "../data/Rows.ts"
import { UsageError } from "./UsageError.ts"

/** The columns of a file of rejects, in their order. */
const own = ["line", "reason"]

const isOurs =
  (columns: ReadonlyArray<string>) =>
  ({ row }: Rows.Entry): boolean =>
    Object.keys(row).toSorted().join() === columns.join() &&
    Number.isSafeInteger(row["line"]) &&
    typeof row["reason"] === "string"

/** Whether something stands under the name of a file of rejects that is none. */
export const isTaken = Effect.fnUntraced(function* (file: string, columns: ReadonlyArray<string> = own) {
  const fs = yield* FileSystem.FileSystem
  const there = yield* Effect.option(fs.stat(file))
  if (Option.isNone(there)) return false
  if (there.value.type !== "File") return true
  return yield* Jsonl.read(file).pipe(
    Stream.filter((result) => Result.isFailure(result) || !isOurs(columns)(result.success)),
    Stream.runHead,
    Effect.map(Option.isSome),
    Effect.orElseSucceed(() => true)
  )
})

const taken = (file: string) => `${file} is no file of rejected rows, and theirs would have that name`

/** Refuses a name that is taken. */
export const check = Effect.fnUntraced(function* (file: string) {
  if (!(yield* isTaken(file))) return
  return yield* new UsageError({ message: `${taken(file)}; move it away, or give another --out.` })
})

/** Takes rejects, those of `source`, until the scope closes; what was not finished by then goes. */
export const make = Effect.fnUntraced(function* (file: string, source: string) {
  const fs = yield* FileSystem.FileSystem
  const scope = yield* Scope.fork(yield* Effect.scope)
  const part = Bytes.partOf(yield* Bytes.target(file))
  let handle: FileSystem.File | undefined
  let told = false
  let kept = false
  let count = 0
  let first: string | undefined
  const unwritable = Bytes.unwritable(file)
  yield* Effect.addFinalizer(() => (kept ? Effect.void : Effect.ignore(fs.remove(part, { force: true }))))

  const open = Effect.gen(function* () {
    const opened = yield* Effect.result(Effect.provideService(fs.open(part, { flag: "wx" }), Scope.Scope, scope))
    if (Result.isSuccess(opened)) return void (handle = opened.success)
    told = true
    yield* Console.error(`${unwritable(opened.failure).message} Rows that cannot be used are told here.`)
  })

  return {
    count: () => count,
    /** The first of them, as `line 3: the reason`. */
    first: () => first,
    add: Effect.fnUntraced(function* ({ line, reason }: Reject) {
      count++
      first ??= `line ${line}: ${reason}`
      if (handle === undefined && !told) yield* open
      if (handle === undefined) return yield* Console.error(`${source}, line ${line}: ${reason}`)
      yield* Effect.mapError(handle.writeAll(Buffer.from(`${JSON.stringify({ line, reason })}\n`)), unwritable)
    }),
    /** Gives the file its name, and says where the rejects are: undefined for standard error. */
    finish: Effect.gen(function* () {
      yield* Scope.close(scope, Exit.void)
      const place = yield* Bytes.target(file)
      // Hours may have passed since it was checked.
      const other = yield* isTaken(file)
      if (handle === undefined) {
        // One of an earlier command would speak of rows that are good by now.
        const gone = other ? Result.void : yield* Effect.result(fs.remove(place, { force: true }))
        if (Result.isFailure(gone)) {
          yield* Console.error(
            `${file} is of an earlier command; it cannot be removed: ${Bytes.reasonOf(gone.failure)}.`
          )
        }
        return told ? undefined : file
      }
      kept = true
      const named = other
        ? Result.fail(`${taken(file)}.`)
        : yield* Effect.result(Effect.mapError(fs.rename(part, place), (error) => unwritable(error).message))
      if (Result.isSuccess(named)) return file
      yield* Console.error(named.failure)
      return part
    }).pipe(Effect.uninterruptible)
  }
})
