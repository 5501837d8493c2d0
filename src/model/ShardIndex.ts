/**
 * ShardIndex: the weights of a folder, in one file or in several that `model.safetensors.index.json` lists.
 *
 * An index is untrusted: it must not name a file outside of its folder, and what it says of a tensor is looked up in
 * the file that it names.
 */
import { Effect, Schema } from "effect"
import * as path from "node:path"
import * as ModelFile from "./ModelFile.ts"
import { quoted } from "./Quoted.ts"
import * as Safetensors from "./Safetensors.ts"

/** The name of the one weight file. */
export const wholeName = "model.safetensors"
/** The name of the index of several. */
export const indexName = "model.safetensors.index.json"

const decodeIndex = Schema.decodeUnknownEffect(
  Schema.Struct({ weight_map: Schema.Record(Schema.String, Schema.String) })
)

/** Whether a name is that of a file beside the index, as every index of the hub has it. */
const isBeside = (name: string): boolean => /^[^/\\:\p{Cc}]+$/u.test(name) && name !== "." && name !== ".."

/** The file of each tensor, as a parsed index says. */
export const fromJson = Effect.fnUntraced(function* (
  json: unknown,
  file: string
): Effect.fn.Return<ReadonlyMap<string, string>, ModelFile.CheckpointError> {
  const index = yield* Effect.mapError(
    decodeIndex(json),
    () => new ModelFile.CheckpointError({ file, reason: "has no weight_map of file names; download or save it again" })
  )
  const files = new Map(Object.entries(index.weight_map))
  for (const name of new Set(files.values())) {
    if (!isBeside(name)) {
      return yield* new ModelFile.CheckpointError({
        file,
        reason: `names the weight file "${quoted(name)}", which is not in its folder; download it again`
      })
    }
  }
  return files
})

/** Reads a folder's index; undefined where there is none. */
export const read = Effect.fnUntraced(function* (
  dir: string
): Effect.fn.Return<ReadonlyMap<string, string> | undefined, ModelFile.CheckpointError> {
  const file = path.join(dir, indexName)
  const json = yield* ModelFile.readJson(file)
  return json === undefined ? undefined : yield* fromJson(json, file)
})

/** All tensors of the folder's weight files, by name; of the files only the headers are read. */
export const tensors = Effect.fnUntraced(function* (
  dir: string
): Effect.fn.Return<
  ReadonlyMap<string, Safetensors.TensorInfo>,
  ModelFile.CheckpointError | Safetensors.SafetensorsError
> {
  const whole = path.join(dir, wholeName)
  if (yield* ModelFile.exists(whole)) return (yield* Safetensors.read(whole)).tensors

  const index = yield* read(dir)
  if (index === undefined) {
    return yield* new ModelFile.CheckpointError({
      file: dir,
      reason: `has a config.json but neither ${wholeName} nor ${indexName}; save the model's weights as safetensors`
    })
  }
  const indexFile = path.join(dir, indexName)
  const shards = new Map<string, Safetensors.File>()
  for (const name of new Set(index.values())) {
    const file = path.join(dir, name)
    if (!(yield* ModelFile.exists(file))) {
      return yield* new ModelFile.CheckpointError({
        file: indexFile,
        reason: `names the weight file ${quoted(name)}, which is missing; download it into the same folder`
      })
    }
    shards.set(name, yield* Safetensors.read(file))
  }
  const found = new Map<string, Safetensors.TensorInfo>()
  for (const [name, shard] of index) {
    const tensor = shards.get(shard)!.tensors.get(name)
    if (tensor === undefined) {
      return yield* new ModelFile.CheckpointError({
        file: indexFile,
        reason: `places ${quoted(name)} in ${quoted(shard)}, which does not hold it; download both again`
      })
    }
    found.set(name, tensor)
  }
  return found
})
