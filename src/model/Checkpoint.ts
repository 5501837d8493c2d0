/**
 * Checkpoints: Hugging Face model folders.
 *
 * Opening one reads its JSON files and the headers of its safetensors files, not the weights, and checks that the
 * network finds every tensor it needs.
 */
import { Effect, Schema } from "effect"
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as AtomicFile from "./AtomicFile.ts"
import type { ModelConfig, ModelConfigError } from "./ModelConfig.ts"
import * as Config from "./ModelConfig.ts"
import * as Safetensors from "./Safetensors.ts"

/** A folder that is not a model, or lacks a part of one. */
export class CheckpointError extends Schema.TaggedError<CheckpointError>()("CheckpointError", {
  /** The folder or the file in it. */
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** An opened model folder. */
export interface Checkpoint {
  /** The folder's absolute path, symbolic links resolved. */
  readonly dir: string
  readonly config: ModelConfig
  /** Every tensor of the folder by its name in the checkpoint. */
  readonly tensors: ReadonlyMap<string, Safetensors.TensorInfo>
  /** The tokens that end a text; generation stops at each of them. */
  readonly eosTokenIds: ReadonlyArray<number>
  readonly bosTokenId: number | undefined
  readonly padTokenId: number | undefined
}

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** A parsed JSON file, or undefined where there is none. */
export const readJson = Effect.fnUntraced(function* (file: string): Effect.fn.Return<unknown, CheckpointError> {
  const text = yield* readText(file)
  if (text === undefined) return undefined
  return yield* Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: () => new CheckpointError({ file, reason: "is not valid JSON; download or save it again" })
  })
})

/** A text file, or undefined where there is none. */
export const readText = (file: string): Effect.Effect<string | undefined, CheckpointError> =>
  Effect.tryPromise({
    try: async () => {
      try {
        return await fs.readFile(file, "utf8")
      } catch (cause) {
        if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined
        throw cause
      }
    },
    catch: (cause) => new CheckpointError({ file, reason: `cannot be read: ${reasonOf(cause)}` })
  })

const exists = (file: string): Effect.Effect<boolean> =>
  Effect.promise(() =>
    fs.access(file, constants.F_OK).then(
      () => true,
      () => false
    )
  )

const TokenId = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const TokenIds = Schema.optionalKey(Schema.NullOr(Schema.Union([TokenId, Schema.Array(TokenId)])))
const decodeSpecial = Schema.decodeUnknownEffect(
  Schema.Struct({ eos_token_id: TokenIds, bos_token_id: TokenIds, pad_token_id: TokenIds })
)

const Index = Schema.Struct({ weight_map: Schema.Record(Schema.String, Schema.String) })
const decodeIndex = Schema.decodeUnknownEffect(Index)

/**
 * Opens a model folder.
 *
 * Fails with a `CheckpointError` when the folder is no model or a tensor is missing, has another shape than its
 * configuration says or is not made of floats; with a `ModelConfigError` when the network is not one Charter computes;
 * with a `SafetensorsError` when a weight file is damaged.
 */
export const open = Effect.fn("Checkpoint.open")(function* (
  folder: string
): Effect.fn.Return<Checkpoint, CheckpointError | ModelConfigError | Safetensors.SafetensorsError> {
  const dir = yield* Effect.tryPromise({
    try: () => fs.realpath(folder),
    catch: () =>
      new CheckpointError({ file: folder, reason: "does not exist; give the folder of a Hugging Face model" })
  })
  const configFile = path.join(dir, "config.json")
  const json = yield* readJson(configFile)
  if (json === undefined) {
    return yield* new CheckpointError({
      file: dir,
      reason: "is not a model because it has no config.json; give the folder of a Hugging Face model"
    })
  }
  const config = yield* Effect.fromResult(Config.fromJson(json, configFile))
  const tensors = yield* readTensors(dir)
  yield* checkTensors(dir, config, tensors)

  const generationFile = path.join(dir, "generation_config.json")
  const generation = yield* specialTokens((yield* readJson(generationFile)) ?? {}, generationFile)
  // A config.json may leave out what equals transformers' LlamaConfig.
  const model = { bos_token_id: 1, eos_token_id: 2, ...(yield* specialTokens(json, configFile)) }
  const ids = (key: keyof typeof generation): ReadonlyArray<number> => [generation[key] ?? model[key] ?? []].flat()
  return {
    dir,
    config,
    tensors,
    eosTokenIds: ids("eos_token_id"),
    bosTokenId: ids("bos_token_id")[0],
    padTokenId: ids("pad_token_id")[0]
  }
})

const specialTokens = (json: unknown, file: string) =>
  Effect.mapError(
    decodeSpecial(json),
    () =>
      new CheckpointError({
        file,
        reason:
          "has an eos_token_id, bos_token_id or pad_token_id that is no token id; take the file from the model's own folder"
      })
  )

/** All tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names. */
const readTensors = Effect.fnUntraced(function* (
  dir: string
): Effect.fn.Return<ReadonlyMap<string, Safetensors.TensorInfo>, CheckpointError | Safetensors.SafetensorsError> {
  const whole = path.join(dir, "model.safetensors")
  if (yield* exists(whole)) return (yield* Safetensors.read(whole)).tensors

  const indexFile = path.join(dir, "model.safetensors.index.json")
  const json = yield* readJson(indexFile)
  if (json === undefined) {
    return yield* new CheckpointError({
      file: dir,
      reason:
        "has a config.json but neither model.safetensors nor model.safetensors.index.json; save the model's weights as safetensors"
    })
  }
  const index = yield* Effect.mapError(
    decodeIndex(json),
    () => new CheckpointError({ file: indexFile, reason: "has no weight_map of file names; download or save it again" })
  )
  const shards = new Map<string, Safetensors.File>()
  for (const name of new Set(Object.values(index.weight_map))) {
    // A downloaded index must not name a file outside of its folder.
    if (name !== path.basename(name) || name.includes("\\") || name === "..") {
      return yield* new CheckpointError({
        file: indexFile,
        reason: `names the weight file ${JSON.stringify(name)}, which is not in its folder; download it again`
      })
    }
    shards.set(name, yield* Safetensors.read(path.join(dir, name)))
  }
  const tensors = new Map<string, Safetensors.TensorInfo>()
  for (const [name, shard] of Object.entries(index.weight_map)) {
    const tensor = shards.get(shard)!.tensors.get(name)
    if (tensor === undefined) {
      return yield* new CheckpointError({
        file: indexFile,
        reason: `places ${name} in ${shard}, which does not hold it; download both again`
      })
    }
    tensors.set(name, tensor)
  }
  return tensors
})

const floats: ReadonlySet<string> = new Set(["F32", "F16", "BF16"])

const checkTensors = Effect.fnUntraced(function* (
  dir: string,
  config: ModelConfig,
  tensors: ReadonlyMap<string, Safetensors.TensorInfo>
): Effect.fn.Return<void, CheckpointError> {
  for (const [name, shape] of Config.parameters(config)) {
    const tensor = tensors.get(name)
    if (tensor === undefined) {
      return yield* new CheckpointError({
        file: dir,
        reason: `has no tensor ${name}, which its config.json asks for; save the whole model again`
      })
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((n, axis) => n !== shape[axis])) {
      return yield* new CheckpointError({
        file: tensor.file,
        reason: `holds ${name} of shape [${tensor.shape.join(", ")}] where config.json asks for [${shape.join(", ")}]; put the files of one model together`
      })
    }
    if (!floats.has(tensor.dtype)) {
      return yield* new CheckpointError({
        file: tensor.file,
        reason: `holds ${name} as ${tensor.dtype}; save the model as F32, F16 or BF16`
      })
    }
  }
})

/**
 * Writes a model folder of `config.json` and one `model.safetensors` with all tensors as `dtype`.
 *
 * `config` is the whole config.json as Hugging Face has it, with its `model_type`. The weights are written first, so a
 * folder with a config.json is complete.
 */
export const writeModel = Effect.fn("Checkpoint.writeModel")(function* (
  dir: string,
  config: Readonly<Record<string, unknown>>,
  tensors: Iterable<Omit<Safetensors.FloatTensor, "dtype">>,
  dtype: "F32" | "F16"
): Effect.fn.Return<void, CheckpointError | Safetensors.SafetensorsError> {
  yield* onDisk(dir, () => fs.mkdir(dir, { recursive: true }))
  const typed = Array.from(tensors, (tensor) => ({ ...tensor, dtype }))
  yield* Safetensors.write(path.join(dir, "model.safetensors"), typed)
  const file = path.join(dir, "config.json")
  yield* onDisk(file, () => AtomicFile.writeJson(file, config))
})

const onDisk = <A>(file: string, run: () => Promise<A>): Effect.Effect<A, CheckpointError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => new CheckpointError({ file, reason: `cannot be written: ${reasonOf(cause)}` })
  })
