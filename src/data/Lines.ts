/**
 * Lines: the non-blank lines of a text file, with their numbers, as a stream.
 *
 * Compression is found by the first bytes and not by the name, because a file that was renamed is still the same file.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import { Effect, FileSystem, Stream } from "effect"
import { createGunzip } from "node:zlib"
import { DataError } from "./DataError.ts"

/** A line of a file; the first has number 1, and blank lines count but are not given out. */
export interface Line {
  readonly line: number
  readonly text: string
}

const gzip = [0x1f, 0x8b]

/** Whether the file can be read as text at all; a typed sentence when it cannot. */
export const inspect = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* fs.stat(file).pipe(
    Effect.mapError((error) => {
      const missing = error.reason._tag === "NotFound"
      return new DataError({ file, message: missing ? `There is no file ${file}.` : `${file} cannot be read.` })
    })
  )
  if (info.type === "Directory") {
    return yield* new DataError({ file, message: `${file} is a folder; give the file with the prompts in it.` })
  }
  const head = yield* Stream.mkUint8Array(fs.stream(file, { bytesToRead: 4096 })).pipe(
    Effect.mapError(() => new DataError({ file, message: `${file} cannot be read; check its permissions.` }))
  )
  if (head.length === 0) {
    return yield* new DataError({ file, message: `${file} is empty; it needs at least one prompt.` })
  }
  const compressed = gzip.every((byte, i) => head[i] === byte)
  if (!compressed && head.includes(0)) {
    return yield* new DataError({
      file,
      message: `${file} is not a text file; prompts are read from JSONL (.gz too) or plain text with one a line.`
    })
  }
  if (!compressed && new TextDecoder().decode(head.subarray(0, 4)) === "PAR1") {
    return yield* new DataError({
      file,
      message: `${file} is a Parquet file; convert it to JSONL with a "prompt" field.`
    })
  }
  return { compressed }
})

/** The lines of a file that are not blank. */
export const read = (file: string): Stream.Stream<Line, DataError, FileSystem.FileSystem> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { compressed } = yield* inspect(file)
      const bytes = fs
        .stream(file)
        .pipe(Stream.mapError((error) => new DataError({ file, message: `${file} cannot be read: ${error.message}.` })))
      const plain = compressed
        ? bytes.pipe(
            NodeStream.pipeThroughDuplex({
              evaluate: () => createGunzip(),
              onError: () =>
                new DataError({
                  file,
                  message: `${file} is damaged: it cannot be unpacked to its end; fetch it again.`
                })
            })
          )
        : bytes
      return plain.pipe(
        Stream.decodeText,
        Stream.splitLines,
        Stream.zipWithIndex,
        Stream.map(([text, i]): Line => ({ line: i + 1, text: i === 0 ? text.replace(/^\uFEFF/, "") : text })),
        Stream.filter(({ text }) => text.trim() !== "")
      )
    })
  )
