/**
 * TrainModel: what a training changes, an adapter over the model or all of its parameters, from its start to its file.
 */
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Adapters from "../engine/Adapters.ts"
import * as Trainables from "../engine/Trainables.ts"
import * as AtomicFile from "../model/AtomicFile.ts"
import * as ChatTemplate from "../model/ChatTemplate.ts"
import * as Checkpoint from "../model/Checkpoint.ts"
import * as Finite from "../model/Finite.ts"
import * as Lora from "../model/Lora.ts"
import * as ModelConfig from "../model/ModelConfig.ts"
import * as ModelFile from "../model/ModelFile.ts"
import * as RewardHead from "../model/RewardHead.ts"
import * as Safetensors from "../model/Safetensors.ts"
import * as Folder from "../Folder.ts"
import * as Random from "../Random.ts"
import * as Atomic from "../recipes/Atomic.ts"
import { failed } from "../recipes/RunError.ts"
import * as Attempt from "./Attempt.ts"
import * as Model from "./Model.ts"
import * as SameTokens from "./SameTokens.ts"
import * as TrainFolder from "./TrainFolder.ts"
import type * as TrainSettings from "./TrainSettings.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** What begins a training. */
export interface Start {
  readonly checkpoint: Checkpoint.Checkpoint
  /** A PEFT folder to go on from. */
  readonly adapter: string | undefined
  /** What was asked for of an adapter. */
  readonly asked: TrainSettings.Asked
  readonly lora: TrainSettings.NewAdapter | null
  readonly seed: number
  readonly head: "none" | "score" | "value"
}

/** Targets in an order of their own; PEFT's patterns are texts. */
const named = (targets: string | ReadonlyArray<string>): string =>
  typeof targets === "string" ? targets : targets.toSorted().join(",")

/** The adapter of a folder, which has to be what was asked for. */
export const read = Effect.fnUntraced(function* (
  dir: string,
  checkpoint: Checkpoint.Checkpoint,
  { alpha, rank, targets }: TrainSettings.Asked = {}
) {
  const adapter = yield* Model.adapter(dir, checkpoint)
  const { config } = adapter
  const wanted = [
    ["rank", "--lora-rank", config.rank, rank],
    ["alpha", "--lora-alpha", config.alpha, alpha],
    ["targets", "--lora-targets", named(config.targets), targets === undefined ? undefined : named(targets)]
  ] as const
  for (const [name, flag, has, says] of wanted) {
    if (says === undefined || says === has) continue
    return yield* new UsageError({
      message: `${dir} has the ${name} ${has} and ${flag} says ${says}; leave out ${flag} to go on with that adapter.`
    })
  }
  return adapter
})

/** A reward model that is an adapter over the policy's model, or a whole model of the same tokens. */
export const judge = Effect.fnUntraced(function* (dir: string, checkpoint: Checkpoint.Checkpoint) {
  const whole = yield* Effect.mapError(RewardHead.isIn(dir), fromInput)
  const own = whole ? yield* Effect.mapError(Checkpoint.open(dir), fromInput) : checkpoint
  if (
    own.config.vocabSize !== checkpoint.config.vocabSize ||
    own.config.maxPositions < checkpoint.config.maxPositions
  ) {
    return yield* new UsageError({
      message: `${dir} reads ${own.config.maxPositions} tokens of a vocabulary of ${own.config.vocabSize}, and the policy writes ${checkpoint.config.maxPositions} of ${checkpoint.config.vocabSize}; train the reward model from ${checkpoint.dir}.`
    })
  }
  const token = whole ? yield* Effect.mapError(SameTokens.difference(checkpoint.dir, own.dir), fromInput) : undefined
  if (token !== undefined) {
    return yield* new UsageError({
      message: `${dir} has another tokenizer than the policy, which writes ${JSON.stringify(token)}; train the reward model from ${checkpoint.dir}.`
    })
  }
  if (whole) yield* Effect.mapError(Finite.check(own), fromInput)
  const lora = whole ? yield* Effect.mapError(Lora.read(dir, own.config), fromInput) : yield* read(dir, checkpoint)
  if (lora.taskType !== "SEQ_CLS") {
    return yield* new UsageError({
      message: `${dir} is no reward model; give the folder that charter train reward made over ${checkpoint.dir}.`
    })
  }
  return { checkpoint: own, adapter: Adapters.fromLora(lora, own.config) }
})

/**
 * All parameters as an adapter that replaces the model's own, with a head where one is asked for: that of the folder,
 * if it is a reward model already, or a new one.
 */
const whole = Effect.fnUntraced(function* ({ checkpoint, head, seed }: Start) {
  const tensors = new Map<string, Lora.LoraTensor>()
  for (const [name, shape] of ModelConfig.parameters(checkpoint.config)) {
    const data = yield* Effect.mapError(Safetensors.load(checkpoint.tensors.get(name)!), fromInput)
    tensors.set(name, { shape, data })
  }
  if (head === "score") {
    const own = yield* Effect.mapError(Lora.wholeReward(checkpoint.dir, checkpoint.config), fromInput)
    tensors.set("score", own?.tensors.get("score") ?? Lora.scoreHead(checkpoint.config, seed))
  }
  const taskType = head === "score" ? ("SEQ_CLS" as const) : ("CAUSAL_LM" as const)
  return { config: Lora.nothing, taskType, tensors, scales: new Map<string, number>() } satisfies Lora.Adapter
})

const adapted = Effect.fnUntraced(function* (start: Start, { alpha, rank, targets }: TrainSettings.NewAdapter) {
  const { adapter, checkpoint, head, seed } = start
  const score = head === "score"
  if (adapter === undefined) {
    const config = { rank, alpha, targets: targets ?? Lora.allTargets(checkpoint.config) }
    return yield* Effect.mapError(Effect.fromResult(Lora.init(checkpoint.config, config, seed, { score })), fromInput)
  }
  const found = yield* read(adapter, checkpoint, start.asked)
  if (score) return Lora.withScore(found, checkpoint.config, seed)
  if (found.taskType === "SEQ_CLS") {
    return yield* new UsageError({ message: `${adapter} is a reward model; give the adapter of a policy.` })
  }
  return found
})

/** What is to be trained, in its first state: a function of the start alone. */
export const begin = Effect.fnUntraced(function* (start: Start) {
  const seeded = { ...start, seed: Random.hash(start.seed, "adapter") }
  const lora = yield* start.lora === null ? whole(seeded) : adapted(seeded, start.lora)
  return Adapters.fromLora(lora, start.checkpoint.config, { value: start.head === "value" })
})

/** What an adapter is, for the record of a training. */
export const described = ({ config: { alpha, rank, targets } }: Adapters.Adapter) => ({ rank, alpha, targets })

/** The factors of an adapter's maps, which follow from more than its rank and alpha; what else it is, is in its numbers. */
export const scales = ({ scales }: Adapters.Adapter): string =>
  TrainFolder.digest(
    Float32Array.from(
      [...scales.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)),
      ([, x]) => x
    )
  )

/** Files of a model folder that a model trained as a whole takes along. */
const companions = [
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  ...Object.values(ChatTemplate.files),
  "vocab.json",
  "merges.txt",
  "tokenizer.model"
]

/**
 * Keys of a config.json that a model trained as a whole does not have: its type is another one under its new name, and
 * the code that `auto_map` names is not taken along. Transformers has classes of its own for every family.
 */
const dropped = ["torch_dtype", "auto_map"]

/**
 * Copies a file as a whole, but not its mode: a training that was stopped while it saved, and is continued, could not
 * write again to the copy of a read-only file.
 */
const copy = Effect.fnUntraced(function* (from: string, to: string) {
  const bytes = yield* Attempt.read(from, () => readFileSync(from))
  yield* Effect.tryPromise({
    try: () => AtomicFile.write(to, [bytes]),
    catch: (cause) => failed(`${to} cannot be written: ${Atomic.reasonOf(cause)}.`)
  })
})

/** Writes a PEFT folder, or a whole model folder where all parameters were trained. */
export const save = Effect.fnUntraced(function* (
  dir: string,
  checkpoint: Checkpoint.Checkpoint,
  adapter: Adapters.Adapter
) {
  if (adapter.config !== Lora.nothing) return yield* Lora.write(dir, Adapters.toLora(adapter), checkpoint.dir)
  const views = Trainables.views(adapter.layout, adapter.vector)
  const text = readFileSync(join(checkpoint.dir, "config.json"), "utf8")
  const json = ModelFile.parseVerbatim(text) as Record<string, unknown>
  const reward = adapter.taskType === "SEQ_CLS"
  // A score is read off the hidden states: a model that has one has no output projection of its own.
  const left = reward ? ["value_head", "lm_head.weight"] : ["value_head"]
  const config = Object.fromEntries(Object.entries(json).filter(([name]) => !dropped.includes(name)))
  for (const name of companions) {
    const from = join(checkpoint.dir, name)
    if (!existsSync(from)) continue
    const to = join(dir, name)
    yield* Attempt.write(to, () => Folder.makeUnsafe(dirname(to)))
    yield* copy(from, to)
  }
  yield* Checkpoint.writeModel(
    dir,
    {
      ...config,
      // The file may call a model tied that is not.
      tie_word_embeddings: checkpoint.config.tieEmbeddings,
      dtype: "float32",
      ...(reward ? classifier(JSON.parse(text).pad_token_id, checkpoint) : {})
    },
    adapter.layout.entries
      .filter((e) => !left.includes(e.name))
      .map((e) => ({ name: e.name === "score" ? "score.weight" : e.name, shape: e.shape, data: views.get(e.name)! })),
    "F32"
  )
})

/**
 * A model with one score, as transformers has it: LlamaForSequenceClassification. It reads the score on the last token
 * that is no padding, so a token that ends answers must not be called that.
 */
const classifier = (pad: number | undefined, { config, eosTokenIds, padTokenId }: Checkpoint.Checkpoint) => ({
  architectures: [RewardHead.architectures[config.family]],
  num_labels: 1,
  id2label: { "0": "LABEL_0" },
  label2id: { LABEL_0: 0 },
  ...(eosTokenIds.some((id) => id === pad || id === padTokenId) ? { pad_token_id: null } : {})
})
