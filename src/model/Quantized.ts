/**
 * Quantized: the linear maps of a checkpoint in 8 bits, made once and kept in the user's cache.
 *
 * Each output of a map has a scale of its own: w ≈ q · s with s = max |w| / 127 and q a whole number in [-127, 127]
 * (the weights of LLM.int8(), Dettmers et al. 2022, without its outliers). The maps of a layer are a file whose name is
 * the hash of the weights that it was made of, so other weights never meet it, and a layer that several models share is
 * kept once. The folder may be removed at any time.
 */
import { Effect } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { closeSync, openSync, readSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as CacheHome from "../hub/CacheHome.ts"
import type { Checkpoint } from "./Checkpoint.ts"
import { linears } from "./ModelConfig.ts"
import { CheckpointError } from "./ModelFile.ts"
import { reason } from "./Quoted.ts"
import * as Safetensors from "./Safetensors.ts"

/** A quantised map: int8 [in, out] and its scales, float32 [out]. */
export interface Matrix {
  readonly weight: Safetensors.TensorInfo
  readonly scale: Safetensors.TensorInfo
}

/** By the map's path, such as `model.layers.0.mlp.up_proj`; the output projection is `lm_head`. */
export type Quantized = ReadonlyMap<string, Matrix>

/** What computations are made in: 32-bit floats, or frozen linear maps in 8 bits. */
export type Precision = "fp32" | "int8"

/** Where quantised weights are kept. */
export const cacheFolder = (env?: CacheHome.Variables): string => path.join(CacheHome.cacheHome(env), "charter", "int8")

/** Changes with what {@link quantize} makes: files of another version are not looked at. */
const version = "1"

/** Columns that are turned at a time: their rows of the result are in the processor's cache together. */
const block = 64

/** Quantises w [out, in], row-major, to int8 [in, out] with a scale for each output. */
export const quantize = (
  w: Float32Array,
  outputs: number,
  inputs: number
): { readonly weight: Int8Array; readonly scale: Float32Array } => {
  const weight = new Int8Array(outputs * inputs)
  const scale = new Float32Array(outputs)
  const inverse = new Float64Array(outputs)
  for (let o = 0; o < outputs; o++) {
    let most = 0
    for (let i = o * inputs, end = i + inputs; i < end; i++) {
      const x = Math.abs(w[i]!)
      if (x > most) most = x
    }
    scale[o] = most / 127
    inverse[o] = most === 0 ? 0 : 127 / most
  }
  for (let from = 0; from < inputs; from += block) {
    const to = Math.min(inputs, from + block)
    for (let o = 0; o < outputs; o++) {
      const factor = inverse[o]!
      for (let i = from; i < to; i++) weight[i * outputs + o] = Math.round(w[o * inputs + i]! * factor)
    }
  }
  return { weight, scale }
}

interface Part {
  readonly path: string
  readonly tensor: Safetensors.TensorInfo
}

/** The maps of each file: those of a layer, and the output projection. */
const groups = ({ config, tensors }: Checkpoint): ReadonlyArray<ReadonlyArray<Part>> => {
  const head = config.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"
  const maps = linears(config).map(({ path }): Part => ({ path, tensor: tensors.get(`${path}.weight`)! }))
  const layers = Map.groupBy(maps, ({ path }) => path.split(".")[2])
  return [...layers.values(), [{ path: "lm_head", tensor: tensors.get(head)! }]]
}

/** The hash of a file's contents, by which it is named. */
const hashOf = (maps: ReadonlyArray<Part>): string => {
  const hash = createHash("sha256").update(`charter int8 ${version}`)
  for (const { path, tensor } of maps) {
    hash.update(JSON.stringify([path, tensor.dtype, tensor.shape]))
    addTo(hash, tensor)
  }
  return hash.digest("hex").slice(0, 32)
}

/** One buffer for all reads: a fresh one for each tensor would cost more than the hashing. */
const chunk = Buffer.allocUnsafe(1 << 20)

/** Synchronous, as ONNX Runtime is: this runs where sessions live, in a thread of its own. */
const addTo = (hash: ReturnType<typeof createHash>, { file, length, offset }: Safetensors.TensorInfo) => {
  const handle = openSync(file, "r")
  try {
    for (let done = 0; done < length;) {
      const bytesRead = readSync(handle, chunk, 0, Math.min(chunk.length, length - done), offset + done)
      if (bytesRead === 0) throw new Error("it ends inside its tensors")
      hash.update(chunk.subarray(0, bytesRead))
      done += bytesRead
    }
  } finally {
    closeSync(handle)
  }
}

/** The maps of a kept file, if it is there and whole. */
const kept = Effect.fnUntraced(function* (file: string, maps: ReadonlyArray<Part>) {
  const found = yield* Effect.option(Safetensors.read(file))
  if (found._tag === "None") return undefined
  const { metadata, tensors } = found.value
  const matrices = maps.map(({ path, tensor }) => {
    const [outputs, inputs] = tensor.shape
    const weight = tensors.get(`${path}.weight`)
    const scale = tensors.get(`${path}.scale`)
    const fits =
      weight?.dtype === "I8" && weight.shape.join() === `${inputs},${outputs}` && scale?.shape.join() === `${outputs}`
    return fits ? ([path, { weight, scale } satisfies Matrix] as const) : undefined
  })
  if (matrices.some((matrix) => matrix === undefined)) return undefined
  const digest = yield* Effect.option(
    Effect.try({
      try: () => {
        const hash = createHash("sha256")
        for (const { path } of maps) {
          addTo(hash, tensors.get(`${path}.weight`)!)
          addTo(hash, tensors.get(`${path}.scale`)!)
        }
        return hash.digest("hex")
      },
      catch: reason
    })
  )
  // A disk that lost some of it would change every result without a word.
  return digest._tag === "Some" && digest.value === metadata["digest"] ? matrices.map((matrix) => matrix!) : undefined
})

/** Makes the file of some maps. */
const keep = Effect.fnUntraced(function* (file: string, maps: ReadonlyArray<Part>) {
  const out: Array<Safetensors.Tensor> = []
  const hash = createHash("sha256")
  for (const { path, tensor } of maps) {
    const [outputs, inputs] = tensor.shape as [number, number]
    const { scale, weight } = quantize(yield* Safetensors.load(tensor), outputs, inputs)
    hash.update(weight).update(new Uint8Array(scale.buffer))
    out.push({ name: `${path}.weight`, shape: [inputs, outputs], data: weight, dtype: "I8" })
    out.push({ name: `${path}.scale`, shape: [outputs], data: scale })
  }
  // Under a name of its own first: what another process has mapped is never written to.
  const mine = `${file}.${randomBytes(4).toString("hex")}`
  yield* Safetensors.write(mine, out, { format: "pt", digest: hash.digest("hex") })
  yield* Effect.tryPromise({
    try: () => fs.rename(mine, file),
    catch: (cause) => new CheckpointError({ file, reason: `cannot be written: ${reason(cause)}` })
  })
})

/**
 * The quantised maps of a checkpoint, made where the folder does not have them.
 *
 * Fails with a `CheckpointError` when the folder cannot be written, and with a `SafetensorsError` when the checkpoint's
 * own files cannot be read.
 */
export const open = Effect.fn("Quantized.open")(function* (
  checkpoint: Checkpoint,
  folder: string = cacheFolder()
): Effect.fn.Return<Quantized, CheckpointError | Safetensors.SafetensorsError> {
  yield* Effect.tryPromise({
    try: () => fs.mkdir(folder, { recursive: true }),
    catch: (cause) =>
      new CheckpointError({
        file: folder,
        reason: `cannot be made for quantised weights (${reason(cause)}); set XDG_CACHE_HOME to a folder of yours`
      })
  })
  const dir = yield* Effect.promise(() => fs.realpath(folder))
  const all = new Map<string, Matrix>()
  for (const maps of groups(checkpoint)) {
    const hash = yield* Effect.try({
      try: () => hashOf(maps),
      catch: (cause) => new CheckpointError({ file: checkpoint.dir, reason: `cannot be read: ${reason(cause)}` })
    })
    const file = path.join(dir, `${hash}.safetensors`)
    let found = yield* kept(file, maps)
    if (found === undefined) {
      yield* keep(file, maps)
      found = yield* kept(file, maps)
    }
    if (found === undefined) {
      return yield* new CheckpointError({ file, reason: "is not what was just written; check the disk" })
    }
    for (const [path, matrix] of found) all.set(path, matrix)
  }
  return all
})
