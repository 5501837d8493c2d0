/**
 * LoRA adapters: low-rank changes to a model's linear maps, in PEFT's files.
 *
 * An adapted map computes `y = W x + (alpha / rank) B (A x)` with A [rank, in] and B [out, rank]
 * (https://arxiv.org/abs/2106.09685); rank and alpha may differ from map to map. A reward model is an adapter with a
 * `score` head [1, hidden] more, and an adapter may replace whole modules, such as the output projection.
 */
import { Effect, Result, Schema } from "effect"
import * as path from "node:path"
import * as Folder from "../Folder.ts"
import * as HubCache from "../hub/HubCache.ts"
import * as Random from "../Random.ts"
import * as AtomicFile from "./AtomicFile.ts"
import * as ModelFile from "./ModelFile.ts"
import * as LoraPlan from "./LoraPlan.ts"
import type { TaskType } from "./LoraPlan.ts"
import * as LoraTargets from "./LoraTargets.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import { linears } from "./ModelConfig.ts"
import * as PeftConfig from "./PeftConfig.ts"
import { quoted, reason as reasonOf } from "./Quoted.ts"
import * as RewardHead from "./RewardHead.ts"
import * as Safetensors from "./Safetensors.ts"

export type { TaskType } from "./LoraPlan.ts"

/** An adapter that cannot be made, read, written or used with the model at hand. */
export class LoraError extends Schema.TaggedError<LoraError>()("LoraError", {
  /** The adapter's folder or a file in it; for a new adapter, the words "LoRA configuration". */
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** How an adapter is made: its rank, its alpha and which linear maps it changes, with exceptions. */
export interface LoraConfig extends LoraTargets.Targets {}

/** A trainable tensor; `data` is row-major. */
export interface LoraTensor {
  readonly shape: ReadonlyArray<number>
  readonly data: Float32Array
}

/** An adapter with its weights. */
export interface Adapter {
  readonly config: LoraConfig
  readonly taskType: TaskType
  /**
   * By name: `model.layers.0.self_attn.q_proj.lora_A` [rank, in] and `.lora_B` [out, rank] for every adapted map, the
   * parameters of the modules to save by their own names, such as `lm_head.weight`, and `score` [1, hidden] where the
   * task type is SEQ_CLS.
   */
  readonly tensors: ReadonlyMap<string, LoraTensor>
  /** The factor on B A of each adapted map, by its path. */
  readonly scales: ReadonlyMap<string, number>
}

/** The names of all linear maps of a model's layers, the usual targets. */
export const allTargets = (model: ModelConfig): ReadonlyArray<string> => LoraTargets.names(linears(model))

/**
 * A new adapter, a function of its arguments alone.
 *
 * A is normal with variance 1/in and B zero, so that the adapted model starts as its base; a `score` head, if asked
 * for, is as `scoreHead` makes it. Fails when a rank or an alpha is no positive number or a target fits no map.
 */
export const init = (
  model: ModelConfig,
  config: LoraConfig,
  seed: number,
  options?: { readonly score?: boolean }
): Result.Result<Adapter, LoraError> => {
  const fail = (reason: string) => Result.fail(new LoraError({ file: "LoRA configuration", reason }))
  const ranks = [config.rank, ...Object.values(config.rankPattern ?? {})]
  const rank = ranks.find((r) => !Number.isInteger(r) || r < 1)
  if (rank !== undefined) return fail(`has the rank ${rank}; give a whole number from 1 on`)
  const most = Math.max(...linears(model).flatMap((map) => [map.in, map.out]))
  const above = ranks.find((r) => r > most)
  if (above !== undefined) return fail(`has the rank ${above}, and no linear map is larger than ${most}`)
  const alpha = [config.alpha, ...Object.values(config.alphaPattern ?? {})].find((a) => !Number.isFinite(a) || a <= 0)
  if (alpha !== undefined) return fail(`has the alpha ${alpha}; give a number above 0`)
  const known = allTargets(model)
  const all = linears(model)
  const stray =
    typeof config.targets === "string"
      ? undefined
      : config.targets.find((target) => !all.some(({ path }) => LoraTargets.endsIn(target, path)))
  if (stray !== undefined) {
    return fail(`has the target ${stray}, which no linear map of the model has; give some of ${known.join(", ")}`)
  }
  if (config.targets.length === 0) return fail(`has no targets; give some of ${known.join(", ")}`)
  if ((config.modulesToSave ?? []).length > 0) {
    return fail("has modules to save, which Charter reads but does not begin; leave them out")
  }
  const taskType = options?.score === true ? "SEQ_CLS" : "CAUSAL_LM"
  const planned = LoraPlan.plan(model, config, taskType)
  if (Result.isFailure(planned)) return fail(planned.failure)
  const { scales, shapes } = planned.success
  const tensors = new Map<string, LoraTensor>()
  for (const [name, shape] of shapes) {
    if (name === "score") tensors.set(name, scoreHead(model, seed))
    else if (name.endsWith(".lora_B")) tensors.set(name, { shape, data: new Float32Array(shape[0]! * shape[1]!) })
    else tensors.set(name, normal(shape, 1 / Math.sqrt(shape[1]!), seed, name))
  }
  return Result.succeed({ config, taskType, tensors, scales })
}

/** The head of a new reward model, [1, hidden], normal with standard deviation 0.02. */
export const scoreHead = (model: ModelConfig, seed: number): LoraTensor =>
  normal([1, model.hiddenSize], 0.02, seed, "score")

/** An adapter with a score head: its own, or a new one. */
export const withScore = (adapter: Adapter, model: ModelConfig, seed: number): Adapter =>
  adapter.tensors.has("score")
    ? adapter
    : { ...adapter, taskType: "SEQ_CLS", tensors: new Map(adapter.tensors).set("score", scoreHead(model, seed)) }

const normal = (shape: ReadonlyArray<number>, std: number, seed: number, name: string): LoraTensor => {
  const random = Random.make(seed, "lora", name)
  return { shape, data: Float32Array.from({ length: shape[0]! * shape[1]! }, () => std * random.normal()) }
}

const configName = "adapter_config.json"
const weightsName = "adapter_model.safetensors"
const prefix = "base_model.model."
const suffix = ".weight"

const asLoraError = ({ file, reason }: { readonly file: string; readonly reason: string }) =>
  new LoraError({ file, reason })

/** Nothing is adapted. */
export const nothing: LoraConfig = { rank: 1, alpha: 1, targets: [] }

/** The head of a reward model that is a whole model folder, as an adapter that changes nothing else, if it is one. */
export const wholeReward = Effect.fnUntraced(function* (
  dir: string,
  model: ModelConfig | undefined
): Effect.fn.Return<Adapter | undefined, LoraError | ModelFile.CheckpointError | Safetensors.SafetensorsError> {
  if (!(yield* RewardHead.isIn(dir))) return undefined
  const score = yield* RewardHead.read(dir)
  if (model !== undefined && score.shape[1] !== model.hiddenSize) {
    const reason = `has a head of width ${score.shape[1]}, and the model is of width ${model.hiddenSize}; put the files of one model together`
    return yield* new LoraError({ file: dir, reason })
  }
  return {
    config: nothing,
    taskType: "SEQ_CLS",
    tensors: new Map([["score", score]]),
    scales: new Map()
  }
})

/**
 * Reads an adapter from a PEFT folder.
 *
 * With a `model`, its tensors must be exactly those its configuration makes for that model. Of a reward model that is a
 * whole model folder, its head is read, as an adapter that changes nothing: it belongs to that folder's model. Fails with a `LoraError`
 * when the folder is no adapter, uses a feature of PEFT that Charter does not compute (named in the error) or belongs
 * to another model; with a `SafetensorsError` when the weight file is damaged.
 */
export const read = Effect.fn("Lora.read")(function* (
  dir: string,
  model?: ModelConfig
): Effect.fn.Return<Adapter, LoraError | Safetensors.SafetensorsError> {
  const configFile = path.join(dir, configName)
  const json = yield* Effect.mapError(ModelFile.readJson(configFile), asLoraError)
  if (json === undefined) {
    const head = yield* Effect.mapError(wholeReward(dir, model), asLoraError)
    if (head !== undefined) return head
    return yield* new LoraError({
      file: dir,
      reason: `is not an adapter because it has no ${configName}; give a folder that PEFT or Charter saved`
    })
  }
  const peft = yield* Effect.fromResult(
    Result.mapError(PeftConfig.fromJson(json), (reason) => new LoraError({ file: configFile, reason }))
  )
  const { taskType, ...config } = peft
  const weightsFile = path.join(dir, weightsName)
  if (!(yield* ModelFile.exists(weightsFile))) {
    const reason = `has an ${configName} but no ${weightsName}; save the adapter's weights as safetensors`
    return yield* new LoraError({ file: dir, reason })
  }
  const infos = yield* Safetensors.read(weightsFile)
  const names = new Map<string, Safetensors.TensorInfo>()
  for (const info of infos.tensors.values()) {
    const adapted = outside.exec(info.name)?.[1]
    if (adapted !== undefined) {
      return yield* new LoraError({
        file: weightsFile,
        reason: `holds a LoRA of ${adapted}, and Charter computes one of the maps in a model's layers alone; train the adapter with ${adapted} in modules_to_save, or without it`
      })
    }
    const key = keyOf(info.name, config)
    if (key === undefined) {
      const remedy = resized.test(info.name)
        ? "PEFT saves it where the model was given more tokens: merge the adapter into that model, and save it whole"
        : "save the adapter without it"
      return yield* new LoraError({
        file: weightsFile,
        reason: `holds ${quoted(info.name)}, which is no part of a LoRA that Charter computes; ${remedy}`
      })
    }
    if (!LoraPlan.isUnused(key, taskType)) names.set(key, info)
  }
  const paths = [...names.keys()].filter(LoraPlan.isFactor).map((key) => key.slice(0, -".lora_A".length))
  const adaptations = yield* Effect.fromResult(
    Result.mapError(
      LoraTargets.adaptations(config, [...new Set(paths)]),
      (reason) => new LoraError({ file: configFile, reason })
    )
  )
  // Shapes are compared before the data is read, which is as long as the file.
  const fails = (reason: string) => new LoraError({ file: dir, reason })
  const inconsistency = LoraPlan.inconsistency(names, adaptations, taskType)
  if (inconsistency !== undefined) return yield* fails(inconsistency)
  let order = [...names.keys()]
  if (model !== undefined) {
    const plan = yield* Effect.fromResult(Result.mapError(LoraPlan.plan(model, config, taskType), fails))
    const mismatch = LoraPlan.mismatch(names, plan)
    if (mismatch !== undefined) return yield* fails(mismatch)
    order = [...plan.shapes.keys()]
  }
  const tensors = new Map<string, LoraTensor>()
  for (const key of order) {
    const info = names.get(key)!
    const data = yield* Safetensors.load(info)
    const at = data.findIndex((x) => !Number.isFinite(x))
    if (at >= 0) {
      return yield* new LoraError({
        file: weightsFile,
        reason: `holds ${data[at]} in ${quoted(info.name)}; take the adapter of an earlier step`
      })
    }
    tensors.set(key, { shape: info.shape, data })
  }
  const scales = new Map(Array.from(adaptations, ([key, { scale }]) => [key, scale]))
  return { config, taskType, tensors, scales }
})

/** What PEFT names the parts of an adapted module that is in no layer; it saves the module's own weight, too. */
const outside = /\.(lm_head|embed_tokens)\.(?:lora_|base_layer\.)/

/** What PEFT saves without being asked to, where the model's embedding has another size than its base's. */
const resized = /\.(?:lm_head|embed_tokens)\.weight$/

/** A tensor's key from its name in PEFT's file; undefined where Charter has no use for it. */
const keyOf = (name: string, { modulesToSave = [] }: LoraConfig): string | undefined => {
  if (!name.startsWith(prefix)) return undefined
  const parameter = name.slice(prefix.length)
  const key = parameter.endsWith(suffix) ? parameter.slice(0, -suffix.length) : parameter
  if (parameter !== key && (key === "score" || LoraPlan.isFactor(key))) return key
  return modulesToSave.some((module) => LoraTargets.isOf(module, parameter)) ? parameter : undefined
}

/** A tensor's name in PEFT's file. */
const nameOf = (key: string): string => prefix + key + (key === "score" || LoraPlan.isFactor(key) ? suffix : "")

/**
 * Writes an adapter as a PEFT folder that `PeftModel.from_pretrained` loads.
 *
 * `baseModel` is the folder or Hub name of the model it belongs to; of a folder in the hub's cache, its name and commit are
 * written. Each file is replaced whole, the weights before the
 * configuration, so a new folder with a configuration is complete.
 */
export const write = Effect.fn("Lora.write")(function* (
  dir: string,
  adapter: Adapter,
  baseModel: string
): Effect.fn.Return<void, LoraError | Safetensors.SafetensorsError> {
  yield* onDisk(dir, async () => Folder.makeUnsafe(dir))
  const named = Array.from(adapter.tensors, ([key, tensor]) => ({ name: nameOf(key), ...tensor }))
  yield* Safetensors.write(path.join(dir, weightsName), named)
  const configFile = path.join(dir, configName)
  const base = HubCache.snapshotOf(baseModel) ?? { name: baseModel, revision: null }
  const json = PeftConfig.toJson({ ...adapter.config, taskType: adapter.taskType }, base)
  yield* onDisk(configFile, () => AtomicFile.writeJson(configFile, json))
})

const onDisk = <A>(file: string, run: () => Promise<A>): Effect.Effect<A, LoraError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => new LoraError({ file, reason: `cannot be written: ${reasonOf(cause)}` })
  })
