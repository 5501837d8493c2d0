/**
 * RowPlaces: where the rows of a command come from and where its answers and its rejects go.
 *
 * Three files that must not be one another, whatever links and names lead to them; that is found before anything is
 * computed.
 */
import { Effect, FileSystem, Option, Stream } from "effect"
import { basename, dirname, join } from "node:path"
import * as Bytes from "../data/Bytes.ts"
import * as Files from "../data/Files.ts"
import * as Rejects from "./Rejects.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** Where rows come from and where answers go; standard output where there is no `out`. */
export interface Places {
  readonly in: string
  readonly out: Option.Option<string>
}

/** The format of a file of rows; one without a known ending is JSONL. */
export const format = (file: string): Files.Format => Files.format(file) ?? "jsonl"

/**
 * The file of rejects: `rows.jsonl` has `rows.rejected.jsonl`, beside the answers or else beside the rows, as it is
 * where the answers go into a pipe or a device.
 */
export const rejectsOf = Effect.fnUntraced(function* (places: Places) {
  const out = Option.getOrUndefined(places.out)
  const beside = out === undefined || (yield* Bytes.isStream(out)) ? places.in : out
  return join(dirname(beside), `${basename(places.in).replace(/(\.[a-z]+)?(\.(gz|zstd?))?$/i, "")}.rejected.jsonl`)
})

/** Whether two names are of one file: by their ends, where there is none yet, or by what is there. */
const same = Effect.fnUntraced(function* (a: string, b: string) {
  if ((yield* Bytes.target(a)) === (yield* Bytes.target(b))) return true
  const fs = yield* FileSystem.FileSystem
  const [one, other] = yield* Effect.all([Effect.option(fs.stat(a)), Effect.option(fs.stat(b))])
  if (Option.isNone(one) || Option.isNone(other) || Option.isNone(one.value.ino)) return false
  return one.value.dev === other.value.dev && one.value.ino.value === Option.getOrUndefined(other.value.ino)
})

const refuse = (message: string) => Effect.fail(new UsageError({ message }))

/** Refuses an `--out` that cannot be written or that is another file of the command. */
const checkOut = Effect.fnUntraced(function* (places: Places, out: string, rejects: string) {
  const fs = yield* FileSystem.FileSystem
  if (yield* same(out, places.in)) return yield* refuse("--out is the file of --in; give another name.")
  if (yield* same(out, rejects)) {
    return yield* refuse(`--out ${out} is where rejected rows of ${places.in} would go; give another name.`)
  }
  const folder = dirname(yield* Bytes.target(out))
  const found = yield* Effect.option(fs.stat(folder))
  if (Option.isNone(found) || found.value.type !== "Directory") {
    return yield* refuse(`There is no folder ${dirname(out)} for --out; make it first.`)
  }
  const there = yield* Effect.option(fs.stat(out))
  if (Option.isSome(there) && there.value.type === "Directory") {
    return yield* refuse(`--out ${out} is a folder; give the name of a file.`)
  }
  if (!(yield* Bytes.isStream(out))) yield* Effect.mapError(Bytes.probe(out), fromInput)
})

/** Refuses places that cannot work, before anything is computed. */
export const check = Effect.fnUntraced(function* (places: Places) {
  const out = Option.getOrUndefined(places.out)
  if (places.in === "") return yield* refuse("--in is an empty name; give a file.")
  if (out === "") return yield* refuse("--out is an empty name; give a file, or leave it out for standard output.")
  yield* Effect.mapError(Bytes.head(places.in, 4), fromInput)
  const rejects = yield* rejectsOf(places)
  if (yield* same(rejects, places.in)) {
    return yield* refuse(`${rejects}, where rejected rows would go, is the file of --in; give another --out.`)
  }
  if (out !== undefined) yield* checkOut(places, out, rejects)
  yield* Rejects.check(rejects)
  const first = yield* Files.read(places.in, format(places.in)).pipe(Stream.runHead, Effect.mapError(fromInput))
  if (Option.isNone(first)) return yield* refuse(`${places.in} has no rows.`)
})
