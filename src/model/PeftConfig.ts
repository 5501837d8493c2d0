/**
 * PEFT's `adapter_config.json`.
 *
 * PEFT keeps adding features, each with a key of its own. A feature that is off is ignored; one that is on and that
 * Charter does not compute is refused by its name, because ignoring it would compute another model.
 */
import { Predicate, Result, Schema } from "effect"
import type { Targets } from "./LoraTargets.ts"
import { quotedJson, reason } from "./Quoted.ts"

/** What Charter needs of it. */
export interface PeftConfig extends Targets {
  readonly taskType: "CAUSAL_LM" | "SEQ_CLS"
}

const Rank = Schema.Int.check(Schema.isGreaterThan(0))
const Alpha = Schema.Finite.check(Schema.isGreaterThan(0))
const maybe = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const Json = Schema.Struct({
  peft_type: Schema.String,
  task_type: Schema.optionalKey(Schema.NullOr(Schema.String)),
  r: Rank,
  lora_alpha: Alpha,
  target_modules: Schema.Union([Schema.String, Schema.Array(Schema.String)]),
  bias: Schema.optionalKey(Schema.String),
  init_lora_weights: Schema.optionalKey(Schema.Union([Schema.Boolean, Schema.String])),
  modules_to_save: maybe(Schema.Array(Schema.String)),
  rank_pattern: maybe(Schema.Record(Schema.String, Rank)),
  alpha_pattern: maybe(Schema.Record(Schema.String, Alpha)),
  use_rslora: maybe(Schema.Boolean)
})
const decode = Schema.decodeUnknownResult(Json)

/** Keys that change what an adapter computes or which modules it has, unless null, false or empty. */
const features = [
  "use_dora",
  "use_qalora",
  "use_bdlora",
  "fan_in_fan_out",
  "lora_bias",
  "layers_to_transform",
  "layers_pattern",
  "layer_replication",
  "exclude_modules",
  "ensure_weight_tying",
  "target_parameters",
  "trainable_token_indices",
  "alora_invocation_tokens",
  "arrow_config",
  "kasa_config",
  "monteclora_config",
  "velora_config",
  "megatron_config"
]

/** Ways to start an adapter that leave the base as it is. The others subtract from it what they put into the adapter. */
const plainInits: ReadonlyArray<unknown> = [undefined, true, false, "gaussian", "eva", "orthogonal"]

/** The heads PEFT names by itself for SEQ_CLS; only one that exists is saved. */
const heads = ["score", "classifier"]

const isOff = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  (Predicate.isObjectOrArray(value) && Object.keys(value).length === 0)

/** Reads a parsed `adapter_config.json`; a failure is the end of a sentence that starts with the file's name. */
export const fromJson = (json: unknown): Result.Result<PeftConfig, string> => {
  // Another kind of adapter lacks LoRA's keys, so its kind is looked at first.
  if (Predicate.hasProperty(json, "peft_type") && json.peft_type !== "LORA") {
    return Result.fail(`is of the peft_type ${quotedJson(json.peft_type)}; Charter reads LORA`)
  }
  const decoded = decode(json)
  if (Result.isFailure(decoded)) {
    return Result.fail(`does not describe a LoRA: ${reason(decoded.failure)}; save the adapter again`)
  }
  const found = decoded.success
  const keys = json as Readonly<Record<string, unknown>>
  const refuse = (key: string) =>
    Result.fail(`uses ${key} (${quotedJson(keys[key])}), which Charter does not compute; train the adapter without it`)
  const feature = features.find((key) => !isOff(keys[key]))
  if (feature !== undefined) return refuse(feature)
  if ((found.bias ?? "none") !== "none") return refuse("bias")
  if (!plainInits.includes(found.init_lora_weights)) return refuse("init_lora_weights")
  const taskType = found.task_type ?? "CAUSAL_LM"
  if (taskType !== "CAUSAL_LM" && taskType !== "SEQ_CLS") return refuse("task_type")
  const modulesToSave = (found.modules_to_save ?? []).filter((m) => taskType !== "SEQ_CLS" || !heads.includes(m))
  if (modulesToSave.includes("")) return refuse("modules_to_save")
  return Result.succeed({
    rank: found.r,
    alpha: found.lora_alpha,
    targets: found.target_modules,
    taskType,
    ...(isOff(found.rank_pattern) ? {} : { rankPattern: found.rank_pattern! }),
    ...(isOff(found.alpha_pattern) ? {} : { alphaPattern: found.alpha_pattern! }),
    ...(modulesToSave.length === 0 ? {} : { modulesToSave }),
    ...(found.use_rslora === true ? { rsLora: true } : {})
  })
}

/** The `adapter_config.json` of an adapter, with the keys every PEFT since 0.9 understands. */
export const toJson = (config: PeftConfig, base: { readonly name: string; readonly revision: string | null }) => ({
  alpha_pattern: config.alphaPattern ?? {},
  auto_mapping: null,
  base_model_name_or_path: base.name,
  bias: "none",
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  lora_alpha: config.alpha,
  lora_dropout: 0,
  modules_to_save: modulesOf(config),
  peft_type: "LORA",
  r: config.rank,
  rank_pattern: config.rankPattern ?? {},
  revision: base.revision,
  target_modules: config.targets,
  task_type: config.taskType,
  use_dora: false,
  use_rslora: config.rsLora ?? false
})

const modulesOf = ({ modulesToSave = [], taskType }: PeftConfig): ReadonlyArray<string> | null => {
  const modules = taskType === "SEQ_CLS" ? ["score", ...modulesToSave] : modulesToSave
  return modules.length === 0 ? null : modules
}
