/**
 * `charter inspect`: what a model folder or an adapter folder holds, without loading its weights.
 */
import { Console, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { existsSync } from "node:fs"
import { basename, join } from "node:path"
import * as HubCache from "../hub/HubCache.ts"
import * as ChatTemplate from "../model/ChatTemplate.ts"
import * as Checkpoint from "../model/Checkpoint.ts"
import * as Lora from "../model/Lora.ts"
import * as Memory from "../model/Memory.ts"
import * as Model from "./Model.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** The arguments as they were given. */
export interface Input {
  readonly model: string
  readonly adapter: Option.Option<string>
  readonly json: boolean
}

/** What is said of a model; sizes in bytes. */
const describeModel = Effect.fnUntraced(function* (checkpoint: Checkpoint.Checkpoint) {
  const { config, dir, tensors } = checkpoint
  const dtypes: Record<string, number> = {}
  const files = new Map<string, number>()
  for (const { dtype, file, length } of tensors.values()) {
    dtypes[dtype] = (dtypes[dtype] ?? 0) + length
    files.set(file, (files.get(file) ?? 0) + length)
  }
  return {
    name: HubCache.snapshotOf(dir)?.name ?? basename(dir),
    dir,
    family: config.family,
    parameters: Memory.parameterCount(config),
    layers: config.layers,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    heads: config.heads,
    kv_heads: config.kvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    context: config.maxPositions,
    tied_head: config.tieEmbeddings,
    sliding_windows: [...new Set(config.attention.flatMap(({ window }) => window ?? []))],
    dtypes,
    weight_files: files.size,
    tokenizer: existsSync(join(dir, "tokenizer.json")),
    chat_template: Option.isSome(yield* ChatTemplate.load(dir)),
    memory: {
      fp32_weights: Memory.fp32Bytes(config),
      int8_weights: Memory.int8Bytes(checkpoint),
      score_fp32: Memory.scoringBytes(checkpoint, "fp32"),
      score_int8: Memory.scoringBytes(checkpoint, "int8"),
      cache_per_token: Memory.cacheBytesPerToken(config)
    }
  }
})

/** What is said of an adapter. */
const describeAdapter = (dir: string, adapter: Lora.Adapter) => {
  let count = 0
  for (const { data } of adapter.tensors.values()) count += data.length
  const { alpha, rank } = adapter.config
  const names = [...adapter.tensors.keys()]
  return {
    dir,
    task_type: adapter.taskType,
    rank,
    alpha,
    adapted: [...new Set(names.flatMap((name) => /\.([^.]+)\.lora_A$/.exec(name)?.[1] ?? []))],
    whole: names.filter((name) => !/\.lora_[AB]$/.test(name)),
    parameters: count
  }
}

type Model = Effect.Success<ReturnType<typeof describeModel>>
type Adapter = ReturnType<typeof describeAdapter>

/** What there is to say of a folder, which may be an adapter's. */
export const execute = Effect.fn("charter inspect")(function* (input: Input) {
  if (Model.isAdapter(input.model)) {
    if (Option.isSome(input.adapter)) {
      return yield* new UsageError({
        message: `${input.model} is an adapter; give its model's folder with --adapter, or the adapter alone.`
      })
    }
    const alone = yield* Effect.mapError(Lora.read(input.model), fromInput)
    return { model: null, adapter: describeAdapter(input.model, alone) }
  }
  const checkpoint = yield* Model.openAny(input.model)
  const model = yield* Effect.mapError(describeModel(checkpoint), fromInput)
  const adapter = Option.isNone(input.adapter)
    ? null
    : describeAdapter(input.adapter.value, yield* Model.adapter(input.adapter.value, checkpoint))
  return { model, adapter }
})

const count = (n: number): string => n.toLocaleString("en-US")

/** 269,060,280 bytes as `269 MB`. */
const bytes = (n: number): string => {
  const [divisor, unit] = n >= 1e9 ? [1e9, "GB"] : n >= 1e6 ? [1e6, "MB"] : [1e3, "kB"]
  const scaled = n / divisor
  return `${scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${unit}`
}

const modelLines = (model: Model): ReadonlyArray<readonly [string, string]> => {
  const { memory } = model
  const windows = model.sliding_windows.map(count).join(", ")
  const stored = Object.entries(model.dtypes).map(([dtype, size]) => `${bytes(size)} of ${dtype}`)
  const files = model.weight_files === 1 ? "one file" : `${model.weight_files} files`
  return [
    ["model", `${model.name} (${model.dir})`],
    ["family", model.family],
    ["parameters", count(model.parameters)],
    [
      "layers",
      `${model.layers} of width ${count(model.hidden_size)}, feed-forward ${count(model.intermediate_size)}, ${model.heads} heads and ${model.kv_heads} key-value heads of ${model.head_dim}`
    ],
    ["vocabulary", `${count(model.vocab_size)}, ${model.tied_head ? "head tied to the embedding" : "head of its own"}`],
    ["context", `${count(model.context)} tokens${windows === "" ? "" : `, sliding windows of ${windows}`}`],
    ["weights", `${stored.join(", ")} in ${files}`],
    [
      "text",
      `${model.tokenizer ? "a tokenizer" : "no tokenizer: rows of input_ids only"}, ${model.chat_template ? "a chat template" : "no chat template"}`
    ],
    [
      "memory",
      `about ${bytes(memory.score_fp32)} to score, ${bytes(memory.score_int8)} in int8; weights of ${bytes(memory.fp32_weights)} in fp32 to generate or learn, and ${bytes(memory.cache_per_token)} for each token under way`
    ]
  ]
}

const adapterLines = (adapter: Adapter): ReadonlyArray<readonly [string, string]> => [
  ["adapter", `${adapter.task_type === "SEQ_CLS" ? "a reward model" : "a language model"} (${adapter.dir})`],
  ["rank", `${adapter.rank}, alpha ${adapter.alpha}, ${count(adapter.parameters)} parameters`],
  ["adapted", adapter.adapted.join(", ")],
  ...(adapter.whole.length === 0 ? [] : [["whole", adapter.whole.join(", ")] as const])
]

const words = ({ adapter, model }: { readonly model: Model | null; readonly adapter: Adapter | null }): string =>
  [...(model === null ? [] : modelLines(model)), ...(adapter === null ? [] : adapterLines(adapter))]
    .map(([name, value]) => `${name.padEnd(12)}${value}`)
    .join("\n")

const flags = {
  model: Argument.String("model").pipe(
    Argument.withDescription("A Hugging Face model folder, or the folder of a PEFT adapter")
  ),
  adapter: Flag.String("adapter").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A PEFT adapter for the model"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription("As JSON, sizes in bytes"), Flag.withDefault(false))
}

/** `charter inspect`. */
export const command = Command.make(
  "inspect",
  flags,
  Effect.fnUntraced(function* (input: Input) {
    const found = yield* execute(input)
    yield* Console.log(input.json ? JSON.stringify({ ...found.model, adapter: found.adapter }, null, 2) : words(found))
  })
).pipe(
  Command.withDescription("What a model folder holds: family, sizes, dtypes, context, adapter, memory"),
  Command.withExamples([
    { command: "charter inspect ./SmolLM2-135M-Instruct", description: "A table" },
    {
      command: "charter inspect ./SmolLM2-135M-Instruct --adapter runs/first/policy/adapter --json",
      description: "Model and adapter as JSON"
    }
  ])
)
