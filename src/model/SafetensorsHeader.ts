/**
 * The header of a safetensors file: which tensors it holds and where.
 *
 * The header of a downloaded file is untrusted: every number in it is checked before it is used.
 *
 * Format: https://huggingface.co/docs/safetensors.
 */
import { Result, Schema } from "effect"

/** A safetensors file that cannot be read, does not follow the format, or cannot be written. */
export class SafetensorsError extends Schema.TaggedError<SafetensorsError>()("SafetensorsError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** Bytes of one element of every element type this module knows. */
export const elementBytes = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const

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

const Entry = Schema.Struct({
  dtype: Schema.String,
  shape: Schema.Array(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))),
  data_offsets: Schema.Tuple([Schema.Int, Schema.Int])
})
const decodeEntry = Schema.decodeUnknownResult(Entry)
const decodeMetadata = Schema.decodeUnknownResult(Schema.Record(Schema.String, Schema.String))

/** A failure that another copy of the file would not have. */
export const broken = (file: string, reason: string) =>
  Result.fail(new SafetensorsError({ file, reason: `${reason}; download or save it again` }))

/** How many elements a shape has; not a safe integer when the shape is absurd. */
export const count = (shape: ReadonlyArray<number>): number => shape.reduce((product, n) => product * n, 1)

/** A shape as errors show it. */
export const shapeText = (shape: ReadonlyArray<number>): string => `[${shape.join(", ")}]`

/**
 * The first name an object in `json` has twice, or undefined.
 *
 * `JSON.parse` keeps the last of two equal names without a word, which would let a file hide a tensor behind another.
 * The text must be valid JSON.
 */
const duplicateName = (json: string): string | undefined => {
  const scopes: Array<Set<string> | undefined> = []
  for (let i = 0; i < json.length; i++) {
    const character = json[i]
    if (character === "{") scopes.push(new Set())
    else if (character === "[") scopes.push(undefined)
    else if (character === "}" || character === "]") scopes.pop()
    else if (character === '"') {
      const start = i++
      while (json[i] !== '"') i += json[i] === "\\" ? 2 : 1
      let after = i + 1
      while (/\s/.test(json[after] ?? "")) after++
      if (json[after] !== ":") continue
      const name: string = JSON.parse(json.slice(start, i + 1))
      const scope = scopes.at(-1)
      if (scope?.has(name)) return name
      scope?.add(name)
    }
  }
  return undefined
}

/** The header's length from a file's first 8 bytes. */
export const headerLength = (
  bytes: Uint8Array,
  fileSize: number,
  file: string
): Result.Result<number, SafetensorsError> => {
  if (bytes.length < prefixBytes || fileSize < prefixBytes) {
    return broken(file, `has ${Math.min(bytes.length, fileSize)} bytes, too few for a safetensors file`)
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
    const json = yield* Result.try({
      try: (): Record<string, unknown> => JSON.parse(text),
      catch: () => new SafetensorsError({ file, reason: "has a header that is not JSON; download or save it again" })
    })
    const duplicate = duplicateName(text)
    if (duplicate !== undefined) return yield* broken(file, `names ${JSON.stringify(duplicate)} twice in its header`)

    const dataStart = prefixBytes + headerBytes
    const tensors: Array<TensorInfo> = []
    let metadata: Readonly<Record<string, string>> = {}
    for (const [name, value] of Object.entries(json)) {
      if (name === "__metadata__") {
        const decoded = decodeMetadata(value)
        if (Result.isFailure(decoded)) return yield* broken(file, "has metadata that is not text by name")
        metadata = decoded.success
      } else {
        tensors.push(yield* parseEntry(name, value, dataStart, fileSize, file))
      }
    }
    // Empty tensors share their neighbour's start, so the end breaks the tie.
    const inOrder = tensors.toSorted((a, b) => a.offset - b.offset || a.length - b.length)
    let end = dataStart
    for (const { name, offset, length } of inOrder) {
      if (offset < end) return yield* broken(file, `has a tensor ${name} that overlaps the one before it`)
      if (offset > end) return yield* broken(file, `has a hole of ${offset - end} bytes before its tensor ${name}`)
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
  const decoded = decodeEntry(value)
  if (Result.isFailure(decoded))
    return broken(file, `describes its tensor ${name} without a valid dtype, shape and offsets`)
  const { dtype, shape } = decoded.success
  const [start, end] = decoded.success.data_offsets
  if (!isDType(dtype)) {
    return Result.fail(
      new SafetensorsError({
        file,
        reason: `holds ${name} as ${dtype}, which Charter does not read; save it as one of ${dtypes.join(", ")}`
      })
    )
  }
  if (start < 0 || end < start || dataStart + end > fileSize) {
    return broken(file, `places its tensor ${name} at bytes ${start} to ${end} of ${fileSize - dataStart}`)
  }
  const needed = count(shape) * elementBytes[dtype]
  if (!Number.isSafeInteger(needed) || needed !== end - start) {
    return broken(file, `has ${end - start} bytes for its tensor ${name} of ${dtype} ${shapeText(shape)}`)
  }
  return Result.succeed({ name, file, dtype, shape, offset: dataStart + start, length: end - start })
}

const dtypes = Object.keys(elementBytes)
const isDType = (dtype: string): dtype is DType => Object.hasOwn(elementBytes, dtype)
