/**
 * PEFT's `adapter_config.json`.
 *
 * PEFT keeps adding features, each with a key of its own. A feature that is off is ignored; one that is on and that
 * Charter does not compute is refused by its name, because ignoring it would compute another model.
 */
import { Predicate, Result, Schema } from "effect"

/** What Charter needs of it. */
export interface PeftConfig {
  readonly rank: number
  readonly alpha: number
  readonly targets: ReadonlyArray<string>
  readonly taskType: "CAUSAL_LM" | "SEQ_CLS"
}

const Json = Schema.Struct({
  peft_type: Schema.String,
  task_type: Schema.optionalKey(Schema.NullOr(Schema.String)),
  r: Schema.Int.check(Schema.isGreaterThan(0)),
  lora_alpha: Schema.Finite.check(Schema.isGreaterThan(0)),
  target_modules: Schema.Union([Schema.String, Schema.Array(Schema.String)]),
  bias: Schema.optionalKey(Schema.String),
  init_lora_weights: Schema.optionalKey(Schema.Union([Schema.Boolean, Schema.String])),
  modules_to_save: Schema.optionalKey(Schema.NullOr(Schema.Array(Schema.String)))
})
const decode = Schema.decodeUnknownResult(Json)

/** Keys that change what an adapter computes or which modules it has, unless null, false or empty. */
const features = [
  "use_dora",
  "use_rslora",
  "use_qalora",
  "use_bdlora",
  "rank_pattern",
  "alpha_pattern",
  "fan_in_fan_out",
  "lora_bias",
  "layers_to_transform",
  "layers_pattern",
  "layer_replication",
  "exclude_modules",
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
    return Result.fail(`is of the peft_type ${String(json.peft_type)}; Charter reads LORA`)
  }
  const decoded = decode(json)
  if (Result.isFailure(decoded)) {
    return Result.fail(
      `does not describe a LoRA: ${decoded.failure.message.replace(/\s+/g, " ")}; save the adapter again`
    )
  }
  const found = decoded.success
  const keys = json as Readonly<Record<string, unknown>>
  const refuse = (key: string) =>
    Result.fail(
      `uses ${key} (${JSON.stringify(keys[key])}), which Charter does not compute; train the adapter without it`
    )
  const feature = features.find((key) => !isOff(keys[key]))
  if (feature !== undefined) return refuse(feature)
  if ((found.bias ?? "none") !== "none") return refuse("bias")
  if (!plainInits.includes(found.init_lora_weights)) return refuse("init_lora_weights")
  const taskType = found.task_type ?? "CAUSAL_LM"
  if (taskType !== "CAUSAL_LM" && taskType !== "SEQ_CLS") return refuse("task_type")
  const allowed = taskType === "SEQ_CLS" ? heads : []
  if (found.modules_to_save?.some((module) => !allowed.includes(module))) return refuse("modules_to_save")
  if (typeof found.target_modules === "string") {
    return Result.fail("has a pattern for target_modules; replace it by the list of the modules' names")
  }
  return Result.succeed({ rank: found.r, alpha: found.lora_alpha, targets: found.target_modules, taskType })
}

/** The `adapter_config.json` of an adapter, with the keys every PEFT since 0.9 understands. */
export const toJson = (config: PeftConfig, baseModel: string) => ({
  alpha_pattern: {},
  auto_mapping: null,
  base_model_name_or_path: baseModel,
  bias: "none",
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  lora_alpha: config.alpha,
  lora_dropout: 0,
  modules_to_save: config.taskType === "SEQ_CLS" ? ["score"] : null,
  peft_type: "LORA",
  r: config.rank,
  rank_pattern: {},
  revision: null,
  target_modules: config.targets,
  task_type: config.taskType,
  use_dora: false,
  use_rslora: false
})
