/**
 * Bytes: the unpacked bytes of a file as a stream, and a file written from a stream of bytes.
 *
 * What is read is recognised by its first bytes, because a file that was renamed is still the same file; what is
 * written is packed as its name says (`.gz`, `.zst`). A file appears under its name when it is whole: it is written
 * beside its place and renamed. A name that is a link stays one, and what it leads to is replaced; a device or a pipe
 * takes the bytes as they come.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import { Effect, Exit, FileSystem, Option, Stream } from "effect"
import { randomBytes } from "node:crypto"
import { basename, dirname, join, resolve } from "node:path"
import type { Duplex } from "node:stream"
import { getSystemErrorMessage } from "node:util"
import * as Zlib from "node:zlib"
import type { PlatformError } from "effect/PlatformError"
import { DataError } from "./DataError.ts"
import * as Rows from "./Rows.ts"
import * as ZstdFrames from "./ZstdFrames.ts"

/** How a file is packed. */
export type Packing = "gzip" | "zstd" | "none"

/** How a file that begins with these bytes is packed. */
export const packing = (head: Uint8Array): Packing =>
  head[0] === 0x1f && head[1] === 0x8b ? "gzip" : ZstdFrames.isZstd(head) ? "zstd" : "none"

/** How a file of this name is to be packed. */
export const packingOf = (file: string): Packing =>
  /\.gz$/i.test(file) ? "gzip" : /\.zst(d)?$/i.test(file) ? "zstd" : "none"

// zstd came with Node 22.15; the package asks for 22.19 or later.
const unpackers = {
  gzip: () => Zlib.createGunzip(),
  // The window of `zstd --long=31`; what a frame asks for is taken, and most ask for 8 MiB at most.
  zstd: () => Zlib.createZstdDecompress({ params: { [Zlib.constants.ZSTD_d_windowLogMax]: 31 } })
}
const packers = { gzip: () => Zlib.createGzip(), zstd: () => Zlib.createZstdCompress() }

/** Why something cannot be done with a file, in the system's words. */
export const reasonOf = (error: { readonly message: string; readonly cause?: unknown }): string => {
  const { errno } = (error.cause ?? {}) as NodeJS.ErrnoException
  return typeof errno === "number" ? getSystemErrorMessage(errno) : error.message
}

const unreadable = (file: string) => (error: PlatformError) => {
  if (error.reason._tag !== "NotFound") {
    return new DataError({ file, message: `${file} cannot be read: ${reasonOf(error)}.` })
  }
  const message = file === "-" ? "Standard input is not taken; give a file." : `There is no file ${file}.`
  return new DataError({ file, message })
}

/** The first bytes of a file, still packed; a typed sentence when it cannot be read or is a folder. */
export const head = Effect.fnUntraced(function* (file: string, length: number = 4096) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* fs.stat(file).pipe(Effect.mapError(unreadable(file)))
  if (info.type === "Directory") {
    return yield* new DataError({ file, message: `${file} is a folder; give a file in it.` })
  }
  // A file is read more than once, its first bytes first; what comes out of a pipe is gone then.
  if (info.type !== "File") {
    return yield* new DataError({ file, message: `${file} is a pipe or a device, which is not taken; give a file.` })
  }
  return yield* Stream.mkUint8Array(fs.stream(file, { bytesToRead: length })).pipe(Effect.mapError(unreadable(file)))
})

/** The bytes of a file, unpacked. */
export const read = (file: string): Stream.Stream<Uint8Array, DataError, FileSystem.FileSystem> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const packed = packing(yield* head(file, 4))
      const bytes = fs.stream(file).pipe(Stream.mapError(unreadable(file)))
      if (packed === "none") return bytes
      const pieces = packed === "zstd" ? Rows.flatten(Stream.map(bytes, ZstdFrames.cutter())) : bytes
      return pieces.pipe(
        NodeStream.pipeThroughDuplex({
          evaluate: (): Duplex => unpackers[packed](),
          onError: () =>
            new DataError({ file, message: `${file} is damaged: it cannot be unpacked to its end; fetch it again.` })
        })
      )
    })
  )

/** The failure to write a file, in the system's words. */
export const unwritable = (file: string) => (error: { readonly message: string; readonly cause?: unknown }) =>
  new DataError({ file, message: `${file} cannot be written: ${reasonOf(error)}.` })

/** Links that are followed from a name; the system's own limit. */
const mostLinks = 40

/** The file that a name leads to through links, also where it is yet to be made; two names of one file give the same. */
export const target = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  let path = resolve(file)
  for (let links = 0; links < mostLinks; links++) {
    const folder = yield* fs.realPath(dirname(path)).pipe(Effect.orElseSucceed(() => dirname(path)))
    path = join(folder, basename(path))
    const link = yield* Effect.option(fs.readLink(path))
    if (Option.isNone(link)) return path
    path = resolve(folder, link.value)
  }
  return path
})

/** Names of what the process has open. Of a file that a shell has opened to append to, what is there would be lost. */
const descriptor = /^\/(?:dev\/(?:std(?:in|out|err)|fd\/\d+)|proc\/(?:self|\d+)\/fd\/\d+)$/

/** Whether a name is one of standard output. */
export const isStandardOutput = (file: string): boolean =>
  /^\/(?:dev\/(?:stdout|fd\/1)|proc\/(?:self|\d+)\/fd\/1)$/.test(file)

/** Whether a name is one of a device, a pipe or a descriptor, which cannot be replaced by a file. */
export const isStream = Effect.fnUntraced(function* (file: string) {
  if (descriptor.test(file)) return true
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.option(fs.stat(file))
  return Option.isSome(info) && info.value.type !== "File" && info.value.type !== "Directory"
})

/** A name of its own beside a file, for what is not yet whole. */
export const partOf = (file: string) => `${file}.${randomBytes(4).toString("hex")}.part`

/** Whether a name is such a one. It stays behind where a process was killed. */
export const isPart = (file: string): boolean => /\.[0-9a-f]{8}\.part$/.test(file)

/** Fails where no file can be written beside this one, which is found by doing it. */
export const probe = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const part = partOf(yield* target(file))
  yield* fs
    .writeFile(part, new Uint8Array(), { flag: "wx" })
    .pipe(Effect.andThen(fs.remove(part)), Effect.mapError(unwritable(file)), Effect.uninterruptible)
})

/**
 * Runs `use` with the name of a new file beside `file`, and gives the file its name when `use` has succeeded. After a
 * failure or an interruption nothing is left, and what was under the name before is as it was.
 */
export const atomically = <A, E, R>(
  file: string,
  use: (part: string) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | DataError, R | FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    if (yield* isStream(file)) {
      const message = `${file} is a pipe or a device, which cannot be replaced; give the name of a file.`
      return yield* new DataError({ file, message })
    }
    const place = yield* target(file)
    const part = partOf(place)
    return yield* use(part).pipe(
      Effect.tap(() => fs.rename(part, place).pipe(Effect.mapError(unwritable(file)))),
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Effect.ignore(fs.remove(part, { force: true }))))
    )
  })

/** Writes a stream of bytes to a file, packed as its name says. */
export const write =
  (file: string) =>
  <E, R>(bytes: Stream.Stream<Uint8Array, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> => {
    const packed = packingOf(file)
    const out: Stream.Stream<Uint8Array, E | DataError, R> =
      packed === "none"
        ? bytes
        : bytes.pipe(
            NodeStream.pipeThroughDuplex({
              evaluate: (): Duplex => packers[packed](),
              onError: (error) => unwritable(file)(error instanceof Error ? error : new Error(String(error)))
            })
          )
    const writeTo = (handle: FileSystem.File) =>
      Stream.runForEach(out, (chunk) => handle.writeAll(chunk).pipe(Effect.mapError(unwritable(file))))
    const open = Effect.fnUntraced(function* (name: string, flag: "wx" | "a") {
      const fs = yield* FileSystem.FileSystem
      return yield* fs.open(name, { flag }).pipe(Effect.mapError(unwritable(file)))
    })
    const whole = atomically(file, (part) =>
      Effect.scoped(
        Effect.gen(function* () {
          const handle = yield* open(part, "wx")
          yield* writeTo(handle)
          // A rename must not reach the disk before the bytes do.
          yield* handle.sync.pipe(Effect.mapError(unwritable(file)))
        })
      )
    )
    // Pipes have no positions to write at: what is opened to append is written without one.
    const straight = Effect.scoped(Effect.flatMap(open(file, "a"), writeTo))
    return Effect.flatMap(isStream(file), (stream) => (stream ? straight : whole))
  }
