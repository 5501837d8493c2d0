/**
 * Bytes: the unpacked bytes of a file as a stream, and a file written from a stream of bytes.
 *
 * What is read is recognised by its first bytes, because a file that was renamed is still the same file; what is
 * written is packed as its name says (`.gz`, `.zst`). A file appears under its name when it is whole: it is written
 * beside its place and renamed.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import { Effect, Exit, FileSystem, Stream } from "effect"
import { randomBytes } from "node:crypto"
import type { Duplex } from "node:stream"
import * as Zlib from "node:zlib"
import { DataError } from "./DataError.ts"

/** How a file is packed. */
export type Packing = "gzip" | "zstd" | "none"

const magic = { gzip: [0x1f, 0x8b], zstd: [0x28, 0xb5, 0x2f, 0xfd] }

const startsWith = (bytes: Uint8Array, prefix: ReadonlyArray<number>) => prefix.every((byte, i) => bytes[i] === byte)

/** How a file that begins with these bytes is packed. */
export const packing = (head: Uint8Array): Packing =>
  startsWith(head, magic.gzip) ? "gzip" : startsWith(head, magic.zstd) ? "zstd" : "none"

/** How a file of this name is to be packed. */
export const packingOf = (file: string): Packing =>
  /\.gz$/i.test(file) ? "gzip" : /\.zst(d)?$/i.test(file) ? "zstd" : "none"

// zstd came with Node 22.15; the package asks for 22.19 or later.
const unpackers = { gzip: () => Zlib.createGunzip(), zstd: () => Zlib.createZstdDecompress() }
const packers = { gzip: () => Zlib.createGzip(), zstd: () => Zlib.createZstdCompress() }

const unreadable = (file: string) => (error: { readonly reason: { readonly _tag: string } }) => {
  const missing = error.reason._tag === "NotFound"
  return new DataError({ file, message: missing ? `There is no file ${file}.` : `${file} cannot be read.` })
}

/** The first bytes of a file, still packed; a typed sentence when it cannot be read or is a folder. */
export const head = Effect.fnUntraced(function* (file: string, length = 4096) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* fs.stat(file).pipe(Effect.mapError(unreadable(file)))
  if (info.type === "Directory") {
    return yield* new DataError({ file, message: `${file} is a folder; give a file in it.` })
  }
  return yield* Stream.mkUint8Array(fs.stream(file, { bytesToRead: length })).pipe(
    Effect.mapError(() => new DataError({ file, message: `${file} cannot be read; check its permissions.` }))
  )
})

/** The bytes of a file, unpacked. */
export const read = (file: string): Stream.Stream<Uint8Array, DataError, FileSystem.FileSystem> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const packed = packing(yield* head(file, 4))
      const bytes = fs
        .stream(file)
        .pipe(Stream.mapError((error) => new DataError({ file, message: `${file} cannot be read: ${error.message}.` })))
      if (packed === "none") return bytes
      return bytes.pipe(
        NodeStream.pipeThroughDuplex({
          evaluate: (): Duplex => unpackers[packed](),
          onError: () =>
            new DataError({ file, message: `${file} is damaged: it cannot be unpacked to its end; fetch it again.` })
        })
      )
    })
  )

const unwritable = (file: string) => (error: { readonly message: string }) =>
  new DataError({ file, message: `${file} cannot be written: ${error.message}.` })

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
    const part = `${file}.${randomBytes(4).toString("hex")}.part`
    return yield* use(part).pipe(
      Effect.tap(() => fs.rename(part, file).pipe(Effect.mapError(unwritable(file)))),
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
    return atomically(file, (part) =>
      Effect.scoped(
        Effect.gen(function* () {
          const fs = yield* FileSystem.FileSystem
          const handle = yield* fs.open(part, { flag: "wx" }).pipe(Effect.mapError(unwritable(file)))
          yield* Stream.runForEach(out, (chunk) => handle.writeAll(chunk).pipe(Effect.mapError(unwritable(file))))
          // A rename must not reach the disk before the bytes do.
          yield* handle.sync.pipe(Effect.mapError(unwritable(file)))
        })
      )
    )
  }
