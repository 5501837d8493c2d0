/**
 * Safetensors files: named tensors behind a JSON header.
 *
 * A file is an 8-byte little-endian header length, the header, and the tensors' bytes without a hole. Numbers are
 * little-endian, as on every machine ONNX Runtime runs on.
 *
 * Format: https://huggingface.co/docs/safetensors.
 */
import { Effect, Result } from "effect"
import * as fs from "node:fs/promises"
import * as AtomicFile from "./AtomicFile.ts"
import * as HalfFloat from "./HalfFloat.ts"
import { quoted, reason } from "./Quoted.ts"
import type { File, TensorInfo } from "./SafetensorsHeader.ts"
import * as Header from "./SafetensorsHeader.ts"

export { parseHeader, SafetensorsError } from "./SafetensorsHeader.ts"
export type { DType, File, TensorInfo } from "./SafetensorsHeader.ts"

interface Named {
  readonly name: string
  readonly shape: ReadonlyArray<number>
}

/** A tensor of floats to write, as F32 unless said otherwise. */
export interface FloatTensor extends Named {
  /** Row-major elements; as many as the shape says. */
  readonly data: Float32Array
  readonly dtype?: "F32" | "F16" | "BF16"
}

/** A tensor to write. */
export type Tensor =
  | FloatTensor
  | (Named & { readonly data: BigInt64Array; readonly dtype: "I64" })
  | (Named & { readonly data: Int32Array; readonly dtype: "I32" })
  | (Named & { readonly data: Int8Array; readonly dtype: "I8" })
  | (Named & { readonly data: Uint8Array; readonly dtype: "U8" | "BOOL" })

/** Node reads at most 2 GiB in one call. */
const maxReadBytes = 1 << 30

const ioError = (file: string, doing: string) => (cause: unknown) =>
  new Header.SafetensorsError({
    file,
    reason: `cannot be ${doing}: ${reason(cause)}`
  })

/** Reads `length` bytes at `offset`; shorter only where the file ends. */
const readBytes = async (handle: fs.FileHandle, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
  const bytes = new Uint8Array(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, maxReadBytes), offset + done)
    if (bytesRead === 0) return bytes.subarray(0, done)
    done += bytesRead
  }
  return bytes
}

const withFile = <A>(
  file: string,
  use: (handle: fs.FileHandle) => Promise<A>
): Effect.Effect<A, Header.SafetensorsError> =>
  Effect.tryPromise({
    try: async () => {
      // A pipe or a device would be waited for without end.
      if (!(await fs.stat(file)).isFile()) throw new Error("it is no file")
      const handle = await fs.open(file, "r")
      try {
        return await use(handle)
      } finally {
        await handle.close()
      }
    },
    catch: ioError(file, "read")
  })

/** Reads a file's header; no tensor's data is touched. Fails when the file is missing or breaks the format. */
export const read = (file: string): Effect.Effect<File, Header.SafetensorsError> =>
  Effect.flatMap(
    withFile(file, async (handle) => {
      const { size } = await handle.stat()
      const prefix = await readBytes(handle, 0, Math.min(size, Header.prefixBytes))
      const length = Header.headerLength(prefix, size, file)
      // A bad length is reported by Header.parseHeader, without reading what it asks for.
      if (Result.isFailure(length)) return { bytes: prefix, size }
      return { bytes: await readBytes(handle, 0, Header.prefixBytes + length.success), size }
    }),
    ({ bytes, size }) => Effect.fromResult(Header.parseHeader(bytes, size, file))
  )

/** `length` bytes of a tensor from its byte `from` on; all of them unless said otherwise. */
const readData = Effect.fnUntraced(function* (
  info: TensorInfo,
  from = 0,
  length = info.length
): Effect.fn.Return<ArrayBuffer, Header.SafetensorsError> {
  const bytes = yield* withFile(info.file, (handle) => readBytes(handle, info.offset + from, length))
  if (bytes.length !== length) {
    return yield* Effect.fromResult(Header.broken(info.file, `ends inside its tensor ${quoted(info.name)}`))
  }
  return bytes.buffer
})

/** Reads a tensor of floats (F32, F16 or BF16) as 32-bit floats, row-major. Other element types are an error. */
export const load = Effect.fnUntraced(function* (
  info: TensorInfo
): Effect.fn.Return<Float32Array, Header.SafetensorsError> {
  switch (info.dtype) {
    case "F32":
      return new Float32Array(yield* readData(info))
    case "F16":
      return HalfFloat.fromF16(new Uint16Array(yield* readData(info)))
    case "BF16":
      return HalfFloat.fromBf16(new Uint16Array(yield* readData(info)))
    default:
      return yield* new Header.SafetensorsError({
        file: info.file,
        reason: `holds ${quoted(info.name)} as ${info.dtype} where floats are needed; save it as F32, F16 or BF16`
      })
  }
})

/** Two tensors of gigabytes are compared in pieces of so many bytes. */
const pieceBytes = 1 << 23

/** Whether two tensors have the same type, shape and bytes. Reads as far as the first piece that differs. */
export const equal = Effect.fnUntraced(function* (
  a: TensorInfo,
  b: TensorInfo
): Effect.fn.Return<boolean, Header.SafetensorsError> {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return false
  for (let from = 0; from < a.length; from += pieceBytes) {
    const length = Math.min(pieceBytes, a.length - from)
    const [left, right] = [yield* readData(a, from, length), yield* readData(b, from, length)]
    if (!Buffer.from(left).equals(Buffer.from(right))) return false
  }
  return true
})

/**
 * Reads a tensor of integers (I64, I32, I16, I8, U8 or BOOL) as numbers, row-major. Fails for floats, for integers that a
 * number does not hold exactly, and for a BOOL that is neither 0 nor 1.
 */
export const loadIntegers = Effect.fnUntraced(function* (
  info: TensorInfo
): Effect.fn.Return<Array<number>, Header.SafetensorsError> {
  const integers = yield* integersOf(info)
  const wrong = integers.find((n) => !Number.isSafeInteger(n) || (info.dtype === "BOOL" && n > 1))
  if (wrong === undefined) return integers
  return yield* new Header.SafetensorsError({
    file: info.file,
    reason: `holds ${wrong} in ${quoted(info.name)}, which is no ${info.dtype} that can be used; save it again`
  })
})

const integersOf = Effect.fnUntraced(function* (
  info: TensorInfo
): Effect.fn.Return<Array<number>, Header.SafetensorsError> {
  switch (info.dtype) {
    case "I64":
      return Array.from(new BigInt64Array(yield* readData(info)), Number)
    case "I32":
      return Array.from(new Int32Array(yield* readData(info)))
    case "I16":
      return Array.from(new Int16Array(yield* readData(info)))
    case "I8":
      return Array.from(new Int8Array(yield* readData(info)))
    case "U8":
    case "BOOL":
      return Array.from(new Uint8Array(yield* readData(info)))
    default:
      return yield* new Header.SafetensorsError({
        file: info.file,
        reason: `holds ${quoted(info.name)} as ${info.dtype} where integers are needed; save it as I64`
      })
  }
})

/**
 * Writes a file: beside its place first, then renamed, so a reader sees the old file or the whole new one.
 *
 * The larger element type comes first and names are sorted within it, as the reference writer does, which keeps every
 * tensor aligned. `metadata` is `{ format: "pt" }` unless given, without which transformers refuses a file. Fails when
 * a name is repeated or reserved, when a tensor's data does not fill its shape, or when the disk refuses.
 */
export const write = Effect.fnUntraced(function* (
  file: string,
  tensors: Iterable<Tensor>,
  metadata: Readonly<Record<string, string>> = { format: "pt" }
): Effect.fn.Return<void, Header.SafetensorsError> {
  const width = (tensor: Tensor) => Header.elementBytes[tensor.dtype ?? "F32"]
  const sorted = [...tensors].toSorted(
    (a, b) => width(b) - width(a) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  )
  // No prototype: a tensor may have any name.
  const header: Record<string, unknown> = Object.assign(Object.create(null), { __metadata__: metadata })
  let offset = 0
  for (const tensor of sorted) {
    if (Object.hasOwn(header, tensor.name)) {
      return yield* new Header.SafetensorsError({
        file,
        reason: `cannot hold two entries named ${tensor.name}; rename one`
      })
    }
    if (tensor.data.length !== Header.count(tensor.shape)) {
      return yield* new Header.SafetensorsError({
        file,
        reason: `cannot hold ${tensor.name} of shape ${Header.shapeText(tensor.shape)} with ${tensor.data.length} elements; give as many as the shape says`
      })
    }
    const end = offset + tensor.data.length * width(tensor)
    header[tensor.name] = { dtype: tensor.dtype ?? "F32", shape: tensor.shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  // Spaces up to a multiple of 8 keep the data aligned.
  const start = new Uint8Array(Header.prefixBytes + Math.ceil(json.length / 8) * 8).fill(0x20)
  new DataView(start.buffer).setBigUint64(0, BigInt(start.length - Header.prefixBytes), true)
  start.set(json, Header.prefixBytes)
  yield* Effect.tryPromise({
    try: () => AtomicFile.write(file, parts(start, sorted)),
    catch: ioError(file, "written")
  })
})

/** The bytes of a file, one tensor at a time: halves are made when their turn comes. */
function* parts(start: Uint8Array, sorted: ReadonlyArray<Tensor>): Generator<Uint8Array> {
  yield start
  for (const tensor of sorted) {
    const elements =
      tensor.dtype === "F16"
        ? HalfFloat.toF16(tensor.data)
        : tensor.dtype === "BF16"
          ? HalfFloat.toBf16(tensor.data)
          : tensor.data
    yield new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength)
  }
}
