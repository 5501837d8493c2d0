/**
 * The header of a safetensors file: which tensors it holds and where.
 *
 * The header of a downloaded file is untrusted: every number in it is checked before it is used.
 *
 * Format: https://huggingface.co/docs/safetensors.
 */
import { Predicate, Result, Schema } from "effect"
import { quoted } from "./Quoted.ts"

/** A safetensors file that cannot be read, does not follow the format, or cannot be written. */
export class SafetensorsError extends Schema.TaggedError<SafetensorsError>()("SafetensorsError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** Bytes of one element of each type of the format that fills whole bytes; not all of them are loaded. */
export const elementBytes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  C64: 8,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1
} as const

/** An element type. */
export type DType = keyof typeof elementBytes

/** Where a tensor lies. */
export interface TensorInfo {
  readonly name: string
  /** The file that holds it. */
  readonly file: string
  readonly dtype: DType
  readonly shape: ReadonlyArray<number>
  /** The byte its data starts at, counted from the start of the file. */
  readonly offset: number
  /** The length of its data in bytes. */
  readonly length: number
}

/** A file's header: what is in it and where. */
export interface File {
  readonly file: string
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: Readonly<Record<string, string>>
}

/** Bytes before the header: its length as a 64-bit number. */
export const prefixBytes = 8
const maxHeaderBytes = 100_000_000

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isSizes = (value: unknown): value is ReadonlyArray<number> => Array.isArray(value) && value.every(isSize)
const isText = (value: unknown): value is string => typeof value === "string"

/** A failure that another copy of the file would not have. */
export const broken = (file: string, reason: string) =>
  Result.fail(new SafetensorsError({ file, reason: `${reason}; download or save it again` }))

/** How many elements a shape has; not a safe integer when the shape is absurd. */
export const count = (shape: ReadonlyArray<number>): number => shape.reduce((product, n) => product * n, 1)

/** A shape as errors show it. */
export const shapeText = (shape: ReadonlyArray<number>): string =>
  `[${shape.slice(0, 8).join(", ")}${shape.length > 8 ? ", …" : ""}]`

/** Objects in a header: the header, its entries, and nothing in them but flat arrays. */
const deepest = 3

/** Far more than any model has; a header of 100 MB has room for ten times as many, which would take minutes to read. */
const mostNames = 1_000_000

/**
 * What is wrong with the names and the nesting of `json`, or undefined.
 *
 * `JSON.parse` keeps the last of two equal names without a word, which would let a file hide a tensor behind another,
 * and makes objects of any depth, which a header of 100 MB could fill the memory with. The text may be any.
 */
const disorder = (json: string): string | undefined => {
  const scopes: Array<Set<string> | undefined> = []
  for (let i = 0; i < json.length; i++) {
    const character = json.charCodeAt(i)
    if (character === 0x7b || character === 0x5b) {
      scopes.push(character === 0x7b ? new Set() : undefined)
      if (scopes.length > deepest) return "has a header that is nested too deeply"
    } else if (character === 0x7d || character === 0x5d) {
      scopes.pop()
    } else if (character === 0x22) {
      const start = i++
      while (i < json.length && json.charCodeAt(i) !== 0x22) i += json.charCodeAt(i) === 0x5c ? 2 : 1
      let after = i + 1
      while (isSpace(json.charCodeAt(after))) after++
      if (json.charCodeAt(after) !== 0x3a) continue
      const raw = json.slice(start + 1, i)
      const name = raw.includes("\\") ? unescaped(raw) : raw
      const scope = scopes.at(-1)
      if (scope?.has(name)) return `names "${quoted(name)}" twice in its header`
      scope?.add(name)
      if (scope !== undefined && scope.size > mostNames) return `has more than ${mostNames} names in its header`
    }
  }
  return undefined
}

const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

/** A name without its escapes; a wrong escape is left to the parser. */
const unescaped = (raw: string): string => {
  try {
    return String(JSON.parse(`"${raw}"`))
  } catch {
    return raw
  }
}

/** What `git clone` without Git LFS writes in place of a large file begins so, which no header is long enough for. */
const pointer = new TextEncoder().encode("version ")

/** The header's length from a file's first 8 bytes. */
export const headerLength = (
  bytes: Uint8Array,
  fileSize: number,
  file: string
): Result.Result<number, SafetensorsError> => {
  if (bytes.length < prefixBytes || fileSize < prefixBytes) {
    return broken(file, `has ${Math.min(bytes.length, fileSize)} bytes, too few for a safetensors file`)
  }
  if (pointer.every((byte, i) => bytes[i] === byte)) {
    const reason = "is a pointer of Git LFS in place of the file; run git lfs pull in its folder, or download it"
    return Result.fail(new SafetensorsError({ file, reason }))
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0, true)
  if (length > BigInt(maxHeaderBytes)) {
    return broken(
      file,
      `announces a header of ${length} bytes, more than the ${maxHeaderBytes} a safetensors file may have`
    )
  }
  if (Number(length) + prefixBytes > fileSize) {
    return broken(file, `announces a header of ${length} bytes but has only ${fileSize} bytes in all`)
  }
  return Result.succeed(Number(length))
}

/**
 * Checks and reads a header.
 *
 * `bytes` is the start of the file (the 8-byte length and at least the whole header), `fileSize` the size of the whole
 * file in bytes and `file` its name for errors and for `TensorInfo.file`. Fails with a `SafetensorsError` on the first
 * broken rule and never throws.
 */
export const parseHeader = (bytes: Uint8Array, fileSize: number, file: string): Result.Result<File, SafetensorsError> =>
  Result.gen(function* () {
    const headerBytes = yield* headerLength(bytes, fileSize, file)
    if (bytes.length < prefixBytes + headerBytes) return yield* broken(file, "ends inside its header")
    const header = bytes.subarray(prefixBytes, prefixBytes + headerBytes)
    if (header[0] !== 0x7b) return yield* broken(file, "has a header that does not start with {")
    const text = yield* Result.try({
      try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header),
      catch: () => new SafetensorsError({ file, reason: "has a header that is not UTF-8; download or save it again" })
    })
    const wrong = disorder(text)
    if (wrong !== undefined) return yield* broken(file, wrong)
    const json = yield* Result.try({
      try: (): Record<string, unknown> => JSON.parse(text),
      catch: () => new SafetensorsError({ file, reason: "has a header that is not JSON; download or save it again" })
    })

    const dataStart = prefixBytes + headerBytes
    const tensors: Array<TensorInfo> = []
    let metadata: Readonly<Record<string, string>> = {}
    for (const [name, value] of Object.entries(json)) {
      if (name === "__metadata__") {
        // To the format's own reader, a null is none.
        if (value === null) continue
        if (!Predicate.isObject(value) || !Object.values(value).every(isText)) {
          return yield* broken(file, "has metadata that is not text by name")
        }
        metadata = value as Readonly<Record<string, string>>
      } else {
        tensors.push(yield* parseEntry(name, value, dataStart, fileSize, file))
      }
    }
    // Empty tensors share their neighbour's start, so the end breaks the tie.
    const inOrder = tensors.toSorted((a, b) => a.offset - b.offset || a.length - b.length)
    let end = dataStart
    for (const { name, offset, length } of inOrder) {
      if (offset < end) return yield* broken(file, `has a tensor ${quoted(name)} that overlaps the one before it`)
      if (offset > end)
        return yield* broken(file, `has a hole of ${offset - end} bytes before its tensor ${quoted(name)}`)
      end = offset + length
    }
    if (end !== fileSize) {
      return yield* broken(file, `has ${fileSize - end} bytes after its last tensor`)
    }
    return { file, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata }
  })

const parseEntry = (
  name: string,
  value: unknown,
  dataStart: number,
  fileSize: number,
  file: string
): Result.Result<TensorInfo, SafetensorsError> => {
  // By hand: a header has as many of these as the model has tensors, and everything waits for it.
  const { data_offsets, dtype, shape } = (Predicate.isObject(value) ? value : {}) as Readonly<Record<string, unknown>>
  if (!isText(dtype) || !isSizes(shape) || !isSizes(data_offsets) || data_offsets.length !== 2) {
    return broken(file, `describes its tensor ${quoted(name)} without a valid dtype, shape and offsets`)
  }
  const [start, end] = data_offsets as readonly [number, number]
  if (!isDType(dtype)) {
    return Result.fail(
      new SafetensorsError({
        file,
        reason: `holds ${quoted(name)} as ${quoted(dtype)}, which Charter does not read; save it as F32, F16 or BF16`
      })
    )
  }
  if (end < start || dataStart + end > fileSize) {
    return broken(file, `places its tensor ${quoted(name)} at bytes ${start} to ${end} of ${fileSize - dataStart}`)
  }
  const needed = count(shape) * elementBytes[dtype]
  if (!Number.isSafeInteger(needed) || needed !== end - start) {
    return broken(file, `has ${end - start} bytes for its tensor ${quoted(name)} of ${dtype} ${shapeText(shape)}`)
  }
  return Result.succeed({ name, file, dtype, shape, offset: dataStart + start, length: end - start })
}

const isDType = (dtype: string): dtype is DType => Object.hasOwn(elementBytes, dtype)
