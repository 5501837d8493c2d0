/**
 * LoRA adapters: low-rank changes to a model's linear maps, in PEFT's files.
 *
 * An adapted map computes `y = W x + (alpha / rank) B (A x)` with A [rank, in] and B [out, rank]
 * (https://arxiv.org/abs/2106.09685). A reward model is an adapter with a `score` head [1, hidden] more.
 */
import { Effect, Result, Schema } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Random from "../Random.ts"
import * as AtomicFile from "./AtomicFile.ts"
import * as Checkpoint from "./Checkpoint.ts"
import type { Linear, ModelConfig } from "./ModelConfig.ts"
import { linears } from "./ModelConfig.ts"
import * as PeftConfig from "./PeftConfig.ts"
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

/** How an adapter is made. */
export interface LoraConfig {
  readonly rank: number
  /** The change is scaled by alpha / rank. */
  readonly alpha: number
  /** Which linear maps are adapted: the ends of their names, such as `q_proj`. */
  readonly targets: ReadonlyArray<string>
}

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
   * By name: `model.layers.0.self_attn.q_proj.lora_A` [rank, in] and `.lora_B` [out, rank] for every adapted map, and
   * `score` [1, hidden] where the task type is SEQ_CLS.
   */
  readonly tensors: ReadonlyMap<string, LoraTensor>
}

/** All linear maps of a decoder layer, the usual targets. */
export const allTargets: ReadonlyArray<string> = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj"
]

/** The factor alpha / rank of an adapter's change. */
export const scale = (config: LoraConfig): number => config.alpha / config.rank

/** Whether PEFT adapts a map when `target` is among its target modules. */
const matches = (target: string, linear: Linear): boolean =>
  linear.path === target || linear.path.endsWith(`.${target}`)

/** The linear maps of a model that an adapter changes, in the model's order. */
export const adapted = (model: ModelConfig, config: LoraConfig): Array<Linear> =>
  linears(model).filter((linear) => config.targets.some((target) => matches(target, linear)))

/** Name and shape of every tensor of an adapter, in the model's order, `score` last. */
export const shapes = (
  model: ModelConfig,
  config: LoraConfig,
  taskType: TaskType
): Map<string, ReadonlyArray<number>> => {
  const found = new Map<string, ReadonlyArray<number>>()
  for (const linear of adapted(model, config)) {
    found.set(`${linear.path}.lora_A`, [config.rank, linear.in])
    found.set(`${linear.path}.lora_B`, [linear.out, config.rank])
  }
  if (taskType === "SEQ_CLS") found.set("score", [1, model.hiddenSize])
  return found
}

/**
 * A new adapter, a function of its arguments alone.
 *
 * A is normal with variance 1/in and B zero, so that the adapted model starts as its base; a `score` head, if asked
 * for, is normal with standard deviation 0.02. Fails when rank or alpha is no positive number or a target fits no map.
 */
export const init = (
  model: ModelConfig,
  config: LoraConfig,
  seed: number,
  options?: { readonly score?: boolean }
): Result.Result<Adapter, LoraError> => {
  const fail = (reason: string) => Result.fail(new LoraError({ file: "LoRA configuration", reason }))
  if (!Number.isInteger(config.rank) || config.rank < 1) {
    return fail(`has the rank ${config.rank}; give a whole number from 1 on`)
  }
  if (!Number.isFinite(config.alpha) || config.alpha <= 0) {
    return fail(`has the alpha ${config.alpha}; give a number above 0`)
  }
  const stray = unmatched(model, config)
  if (stray !== undefined) {
    return fail(`has the target ${stray}, which no linear map of the model has; give some of ${allTargets.join(", ")}`)
  }
  if (config.targets.length === 0) {
    return fail(`has no targets; give some of ${allTargets.join(", ")}`)
  }
  const taskType = options?.score === true ? "SEQ_CLS" : "CAUSAL_LM"
  const tensors = new Map<string, LoraTensor>()
  for (const [name, shape] of shapes(model, config, taskType)) {
    const data = new Float32Array(shape[0]! * shape[1]!)
    if (!name.endsWith(".lora_B")) {
      const std = name === "score" ? 0.02 : 1 / Math.sqrt(shape[1]!)
      const random = Random.make(seed, "lora", name)
      for (let i = 0; i < data.length; i++) data[i] = std * random.normal()
    }
    tensors.set(name, { shape, data })
  }
  return Result.succeed({ config, taskType, tensors })
}

const unmatched = (model: ModelConfig, config: LoraConfig): string | undefined => {
  const all = linears(model)
  return config.targets.find((target) => !all.some((linear) => matches(target, linear)))
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
    Checkpoint.readJson(configFile),
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
  const tensors = new Map<string, LoraTensor>()
  for (const info of infos.tensors.values()) {
    const key = keyOf(info.name)
    if (key === undefined) {
      return yield* new LoraError({
        file: weightsFile,
        reason: `holds ${info.name}, which is no part of a LoRA that Charter computes; save the adapter without it`
      })
    }
    tensors.set(key, { shape: info.shape, data: yield* Safetensors.load(info) })
  }
  const adapter: Adapter = { config, taskType, tensors }
  const problem = inconsistency(adapter) ?? (model === undefined ? undefined : mismatch(adapter, model))
  if (problem !== undefined) return yield* new LoraError({ file: dir, reason: problem })
  if (model === undefined) return adapter
  const order = [...shapes(model, config, taskType).keys()]
  return { ...adapter, tensors: new Map(order.map((key) => [key, tensors.get(key)!])) }
})

/** A tensor's key from its name in PEFT's file. */
const keyOf = (name: string): string | undefined => {
  if (!name.startsWith(prefix) || !name.endsWith(suffix)) return undefined
  const key = name.slice(prefix.length, -suffix.length)
  return key === "score" || key.endsWith(".lora_A") || key.endsWith(".lora_B") ? key : undefined
}

/** What is wrong with an adapter by itself. */
const inconsistency = ({ config, taskType, tensors }: Adapter): string | undefined => {
  for (const [key, { shape }] of tensors) {
    if (shape.length !== 2) return `holds ${key} of shape [${shape.join(", ")}], which is no matrix; save it again`
    if (key === "score") continue
    const [side, other] = key.endsWith("A") ? ([0, "B"] as const) : ([1, "A"] as const)
    if (shape[side] !== config.rank) {
      return `holds ${key} of shape [${shape.join(", ")}] though its rank is ${config.rank}; save it again`
    }
    if (!tensors.has(key.slice(0, -1) + other)) return `holds ${key} without its lora_${other}; save it again`
  }
  const score = tensors.get("score")
  if (taskType === "SEQ_CLS" && score?.shape[0] !== 1) {
    return 'is a reward model without a score head of one output; save it with modules_to_save ["score"] and one label'
  }
  if (taskType === "CAUSAL_LM" && score !== undefined) {
    return "holds a score head though its task_type is CAUSAL_LM; save it with the task type SEQ_CLS"
  }
  return undefined
}

/** Why an adapter does not fit a model. */
const mismatch = (adapter: Adapter, model: ModelConfig): string | undefined => {
  const otherModel = "it was made for another model, so give it the base it was trained on"
  const stray = unmatched(model, adapter.config)
  if (stray !== undefined) return `adapts ${stray}, which the model does not have; ${otherModel}`
  const wanted = shapes(model, adapter.config, adapter.taskType)
  for (const [key, shape] of wanted) {
    const found = adapter.tensors.get(key)
    if (found === undefined) return `has no ${key}, which the model needs; ${otherModel}`
    if (found.shape.some((n, axis) => n !== shape[axis])) {
      return `has ${key} of shape [${found.shape.join(", ")}] where the model needs [${shape.join(", ")}]; ${otherModel}`
    }
  }
  for (const key of adapter.tensors.keys()) {
    if (!wanted.has(key)) return `has ${key}, which the model does not have; ${otherModel}`
  }
  return undefined
}

/**
 * Writes an adapter as a PEFT folder that `PeftModel.from_pretrained` loads.
 *
 * `baseModel` is the folder or Hub name of the model it belongs to. Each file is replaced whole, the weights before the
 * configuration, so a new folder with a configuration is complete.
 */
export const write = Effect.fn("Lora.write")(function* (
  dir: string,
  adapter: Adapter,
  baseModel: string
): Effect.fn.Return<void, LoraError | Safetensors.SafetensorsError> {
  yield* onDisk(dir, () => fs.mkdir(dir, { recursive: true }))
  const named = Array.from(adapter.tensors, ([key, tensor]) => ({ name: prefix + key + suffix, ...tensor }))
  yield* Safetensors.write(path.join(dir, weightsName), named)
  const configFile = path.join(dir, configName)
  const json = PeftConfig.toJson({ ...adapter.config, taskType: adapter.taskType }, baseModel)
  yield* onDisk(configFile, () => AtomicFile.writeJson(configFile, json))
})

const onDisk = <A>(file: string, run: () => Promise<A>): Effect.Effect<A, LoraError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new LoraError({ file, reason: `cannot be written: ${cause instanceof Error ? cause.message : String(cause)}` })
  })
