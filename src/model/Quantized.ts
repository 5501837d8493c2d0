/**
 * Quantized: the linear maps of a checkpoint in 8 bits, made once and kept in the user's cache.
 *
 * Each output of a map has a scale of its own: w ≈ q · s with s = max |w| / 127 and q a whole number in [-127, 127]
 * (the weights of LLM.int8(), Dettmers et al. 2022, without its outliers). Of maps that read the result of a norm, inputs
 * are divided by factors that make both easier to quantise (see `Smoothing.ts`), and w is multiplied by them.
 *
 * The maps of a layer are a file whose name is the hash of the weights that it was made of, so other weights never meet
 * it, and a layer that several models share, with all that comes before it, is kept once. The folder may be removed at
 * any time.
 */
import { Effect } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { closeSync, openSync, readSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Folder from "../Folder.ts"
import * as CacheHome from "../hub/CacheHome.ts"
import type { Checkpoint } from "./Checkpoint.ts"
import { linears, parameters } from "./ModelConfig.ts"
import { CheckpointError } from "./ModelFile.ts"
import { reason } from "./Quoted.ts"
import * as Safetensors from "./Safetensors.ts"
import * as Smoothing from "./Smoothing.ts"

/** A quantised map: int8 [in, out], its scales, float32 [out], and the factors of its input, float32 [in], if any. */
export interface Matrix {
  readonly weight: Safetensors.TensorInfo
  readonly scale: Safetensors.TensorInfo
  readonly smoothing?: Safetensors.TensorInfo | undefined
}

/** The largest magnitude of each channel [in] of the inputs of linear maps, by their paths. */
export type Activations = ReadonlyMap<string, Float32Array>

/** By the map's path, such as `model.layers.0.mlp.up_proj`; the output projection is `lm_head`. */
export type Quantized = ReadonlyMap<string, Matrix>

/** What computations are made in: 32-bit floats, or frozen linear maps in 8 bits. */
export type Precision = "fp32" | "int8"

/** Where quantised weights are kept. */
export const cacheFolder = (env?: CacheHome.Variables): string => path.join(CacheHome.cacheHome(env), "charter", "int8")

/** Changes with what {@link quantize} makes: files of another version are not looked at. */
const version = "2"

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
  /** The norm whose result it reads, if it reads one's: maps that read the same share their factors. */
  readonly norm: string | undefined
}

/** What a file is made of. */
interface Source {
  readonly maps: ReadonlyArray<Part>
  /** Where it is kept. */
  readonly file: string
}

/**
 * The sources of a checkpoint: each layer, named by all tensors up to its last, as what comes before a layer decides its
 * inputs, and the output projection, by its own.
 */
const sources = (dir: string, { config, tensors }: Checkpoint): ReadonlyArray<Source> => {
  const maps = linears(config).map(({ norm, path }): Part => ({ path, norm, tensor: tensors.get(`${path}.weight`)! }))
  const names = Map.groupBy(parameters(config).keys(), layerOf)
  const named = (hash: string) => path.join(dir, `${hash.slice(0, 32)}.safetensors`)
  // A tied embedding counts twice, and is read once.
  const digests = new Map<string, string>()
  const digestOf = (name: string): string => {
    const known = digests.get(name)
    if (known !== undefined) return known
    const tensor = tensors.get(name)!
    const hash = createHash("sha256").update(JSON.stringify([name, tensor.dtype, tensor.shape]))
    addTo(hash, tensor)
    const digest = hash.digest("hex")
    digests.set(name, digest)
    return digest
  }
  const hashOf = (before: string, names: ReadonlyArray<string>): string =>
    createHash("sha256")
      .update([`charter int8 ${version}`, before, ...names.map(digestOf)].join(" "))
      .digest("hex")
  let before = hashOf(JSON.stringify(config), ["model.embed_tokens.weight"])
  const layers = [...Map.groupBy(maps, ({ path }) => layerOf(path))].map(([layer, maps]): Source => {
    before = hashOf(before, names.get(layer)!)
    return { maps, file: named(before) }
  })
  const head = config.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"
  const projection: Part = { path: "lm_head", norm: undefined, tensor: tensors.get(head)! }
  return [...layers, { maps: [projection], file: named(hashOf("", [head])) }]
}

/** The number of a tensor's layer, such as `0` in `model.layers.0.mlp.up_proj`. */
const layerOf = (name: string): string | undefined => /^model\.layers\.(\d+)\./.exec(name)?.[1]

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
const kept = Effect.fnUntraced(function* ({ file, maps }: Source) {
  const found = yield* Effect.option(Safetensors.read(file))
  if (found._tag === "None") return undefined
  const { metadata, tensors } = found.value
  const matrices = maps.map(({ norm, path, tensor }) => {
    const [outputs, inputs] = tensor.shape
    const weight = tensors.get(`${path}.weight`)
    const scale = tensors.get(`${path}.scale`)
    const smoothing = tensors.get(`${path}.smoothing`)
    const fits =
      weight?.dtype === "I8" &&
      weight.shape.join() === `${inputs},${outputs}` &&
      scale?.shape.join() === `${outputs}` &&
      smoothing?.shape.join() === (norm === undefined ? undefined : `${inputs}`)
    return fits ? ([path, { weight, scale, smoothing } satisfies Matrix] as const) : undefined
  })
  if (matrices.some((matrix) => matrix === undefined)) return undefined
  const digest = yield* Effect.option(
    Effect.try({
      try: () => {
        const hash = createHash("sha256")
        for (const { path } of maps) {
          for (const what of ["weight", "scale", "smoothing"]) {
            const tensor = tensors.get(`${path}.${what}`)
            if (tensor !== undefined) addTo(hash, tensor)
          }
        }
        return hash.digest("hex")
      },
      catch: reason
    })
  )
  // A disk that lost some of it would change every result without a word.
  return digest._tag === "Some" && digest.value === metadata["digest"] ? matrices.map((matrix) => matrix!) : undefined
})

/** Makes a file. */
const keep = Effect.fnUntraced(function* ({ file, maps }: Source, activations: Activations) {
  const out: Array<Safetensors.Tensor> = []
  const hash = createHash("sha256")
  for (const [, parts] of Map.groupBy(maps, ({ norm, path }) => norm ?? path)) {
    const weights = yield* Effect.forEach(parts, ({ tensor }) => Safetensors.load(tensor))
    const seen = activations.get(parts[0]!.path)
    const smoothing = parts[0]!.norm === undefined ? undefined : Smoothing.factors(seen!, weights)
    for (const [i, { path, tensor }] of parts.entries()) {
      const [outputs, inputs] = tensor.shape as [number, number]
      if (smoothing !== undefined) Smoothing.apply(weights[i]!, smoothing)
      const { scale, weight } = quantize(weights[i]!, outputs, inputs)
      hash.update(weight).update(new Uint8Array(scale.buffer))
      out.push({ name: `${path}.weight`, shape: [inputs, outputs], data: weight, dtype: "I8" })
      out.push({ name: `${path}.scale`, shape: [outputs], data: scale })
      if (smoothing === undefined) continue
      hash.update(new Uint8Array(smoothing.buffer))
      out.push({ name: `${path}.smoothing`, shape: [inputs], data: smoothing })
    }
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
 * The quantised maps of a checkpoint, made where the folder does not have them; `activations`, which is asked for then,
 * has the inputs of all maps that read a norm's result.
 *
 * Fails with a `CheckpointError` when the folder cannot be written, and with a `SafetensorsError` when the checkpoint's
 * own files cannot be read.
 */
export const open = Effect.fn("Quantized.open")(function* <E>(
  checkpoint: Checkpoint,
  activations: Effect.Effect<Activations, E>,
  folder: string = cacheFolder()
): Effect.fn.Return<Quantized, E | CheckpointError | Safetensors.SafetensorsError> {
  yield* Effect.try({
    try: () => Folder.makeUnsafe(folder),
    catch: (cause) =>
      new CheckpointError({
        file: folder,
        reason: `cannot be made for quantised weights (${reason(cause)}); set XDG_CACHE_HOME to a folder of yours`
      })
  })
  const dir = yield* Effect.promise(() => fs.realpath(folder))
  const parts = yield* Effect.try({
    try: () => sources(dir, checkpoint),
    catch: (cause) => new CheckpointError({ file: checkpoint.dir, reason: `cannot be read: ${reason(cause)}` })
  })
  const seen = yield* Effect.cached(activations)
  const all = new Map<string, Matrix>()
  for (const part of parts) {
    let found = yield* kept(part)
    if (found === undefined) {
      yield* keep(part, yield* seen)
      found = yield* kept(part)
    }
    if (found === undefined) {
      return yield* new CheckpointError({ file: part.file, reason: "is not what was just written; check the disk" })
    }
    for (const [path, matrix] of found) all.set(path, matrix)
  }
  return all
})
