/**
 * Records: a file cut into records at the byte, whatever cuts the format has, with the line on which each begins.
 *
 * Bytes are cut before they are decoded: the characters that end a record are ASCII, which in UTF-8 is never part of
 * another character. So a character torn between two chunks is whole again in its record, and bytes that are no UTF-8
 * spoil one record and not the file.
 */
import { isUtf8 } from "node:buffer"
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import type { Reject } from "./DataError.ts"
import * as Rows from "./Rows.ts"

/** A record as text, with what ended it. */
export interface Record {
  /** The line on which it begins, from 1. */
  readonly line: number
  readonly text: string
  /** Whether the byte that ends a record was there; false for what is left at the end of a file. */
  readonly ended: boolean
}

/** Finds ends of records. It may keep a state from one call to the next, which go on where the last one stopped. */
export interface Boundary {
  /** The index after the byte that ends the record which goes on at `from`, or -1 when it goes on after the chunk. */
  readonly next: (bytes: Uint8Array, from: number) => number
}

/** Records longer than this many bytes are rejected, so that a file without ends of lines does not fill the memory. */
export const maxBytes = 64 * 2 ** 20

const newline = 10

const countLines = (bytes: Uint8Array, from: number, end: number): number => {
  let count = 0
  for (let i = bytes.indexOf(newline, from); i >= 0 && i < end; i = bytes.indexOf(newline, i + 1)) count++
  return count
}

/** Cuts chunks into records; holds the record that is not yet whole. */
const splitter = (file: string, boundary: Boundary, limit: number) => {
  let line = 1
  let pieces: Array<Uint8Array> = []
  let size = 0
  let lines = 0

  const add = (piece: Uint8Array) => {
    size += piece.length
    lines += countLines(piece, 0, piece.length)
    if (size <= limit) pieces.push(piece)
    else pieces = []
  }

  const record = (bytes: Buffer, from: number, end: number, ended: boolean): Result.Result<Record, Reject> => {
    const start = line
    line += lines
    pieces = []
    size = 0
    lines = 0
    const text = bytes.toString("utf8", from, end)
    // The sign for bytes that are no UTF-8 may stand in the file itself; looking for it first is quicker.
    if (text.includes("\uFFFD") && !isUtf8(bytes.subarray(from, end)))
      return Rows.reject(file, start, "not valid UTF-8")
    if (text.includes("\0")) return Rows.reject(file, start, "a NUL byte, which text does not have")
    return Result.succeed({ line: start, text: start === 1 ? text.replace(/^\uFEFF/, "") : text, ended })
  }

  const finish = (ended: boolean): Result.Result<Record, Reject> => {
    if (size <= limit) return record(Buffer.concat(pieces), 0, size, ended)
    const start = line
    line += lines
    size = 0
    lines = 0
    return Rows.reject(file, start, `longer than ${limit} bytes`)
  }

  return {
    feed: (chunk: Uint8Array) => {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
      const out: Array<Result.Result<Record, Reject>> = []
      let from = 0
      while (from < bytes.length) {
        const end = boundary.next(bytes, from)
        if (end < 0) {
          // A copy: Node may use the memory of a chunk again.
          add(new Uint8Array(bytes.subarray(from)))
          break
        }
        if (size === 0 && end - from <= limit) {
          lines = countLines(bytes, from, end)
          out.push(record(bytes, from, end, true))
        } else {
          add(bytes.subarray(from, end))
          out.push(finish(true))
        }
        from = end
      }
      return out
    },
    end: () => (size > 0 ? [finish(false)] : []),
    /** The line of the record that is not yet whole. */
    lines: () => line
  }
}

/** Whether bytes begin as UTF-16 text does, in either order. */
export const isUtf16 = ([first, second]: Uint8Array): boolean =>
  (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)

/** What packs files in ways that are not read, and the bytes that these begin with; bzip2's fourth is its level. */
const packers: ReadonlyArray<readonly [by: string, ...prefix: ReadonlyArray<number | undefined>]> = [
  ["xz", 0xfd, 0x37, 0x7a, 0x58, 0x5a],
  ["bzip2", 0x42, 0x5a, 0x68, undefined, 0x31, 0x41, 0x59],
  ["lz4", 0x04, 0x22, 0x4d, 0x18]
]

/** What a file is that is no text, by its first bytes; undefined for text. A few NUL bytes spoil their rows only. */
const otherThanText = (bytes: Uint8Array): string | undefined => {
  const starts = (...prefix: ReadonlyArray<number | undefined>) =>
    prefix.every((byte, i) => byte === undefined || bytes[i] === byte)
  if (starts(0x50, 0x41, 0x52, 0x31)) return "is Parquet; give it a name that ends in .parquet"
  if (isUtf16(bytes)) return "is UTF-16 text; save it as UTF-8"
  if (starts(0x50, 0x4b, 0x03, 0x04)) return "is a ZIP archive or a spreadsheet; unpack it, or save it as CSV"
  // These have few NUL bytes: each of their "lines" would be rejected for not being UTF-8.
  const packer = packers.find(([, ...prefix]) => starts(...prefix))?.[0]
  if (packer !== undefined) return `is packed by ${packer}, which is not read; unpack it, or pack it by gzip or zstd`
  const head = bytes.subarray(0, 4096)
  return head.filter((byte) => byte === 0).length > head.length / 4
    ? "is not a text file; rows are read from JSONL, JSON, CSV, Parquet or plain text"
    : undefined
}

const wholeLines = (n: number): string => (n === 1 ? "Its first line is whole." : `Its first ${n} lines are whole.`)

/** The records of a file. */
export const read = (
  file: string,
  boundary: () => Boundary,
  options: { readonly maxBytes?: number | undefined } = {}
): Stream.Stream<Result.Result<Record, Reject>, DataError, FileSystem.FileSystem> =>
  Stream.suspend(() => {
    const records = splitter(file, boundary(), options.maxBytes ?? maxBytes)
    let begun = false
    return Bytes.read(file).pipe(
      // Only unpacking can fail after the first bytes: what was read by then is as good as ever.
      Stream.mapError((error) =>
        begun ? new DataError({ file, message: `${error.message} ${wholeLines(records.lines() - 1)}` }) : error
      ),
      Stream.mapEffect((bytes) => {
        const other = begun ? undefined : otherThanText(bytes)
        begun = true
        return other === undefined
          ? Effect.succeed(records.feed(bytes))
          : Effect.fail(new DataError({ file, message: `${file} ${other}.` }))
      }),
      Stream.concat(Stream.suspend(() => Stream.succeed(records.end()))),
      Rows.flatten
    )
  })

/** Records that are lines. */
export const lines = (): Boundary => ({ next: (bytes, from) => bytes.indexOf(newline, from) + 1 || -1 })
