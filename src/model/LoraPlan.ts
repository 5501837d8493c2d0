/**
 * LoraPlan: which tensors an adapter of a configuration has on a model, and whether those of a file are these.
 */
import { Result } from "effect"
import * as LoraTargets from "./LoraTargets.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import { linears, parameters } from "./ModelConfig.ts"
import { quoted } from "./Quoted.ts"
import type { TensorInfo } from "./Safetensors.ts"
import { shapeText } from "./SafetensorsHeader.ts"

/** What the adapted model is for: to speak, or to give one score (a reward model). */
export type TaskType = "CAUSAL_LM" | "SEQ_CLS"

const embedding = "model.embed_tokens.weight"
const projection = "lm_head.weight"

/** Whether a parameter is one that a model with a score does not have: PEFT saves none, whatever modules_to_save says. */
export const isUnused = (name: string, taskType: TaskType): boolean => taskType === "SEQ_CLS" && name === projection

/**
 * The parameters of a model that an adapter may replace. An output projection that is tied to the embedding has a name
 * of its own here, because an adapter may replace the one and not the other.
 */
const replaceable = (model: ModelConfig): ReadonlyMap<string, ReadonlyArray<number>> =>
  new Map([...parameters(model), [projection, [model.vocabSize, model.hiddenSize]]])

/** What a configuration makes of a model. */
export interface Plan {
  /** Name and shape of every tensor of the adapter, in the model's order, `score` last. */
  readonly shapes: ReadonlyMap<string, ReadonlyArray<number>>
  readonly scales: ReadonlyMap<string, number>
}

/** The plan of a configuration for a model; a failure is the end of a sentence about the configuration. */
export const plan = (
  model: ModelConfig,
  config: LoraTargets.Targets,
  taskType: TaskType
): Result.Result<Plan, string> =>
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
    for (const [name, shape] of LoraTargets.saved(replaceable(model), config.modulesToSave)) {
      if (!isUnused(name, taskType)) shapes.set(name, shape)
    }
    if (taskType === "CAUSAL_LM" && model.tieEmbeddings && shapes.has(embedding) && !shapes.has(projection)) {
      return yield* Result.fail(
        `replaces the embedding but not the output projection that is tied to it; save lm_head, too`
      )
    }
    if (taskType === "SEQ_CLS") shapes.set("score", [1, model.hiddenSize])
    return { shapes, scales: new Map(Array.from(adaptations, ([path, { scale }]) => [path, scale])) }
  })

/** Whether a key is that of a factor of a low-rank change. */
export const isFactor = (key: string): boolean => key.endsWith(".lora_A") || key.endsWith(".lora_B")

type Infos = ReadonlyMap<string, TensorInfo>

/** What is wrong with an adapter by itself. */
export const inconsistency = (
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

/** Why an adapter does not fit a model, for which it needs the tensors of a plan. */
export const mismatch = (names: Infos, { shapes }: Plan): string | undefined => {
  const otherModel = "it was made for another model, so give it the base it was trained on"
  for (const [key, shape] of shapes) {
    const found = names.get(key)
    if (found === undefined) return `has no ${key}, which the model needs; ${otherModel}`
    if (found.shape.length !== shape.length || found.shape.some((n, axis) => n !== shape[axis])) {
      return `has ${key} of shape ${shapeText(found.shape)} where the model needs ${shapeText(shape)}; ${otherModel}`
    }
  }
  for (const key of names.keys()) {
    if (!shapes.has(key)) return `has ${quoted(key)}, which the model does not have; ${otherModel}`
  }
  return undefined
}
