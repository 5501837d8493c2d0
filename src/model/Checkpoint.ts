/**
 * Checkpoints: Hugging Face model folders.
 *
 * Opening one reads its JSON files and the headers of its safetensors files, not the weights (but for a copy of a tied
 * embedding), and checks that the network finds every tensor it needs, and no layer more.
 */
import { Effect, Schema } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Folder from "../Folder.ts"
import * as AtomicFile from "./AtomicFile.ts"
import { families } from "./Family.ts"
import type { ModelConfig, ModelConfigError } from "./ModelConfig.ts"
import * as Config from "./ModelConfig.ts"
import { CheckpointError, readJson } from "./ModelFile.ts"
import { quoted, reason as reasonOf } from "./Quoted.ts"
import * as RewardHead from "./RewardHead.ts"
import * as Safetensors from "./Safetensors.ts"
import { shapeText } from "./SafetensorsHeader.ts"
import * as ShardIndex from "./ShardIndex.ts"

export { CheckpointError, readJson } from "./ModelFile.ts"

/** An opened model folder. */
export interface Checkpoint {
  /** The folder's absolute path, symbolic links resolved. */
  readonly dir: string
  /**
   * As config.json has it, but not tied where the weights have an output projection that is not the embedding, and tied
   * where a reward model has none.
   */
  readonly config: ModelConfig
  /** Every tensor of the folder by its name in the checkpoint. */
  readonly tensors: ReadonlyMap<string, Safetensors.TensorInfo>
  /** The tokens that end a text; generation stops at each of them. */
  readonly eosTokenIds: ReadonlyArray<number>
  readonly bosTokenId: number | undefined
  readonly padTokenId: number | undefined
}

const TokenId = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const TokenIds = Schema.optionalKey(Schema.NullOr(Schema.Union([TokenId, Schema.Array(TokenId)])))
// A pad token of -1 is an old way to say that there is none.
const PadId = Schema.optionalKey(Schema.NullOr(Schema.Union([Schema.Int, Schema.Array(Schema.Int)])))
const decodeSpecial = Schema.decodeUnknownEffect(
  Schema.Struct({ eos_token_id: TokenIds, bos_token_id: TokenIds, pad_token_id: PadId })
)

/**
 * Opens a model folder.
 *
 * Fails with a `CheckpointError` when the folder is no model or a tensor is missing, has another shape than its
 * configuration says, is of a layer or a parameter of a layer that the configuration does not have or is not made of
 * floats; with a `ModelConfigError` when the network is not one Charter computes;
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
  if (!(yield* Effect.promise(() => isFolder(dir)))) {
    return yield* new CheckpointError({
      file: folder,
      reason: "is a file; give the folder of a Hugging Face model, in which its config.json and weights are"
    })
  }
  const configFile = path.join(dir, "config.json")
  const json = yield* readJson(configFile)
  if (json === undefined) {
    return yield* new CheckpointError({
      file: dir,
      reason: "is not a model because it has no config.json; give the folder of a Hugging Face model"
    })
  }
  const said = yield* Effect.fromResult(Config.fromJson(json, configFile))
  const tensors = yield* ShardIndex.tensors(dir)
  // A model that classifies writes nothing, and transformers saves it without an output projection.
  const headless = RewardHead.classifies(json) && !tensors.has("lm_head.weight")
  const tieEmbeddings = headless || (said.tieEmbeddings && !(yield* hasOwnHead(said, tensors)))
  const config = { ...said, tieEmbeddings }
  yield* checkTensors(dir, config, tensors)

  const generationFile = path.join(dir, "generation_config.json")
  const generation = yield* specialTokens((yield* readJson(generationFile)) ?? {}, generationFile)
  const special = yield* specialTokens(json, configFile)
  const isToken = (id: number) => id >= 0 && id < config.vocabSize
  const given = (key: keyof typeof special) => [generation[key] ?? special[key] ?? []].flat()
  for (const key of ["eos_token_id", "bos_token_id"] as const) {
    const ids = given(key)
    if (ids.length > 0 && !ids.some(isToken)) {
      return yield* new CheckpointError({
        file: generation[key] === undefined ? configFile : generationFile,
        reason: `has the ${key} ${ids.slice(0, 8).join(", ")}, which a vocabulary of ${config.vocabSize} does not have; put the files of one model together`
      })
    }
  }
  const ids = (key: keyof typeof special) =>
    // A config.json may leave out what equals its family's defaults, but null means none.
    [generation[key] ?? (key in special ? (special[key] ?? []) : (families[config.family].defaults[key] ?? []))]
      .flat()
      .filter(isToken)
  return {
    dir,
    config,
    tensors,
    eosTokenIds: ids("eos_token_id"),
    bosTokenId: ids("bos_token_id")[0],
    padTokenId: ids("pad_token_id")[0]
  }
})

/**
 * Whether a model that is said to be tied has an output projection of its own, which then counts, as in transformers 5.
 * One with the embedding's bytes is a copy that some writers leave behind. Of another type it counts as its own, too,
 * which computes the same if its numbers are the embedding's.
 */
const hasOwnHead = (config: ModelConfig, tensors: ReadonlyMap<string, Safetensors.TensorInfo>) => {
  const [embedding, head] = [tensors.get("model.embed_tokens.weight"), tensors.get("lm_head.weight")]
  return config.tieEmbeddings && embedding !== undefined && head !== undefined
    ? Effect.map(Safetensors.equal(embedding, head), (same) => !same)
    : Effect.succeed(false)
}

const isFolder = (dir: string): Promise<boolean> =>
  fs.stat(dir).then(
    (stat) => stat.isDirectory(),
    () => false
  )

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

const floats: ReadonlySet<string> = new Set(["F32", "F16", "BF16"])

/** What a layer computes with: where there is more of it than a network has, the network is another one. */
const isParameter = /\.(?:weight|bias)$/

const checkTensors = Effect.fnUntraced(function* (
  dir: string,
  config: ModelConfig,
  tensors: ReadonlyMap<string, Safetensors.TensorInfo>
): Effect.fn.Return<void, CheckpointError> {
  const parameters = Config.parameters(config)
  for (const [name, shape] of parameters) {
    const tensor = tensors.get(name)
    if (tensor === undefined) {
      return yield* new CheckpointError({
        file: dir,
        reason: `has no tensor ${name}, which its config.json asks for; save the whole model again`
      })
    }
    // Before the shape: weights that were quantised are packed into another one.
    if (!floats.has(tensor.dtype)) {
      return yield* new CheckpointError({
        file: tensor.file,
        reason: `holds ${name} as ${tensor.dtype}; save the model as F32, F16 or BF16`
      })
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((n, axis) => n !== shape[axis])) {
      return yield* new CheckpointError({
        file: tensor.file,
        reason: `holds ${name} of shape ${shapeText(tensor.shape)} where config.json asks for ${shapeText(shape)}; put the files of one model together`
      })
    }
  }
  // Other tensors that nothing asks for, such as the frequencies of rotary positions, are left alone.
  for (const { file, name } of tensors.values()) {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1]
    if (layer !== undefined && Number(layer) >= config.layers) {
      return yield* new CheckpointError({
        file,
        reason: `holds ${quoted(name)}, of layer ${layer} counted from 0, though config.json has num_hidden_layers ${config.layers}; put the files of one model together`
      })
    }
    if (layer !== undefined && isParameter.test(name) && !parameters.has(name)) {
      return yield* new CheckpointError({
        file,
        reason: `holds ${quoted(name)}, a parameter that the network of config.json does not have and that would be left out; put the files of one model together`
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
  yield* onDisk(dir, async () => Folder.makeUnsafe(dir))
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
