/**
 * LoRA adapters: low-rank changes to a model's linear maps, in PEFT's files.
 *
 * An adapted map computes `y = W x + (alpha / rank) B (A x)` with A [rank, in] and B [out, rank]
 * (https://arxiv.org/abs/2106.09685); rank and alpha may differ from map to map. A reward model is an adapter with a
 * `score` head [1, hidden] more, and an adapter may replace whole modules, such as the output projection.
 */
import { Effect, Result, Schema } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as HubCache from "../hub/HubCache.ts"
import * as Random from "../Random.ts"
import * as AtomicFile from "./AtomicFile.ts"
import * as ModelFile from "./ModelFile.ts"
import * as LoraTargets from "./LoraTargets.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import { linears, parameters } from "./ModelConfig.ts"
import * as PeftConfig from "./PeftConfig.ts"
import { quoted, reason as reasonOf } from "./Quoted.ts"
import * as Safetensors from "./Safetensors.ts"

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

/** What the adapted model is for: to speak, or to give one score (a reward model). */
export type TaskType = "CAUSAL_LM" | "SEQ_CLS"

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

const embedding = "model.embed_tokens.weight"
const projection = "lm_head.weight"

/**
 * The parameters of a model that an adapter may replace. An output projection that is tied to the embedding has a name
 * of its own here, because an adapter may replace the one and not the other.
 */
const replaceable = (model: ModelConfig): ReadonlyMap<string, ReadonlyArray<number>> =>
  new Map([...parameters(model), [projection, [model.vocabSize, model.hiddenSize]]])

/** What a configuration makes of a model. */
interface Plan {
  /** Name and shape of every tensor of the adapter, in the model's order, `score` last. */
  readonly shapes: ReadonlyMap<string, ReadonlyArray<number>>
  readonly scales: ReadonlyMap<string, number>
}

/** The plan of a configuration for a model; a failure is the end of a sentence about the configuration. */
const plan = (model: ModelConfig, config: LoraConfig, taskType: TaskType): Result.Result<Plan, string> =>
  Result.gen(function* () {
    const chosen = yield* LoraTargets.select(linears(model), config)
    const adaptations = yield* LoraTargets.adaptations(
      config,
      chosen.map(({ path }) => path)
    )
    const shapes = new Map<string, ReadonlyArray<number>>()
    for (const linear of chosen) {
      const { rank } = adaptations.get(linear.path)!
      shapes.set(`${linear.path}.lora_A`, [rank, linear.in])
      shapes.set(`${linear.path}.lora_B`, [linear.out, rank])
    }
    for (const [name, shape] of LoraTargets.saved(replaceable(model), config.modulesToSave)) shapes.set(name, shape)
    if (model.tieEmbeddings && shapes.has(embedding) && !shapes.has(projection)) {
      return yield* Result.fail(
        `replaces the embedding but not the output projection that is tied to it; save lm_head, too`
      )
    }
    if (taskType === "SEQ_CLS") shapes.set("score", [1, model.hiddenSize])
    return { shapes, scales: new Map(Array.from(adaptations, ([path, { scale }]) => [path, scale])) }
  })

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
  const rank = [config.rank, ...Object.values(config.rankPattern ?? {})].find((r) => !Number.isInteger(r) || r < 1)
  if (rank !== undefined) return fail(`has the rank ${rank}; give a whole number from 1 on`)
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
  const planned = plan(model, config, taskType)
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

const normal = (shape: ReadonlyArray<number>, std: number, seed: number, name: string): LoraTensor => {
  const random = Random.make(seed, "lora", name)
  return { shape, data: Float32Array.from({ length: shape[0]! * shape[1]! }, () => std * random.normal()) }
}

const configName = "adapter_config.json"
const weightsName = "adapter_model.safetensors"
const prefix = "base_model.model."
const suffix = ".weight"

/**
 * Reads an adapter from a PEFT folder.
 *
 * With a `model`, its tensors must be exactly those its configuration makes for that model. Fails with a `LoraError`
 * when the folder is no adapter, uses a feature of PEFT that Charter does not compute (named in the error) or belongs
 * to another model; with a `SafetensorsError` when the weight file is damaged.
 */
export const read = Effect.fn("Lora.read")(function* (
  dir: string,
  model?: ModelConfig
): Effect.fn.Return<Adapter, LoraError | Safetensors.SafetensorsError> {
  const configFile = path.join(dir, configName)
  const json = yield* Effect.mapError(
    ModelFile.readJson(configFile),
    ({ file, reason }) => new LoraError({ file, reason })
  )
  if (json === undefined) {
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
  const infos = yield* Safetensors.read(weightsFile)
  const names = new Map<string, Safetensors.TensorInfo>()
  for (const info of infos.tensors.values()) {
    const key = keyOf(info.name, config)
    if (key === undefined) {
      return yield* new LoraError({
        file: weightsFile,
        reason: `holds ${quoted(info.name)}, which is no part of a LoRA that Charter computes; save the adapter without it`
      })
    }
    names.set(key, info)
  }
  const paths = [...names.keys()].filter(isFactor).map((key) => key.slice(0, -".lora_A".length))
  const adaptations = yield* Effect.fromResult(
    Result.mapError(
      LoraTargets.adaptations(config, [...new Set(paths)]),
      (reason) => new LoraError({ file: configFile, reason })
    )
  )
  // Shapes are compared before the data is read, which is as long as the file.
  const problem =
    inconsistency(names, adaptations, taskType) ??
    (model === undefined ? undefined : mismatch(names, model, config, taskType))
  if (problem !== undefined) return yield* new LoraError({ file: dir, reason: problem })

  const order = model === undefined ? [...names.keys()] : [...wantedBy(model, config, taskType).keys()]
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

const isFactor = (key: string): boolean => key.endsWith(".lora_A") || key.endsWith(".lora_B")

/** A tensor's key from its name in PEFT's file; undefined where Charter has no use for it. */
const keyOf = (name: string, { modulesToSave = [] }: LoraConfig): string | undefined => {
  if (!name.startsWith(prefix)) return undefined
  const parameter = name.slice(prefix.length)
  const key = parameter.endsWith(suffix) ? parameter.slice(0, -suffix.length) : parameter
  if (parameter !== key && (key === "score" || isFactor(key))) return key
  return modulesToSave.some((module) => LoraTargets.isOf(module, parameter)) ? parameter : undefined
}

/** A tensor's name in PEFT's file. */
const nameOf = (key: string): string => prefix + key + (key === "score" || isFactor(key) ? suffix : "")

type Infos = ReadonlyMap<string, Safetensors.TensorInfo>

const shapeText = (shape: ReadonlyArray<number>): string => `[${shape.slice(0, 8).join(", ")}]`

/** What is wrong with an adapter by itself. */
const inconsistency = (
  names: Infos,
  adaptations: ReadonlyMap<string, LoraTargets.Adaptation>,
  taskType: TaskType
): string | undefined => {
  for (const [key, { shape }] of names) {
    if (key !== "score" && !isFactor(key)) continue
    const of = `${quoted(key)} of shape ${shapeText(shape)}`
    if (shape.length !== 2) return `holds ${of}, which is no matrix; save it again`
    if (key === "score") continue
    const [side, other] = key.endsWith("A") ? ([0, "B"] as const) : ([1, "A"] as const)
    const { rank } = adaptations.get(key.slice(0, -".lora_A".length))!
    if (shape[side] !== rank) return `holds ${of} though its rank is ${rank}; save it again`
    if (!names.has(key.slice(0, -1) + other)) return `holds ${quoted(key)} without its lora_${other}; save it again`
  }
  const score = names.get("score")
  if (taskType === "SEQ_CLS" && score?.shape[0] !== 1) {
    return 'is a reward model without a score head of one output; save it with modules_to_save ["score"] and one label'
  }
  if (taskType === "CAUSAL_LM" && score !== undefined) {
    return "holds a score head though its task_type is CAUSAL_LM; save it with the task type SEQ_CLS"
  }
  return undefined
}

/** The tensors a model wants of an adapter whose configuration fits it. */
const wantedBy = (model: ModelConfig, config: LoraConfig, taskType: TaskType) =>
  Result.getOrThrow(plan(model, config, taskType)).shapes

/** Why an adapter does not fit a model. */
const mismatch = (names: Infos, model: ModelConfig, config: LoraConfig, taskType: TaskType): string | undefined => {
  const otherModel = "it was made for another model, so give it the base it was trained on"
  const planned = plan(model, config, taskType)
  if (Result.isFailure(planned)) return planned.failure
  const wanted = planned.success.shapes
  for (const [key, shape] of wanted) {
    const found = names.get(key)
    if (found === undefined) return `has no ${key}, which the model needs; ${otherModel}`
    if (found.shape.length !== shape.length || found.shape.some((n, axis) => n !== shape[axis])) {
      return `has ${key} of shape ${shapeText(found.shape)} where the model needs ${shapeText(shape)}; ${otherModel}`
    }
  }
  for (const key of names.keys()) {
    if (!wanted.has(key)) return `has ${quoted(key)}, which the model does not have; ${otherModel}`
  }
  return undefined
}

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
  yield* onDisk(dir, () => fs.mkdir(dir, { recursive: true }))
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
