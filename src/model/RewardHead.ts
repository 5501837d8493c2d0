/**
 * RewardHead: the score head of a reward model that is a whole model folder, as transformers has it:
 * `LlamaForSequenceClassification`, with a `score.weight` [1, hidden] beside the network's own tensors.
 */
import { Effect, Schema } from "effect"
import * as path from "node:path"
import type * as Family from "./Family.ts"
import type { LoraTensor } from "./Lora.ts"
import * as ModelFile from "./ModelFile.ts"
import * as Safetensors from "./Safetensors.ts"
import { shapeText } from "./SafetensorsHeader.ts"
import * as ShardIndex from "./ShardIndex.ts"

/** The classes of transformers for such models; what the class that writes is called says less, and may be missing. */
export const architectures: Readonly<Record<Family.Name, string>> = {
  llama: "LlamaForSequenceClassification",
  mistral: "MistralForSequenceClassification",
  ministral: "MinistralForSequenceClassification",
  qwen2: "Qwen2ForSequenceClassification",
  qwen3: "Qwen3ForSequenceClassification",
  gemma3_text: "Gemma3TextForSequenceClassification",
  phi3: "Phi3ForSequenceClassification",
  smollm3: "SmolLM3ForSequenceClassification",
  olmo2: "Olmo2ForSequenceClassification"
}

const isNamed = Schema.is(Schema.Struct({ architectures: Schema.Array(Schema.String) }))

/** The ends of such names, those of other people's code among them, such as `Qwen2ForRewardModel`. */
const ends = /For(Sequence|Token)Classification$|RewardModel$/

/** Whether a parsed `config.json` is that of a model that classifies, and so writes nothing. */
export const classifies = (json: unknown): boolean =>
  isNamed(json) && json.architectures.some((name) => ends.test(name))

/** Whether a folder is a whole model that classifies. */
export const isIn = (dir: string): Effect.Effect<boolean, ModelFile.CheckpointError> =>
  Effect.map(ModelFile.readJson(path.join(dir, "config.json")), classifies)

/** The head of such a folder. */
export const read = Effect.fnUntraced(function* (
  dir: string
): Effect.fn.Return<LoraTensor, ModelFile.CheckpointError | Safetensors.SafetensorsError> {
  const info = (yield* ShardIndex.tensors(dir)).get("score.weight")
  if (info === undefined || info.shape.length !== 2 || info.shape[0] !== 1) {
    const found = info === undefined ? "no score.weight" : `a score.weight of shape ${shapeText(info.shape)}`
    const reason = `has ${found}; a reward model has one of shape [1, hidden]`
    return yield* new ModelFile.CheckpointError({ file: dir, reason })
  }
  return { shape: info.shape, data: yield* Safetensors.load(info) }
})
